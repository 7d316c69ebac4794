"""Where nothing is promised: the batch from which more requests at once bring no more tokens a second."""

from __future__ import annotations

from collections.abc import Sequence

from headway.tune.observation import Observation, Verdict
from headway.tune.search import Found, Limits, Outcome, Probe, Step

GAIN = 0.05
"""More throughput than this is worth twice the batch."""


class Saturation:
    """The same verbs as ``Search``. Doubles while that pays; the point is the smallest batch near the best."""

    def __init__(self, limits: Limits, *, first: int = 1) -> None:
        self.targets: dict[str, float] = {}
        self.steps: list[Step] = []
        self._limits = limits
        self._load = float(first)
        self._is_over = False
        self._stopped: str | None = None

    def next(self) -> Probe | None:
        if self._is_over or self._stopped or len(self.steps) >= self._limits.probes:
            return None
        return Probe(
            load=self._load, samples=self._limits.samples, why="twice as many" if self.steps else "the baseline"
        )

    def tell(self, probe: Probe, observation: Observation) -> Verdict:
        verdict = Verdict.VOID if observation.void is not None else Verdict.PASS
        before = self._valid()
        self.steps.append(Step(probe=probe, observation=observation, verdict=verdict))
        if verdict is Verdict.VOID:
            self.stop(observation.void or "")
            return verdict
        best = max((step.observation.throughput for step in before), default=0.0)
        self._is_over = observation.throughput < best * (1.0 + GAIN) or probe.load >= self._limits.most
        self._load = min(2 * probe.load, self._limits.most)
        return verdict

    def stop(self, reason: str) -> None:
        self._stopped = self._stopped or reason

    def _valid(self) -> Sequence[Step]:
        return [step for step in self.steps if step.verdict is not Verdict.VOID]

    def outcome(self) -> Outcome:
        valid = self._valid()
        best = max((step.observation.throughput for step in valid), default=0.0)
        enough = [step.probe.load for step in valid if step.observation.throughput * (1.0 + GAIN) >= best]
        load = min(enough, default=None)
        if self._stopped is not None or load is None:
            found = Found.CUT
        else:
            found = Found.POINT if self._is_over and load < self._limits.most else Found.OPEN
        return Outcome(
            found=found, load=load, low=load, high=None, crossing=None, part="throughput", reason=self._stopped
        )
