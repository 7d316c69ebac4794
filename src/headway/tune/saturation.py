"""Where nothing is promised: the batch from which more requests at once bring no more tokens a second."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from headway.tune.observation import Observation, Verdict
from headway.tune.probe import VOID_MAX, Found, Limits, Outcome, Probe, Step

GAIN = 0.05
"""More throughput than this is worth twice the batch."""


THROUGHPUT = "throughput"
"""The part of an outcome without a promise."""


class Saturation:
    """The same verbs as ``Search``. Doubles while that pays; the point is the smallest batch near the best."""

    def __init__(self, limits: Limits, *, first: int = 1) -> None:
        self.targets: dict[str, float] = {}
        self.steps: list[Step] = []
        self._limits = limits
        self._load = float(first)
        self._is_over = False
        self._voids = 0
        self._is_client_bound = self._is_refused = False
        self._stopped: str | None = None

    def next(self) -> Probe | None:
        if self._is_over or self._stopped or len(self.steps) >= self._limits.probes:
            return None
        if self.steps and self.steps[-1].verdict is Verdict.VOID:
            return replace(self.steps[-1].probe, why="once more: the last one does not count")
        why = "twice as many" if self.steps else "the baseline"
        return Probe(load=self._load, samples=self._limits.samples, why=why)

    def tell(self, probe: Probe, observation: Observation) -> Verdict:
        """What is void says nothing of its load: that is tried once more, and then the search ends below it."""
        verdict = Verdict.VOID if observation.void is not None else Verdict.PASS
        best = self._best()
        self.steps.append(Step(probe=probe, observation=observation, verdict=verdict))
        if verdict is Verdict.VOID:
            self._voids += 1
            if self._voids >= VOID_MAX:
                self._is_client_bound = observation.is_client_bound
                self.stop(observation.void or "")
            return verdict
        self._is_over = observation.throughput < best * (1.0 + GAIN) or probe.load >= self._limits.most
        self._load = min(2 * probe.load, self._limits.most)
        return verdict

    def refuse(self, load: float, reason: str) -> None:
        """The server can't be set to ``load``, which ends the search below it."""
        self._is_refused = True
        self.stop(reason)

    def stop(self, reason: str) -> None:
        self._stopped = self._stopped or reason

    def _valid(self) -> Sequence[Step]:
        return [step for step in self.steps if step.verdict is not Verdict.VOID]

    def _best(self) -> float:
        return max((step.observation.throughput for step in self._valid()), default=0.0)

    def outcome(self) -> Outcome:
        best = self._best()
        enough = [step.probe.load for step in self._valid() if step.observation.throughput * (1.0 + GAIN) >= best]
        load = min(enough, default=None)
        if load is not None and (self._is_client_bound or self._is_refused):
            found = Found.CLIENT if self._is_client_bound else Found.SERVER
        elif load is None or not self._is_over:
            found = Found.CUT
        else:
            found = Found.POINT if load < self._limits.most else Found.OPEN
        return Outcome(
            found=found, load=load, low=load, high=None, crossing=None, part=THROUGHPUT, reason=self._stopped
        )
