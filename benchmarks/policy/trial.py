"""One setting at one rate, and the largest rate at which it keeps its promises.

Every rate offers the same calls in the same order (so many of them, their times stretched), so two rates and two
settings differ in nothing else. The figures are of the calls of the middle: by then as many answers are under way as
ever will be.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice, takewhile

from benchmarks.policy.outcome import Outcome, promised_names
from benchmarks.policy.setting import Case, Setting
from headway.policy.plan import ExecutorInfo
from headway.policy.scheduler import Scheduler
from headway.policy.slo import TARGET_ATTAINMENT
from headway.policy.stepshape import StepShape
from headway.sim.arrivals import Steady
from headway.sim.capacity import capacity
from headway.sim.result import Result, Window
from headway.sim.run import simulate

WINDOW = (0.4, 0.98)
"""Shares of a run's time between which a call must come to be counted."""
LEAST_SHARE = 1 / 16
"""Rates below this share of the estimate count as not kept, without being tried."""
TOLERANCE = 0.02
LOOK_EVERY_CALLS = 16
ESTIMATE_STEP_TOKENS = 2048
ESTIMATE_DECODES = 64
ESTIMATE_CALLS = 500


@dataclass(frozen=True, slots=True)
class Scale:
    """How long runs are: so many calls, and at least as many as come in so many seconds at the machine's estimate.

    An answer is under way for half a minute where ITL is at its limit, and only after that is a load as heavy as it
    will be: shorter runs flatter whoever lets in the most.
    """

    calls: int
    seconds: float
    seeds: tuple[int, ...]

    def calls_of(self, case: Case) -> int:
        return max(self.calls, round(self.seconds * estimate(case)))


FULL = Scale(calls=700, seconds=90.0, seeds=(1,))
QUICK = Scale(calls=400, seconds=40.0, seeds=(1,))


class TooManyLate(Exception):
    """More calls were late than the target allows: a run need not go on."""


class Trials:
    """One setting in one case."""

    def __init__(self, case: Case, setting: Setting, scale: Scale) -> None:
        self.workload = case.tailored()
        self.hardware = case.machine
        self.maker = setting.maker(self.hardware, self.workload)
        self._calls = scale.calls_of(case)
        self._promised = promised_names(self.workload)
        self._tried: dict[float, float] = {}
        self._offered = {seed: self._count(seed) for seed in scale.seeds}
        if not all(self._offered.values()):
            raise ValueError(f"of {self._calls} calls none comes in the window of the run: it must be longer")

    def outcome(self, rate: float) -> Outcome:
        return Outcome.of([self.run(rate, seed) for seed in self._offered], self._promised)

    def attainment(self, rate: float) -> float:
        """That of ``outcome``; or 0 as soon as it is certain to be below the target. Every rate is tried once."""
        if rate not in self._tried:
            self._tried[rate] = self._attainment(rate)
        return self._tried[rate]

    def _attainment(self, rate: float) -> float:
        offered = sum(self._offered.values())
        missed, may_miss = 0, (1.0 - TARGET_ATTAINMENT) * offered
        for seed in self._offered:
            try:
                outcome = Outcome.of([self.run(rate, seed, may_miss - missed)], self._promised)
            except TooManyLate:
                return 0.0
            missed += outcome.offered - outcome.in_slo
        return 1.0 - missed / offered

    def holds(self, rate: float) -> bool:
        return self.attainment(rate) >= TARGET_ATTAINMENT

    def capacity(self, low: float, high: float, least: float) -> float:
        """The largest rate that is kept, looked for between ``low`` and ``high`` first, and not below ``least``."""
        found = capacity(lambda rate: self.attainment(rate) if rate >= least else 0.0, low, high, tolerance=TOLERANCE)
        return found.rate

    def run(self, rate: float, seed: int, may_miss: float | None = None) -> Result:
        """Raises ``TooManyLate`` once more than ``may_miss`` calls of the window are late."""
        window = _window(self._calls / rate)
        watch = None if may_miss is None else _Watch(window, may_miss, self._promised)

        def make(info: ExecutorInfo) -> Scheduler:
            scheduler = self.maker(info)
            if watch is not None:
                watch.scheduler = scheduler
            return scheduler

        return simulate(
            self.workload,
            self.hardware,
            make,
            rate=rate,
            seconds=self._calls / rate,
            seed=seed,
            window=window,
            keep_gaps=False,
            on_progress=None if watch is None else watch.at,
        )

    def _count(self, seed: int) -> int:
        """Calls of the window: as many at any rate."""
        window = _window(float(self._calls))
        calls = takewhile(lambda call: call.at_s < window.end_s, self.workload.calls(Steady(1.0), seed))
        return sum(window.holds(call.at_s) for call in calls)


class _Watch:
    """Ends a run once more calls of the window are late than may be. It may see too few of them, never too many."""

    def __init__(self, window: Window, may_miss: float, promised: frozenset[str]) -> None:
        self.scheduler: Scheduler | None = None
        self._window = window
        self._may_miss = may_miss
        self._promised = promised
        self._before: int | None = None
        self._calls = 0

    def at(self, now: float) -> None:
        if self.scheduler is None or not self._window.holds(now):
            return
        self._calls += 1
        if self._before is not None and self._calls % LOOK_EVERY_CALLS:
            return
        counters = [self.scheduler.ledger.of(name) for name in self._promised]
        missed = sum(each.refused + each.shed + each.demoted + each.late + each.unfinished for each in counters)
        here = [each for each in self.scheduler.requests.values() if each.spec.service_class in self._promised]
        if self._before is None:  # whoever is here came before the window
            self._before = missed + len(here)
        late = sum((now if each.first_token_s is None else each.first_token_s) > each.due_s for each in here)
        if missed + late - self._before > self._may_miss:
            raise TooManyLate


def estimate(case: Case) -> float:
    """About what the machine can do, in requests a second: full steps for prompts, many decodes at once."""
    machine, workload = case.machine, case.tailored()
    sizes = [call.size for call in islice(workload.calls(Steady(1.0), 0), ESTIMATE_CALLS)]
    prompt = sum(size.prompt_tokens for size in sizes) / len(sizes)
    output = sum(size.output_tokens for size in sizes) / len(sizes)
    full_s = machine.step_s(StepShape(ESTIMATE_STEP_TOKENS, 1, 0, 0.0)) / ESTIMATE_STEP_TOKENS
    context = int(ESTIMATE_DECODES * prompt)
    decode_s = machine.step_s(StepShape(ESTIMATE_DECODES, ESTIMATE_DECODES, context, 0.0)) / ESTIMATE_DECODES
    return 1.0 / (full_s * prompt + decode_s * output)


def _window(seconds: float) -> Window:
    return Window(WINDOW[0] * seconds, WINDOW[1] * seconds)
