"""What the server measures about itself.

TTFT runs from the last byte of the request to the first token written out; ITL is the gap between two tokens of one
stream as written out (when several go out in one write, the first has the gap and the others none); end to end is from
the last byte of the request to the last token. Label values come from closed sets, whatever clients send.

All ``record_`` methods are called on the event loop.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from headway.policy.objectives import PARTS
from headway.policy.slo import ServiceClasses
from headway.serve.attainment import SloOutcome, slo_outcome
from headway.serve.choices import Choice
from headway.serve.histogram import Histogram
from headway.serve.reply import Reply
from headway.serve.window import WINDOW_S, Count, Window

_GAP_BOUNDS = (
    *(0.001, 0.0025, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.075, 0.1, 0.125, 0.15, 0.2, 0.3),
    *(0.5, 0.75, 1.0, 2.5, 5.0, 10.0),
)
_WAIT_BOUNDS = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.5),
    *(2.0, 2.5, 4.0, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0, 160.0, 320.0, 640.0),
)
_BOUNDS = {"ttft": _WAIT_BOUNDS, "itl": _GAP_BOUNDS, "e2e": _WAIT_BOUNDS}
_LAG_BOUNDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
RATE_SECONDS = 10


class Latency:
    """One latency of one class: buckets since the start, and the values of the last minute."""

    __slots__ = ("histogram", "window")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.histogram = Histogram(bounds)
        self.window = Window()

    def observe(self, now: float, value: float, times: int = 1) -> None:
        self.histogram.observe(value, times)
        self.window.add(now, value, times)

    def p95(self, now: float) -> tuple[float | None, int]:
        """The 95th percentile of the last minute in seconds, and of how many values."""
        return self.window.quantile(now, 0.95)


class ClassTelemetry:
    """One service class. Latencies are of what was *served* in it; outcomes of what was *asked for* in it."""

    def __init__(self, bounds: Mapping[str, Sequence[float]]) -> None:
        self.latencies = {part: Latency(bounds[part]) for part in PARTS}
        self.outcomes: Counter[SloOutcome] = Counter()
        self.judged = Count(int(WINDOW_S))
        self.kept = Count(int(WINDOW_S))

    def attainment(self, now: float) -> tuple[float | None, int]:
        """The share of the last minute's requests in SLO, and of how many."""
        judged = self.judged.total(now)
        return (self.kept.total(now) / judged if judged else None), judged

    def goodput(self, now: float) -> float:
        """Requests in SLO a second, over the last minute."""
        return self.kept.total(now) / WINDOW_S


class Telemetry:
    """Counts and latencies of one server. Its classes stay those of its start, and their objectives are bucket edges:
    an objective that is changed later is no edge, while the p95 of the last minute knows no buckets of that kind."""

    def __init__(self, classes: ServiceClasses) -> None:
        self.responses: Counter[tuple[str, int]] = Counter()
        """Replies by route and status."""
        self.outcomes: Counter[tuple[str, str]] = Counter()
        """Generation requests by route and outcome: a finish reason, or the code of an error."""
        bounds = {part: _with_targets(_BOUNDS[part], part, classes) for part in PARTS}
        self.classes = {name: ClassTelemetry(bounds) for name in classes}
        self.token_mean = Histogram(_GAP_BOUNDS)
        self.queue = Histogram(_WAIT_BOUNDS)
        self.loop_lag = Histogram(_LAG_BOUNDS)
        self.loop_lag_max_s = 0.0
        self.tokens_out = 0
        self.output_rate = Count(RATE_SECONDS)

    def all_classes(self, part: str) -> Histogram:
        """One of ``PARTS`` over all classes."""
        return Histogram.sum_of(each.latencies[part].histogram for each in self.classes.values())

    def record_tokens(self, now: float, reply: Reply, choice: Choice, count: int) -> None:
        """``count`` tokens of a choice were written out together: the first after a gap, the others after none."""
        self.tokens_out += count
        self.output_rate.add(now, count)
        latencies = self.classes[reply.build.service_class].latencies
        if choice.last_out_s is not None:
            gap_s = now - choice.last_out_s
            latencies["itl"].observe(now, gap_s)
            if count > 1:
                latencies["itl"].observe(now, 0.0, count - 1)
            choice.late_gaps += reply.promise.objective.late_gaps_of((gap_s,))
        else:
            choice.first_out_s = now
            if count > 1:
                latencies["itl"].observe(now, 0.0, count - 1)
            if reply.first_out_s is None:
                reply.first_out_s = now
                latencies["ttft"].observe(now, now - reply.received_s)
        choice.last_out_s = now

    def record_success(self, now: float, reply: Reply) -> None:
        self.classes[reply.build.service_class].latencies["e2e"].observe(now, now - reply.received_s)
        for choice in reply.build.choices:
            if choice.output_tokens > 1 and choice.first_out_s is not None and choice.last_out_s is not None:
                self.token_mean.observe((choice.last_out_s - choice.first_out_s) / (choice.output_tokens - 1))

    def record_outcome(self, now: float, route: str, outcome: str, reply: Reply | None) -> None:
        """A generation request is over. ``reply``: None if it was never understood."""
        self.outcomes[route, outcome] += 1
        kept = None if reply is None else slo_outcome(reply, outcome, now)
        if reply is None or kept is None:
            return
        asked = self.classes[reply.promise.service_class.name]
        asked.outcomes[kept] += 1
        if kept is not SloOutcome.ABANDONED:
            asked.judged.add(now)
            asked.kept.add(now, int(kept is SloOutcome.IN_SLO))

    def record_lag(self, lag_s: float) -> None:
        self.loop_lag.observe(lag_s)
        self.loop_lag_max_s = max(self.loop_lag_max_s, lag_s)


def _with_targets(bounds: Sequence[float], part: str, classes: ServiceClasses) -> list[float]:
    targets = {getattr(each.objective, f"{part}_s") for each in classes.values()} - {None}
    return sorted({*bounds, *targets})


class LagMonitor:
    """Measures how late the event loop calls a timer, which is how long something held it up."""

    INTERVAL_S = 0.02

    def __init__(self, record: Callable[[float], None]) -> None:
        self._record = record
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self.INTERVAL_S, self._tick, loop, loop.time() + self.INTERVAL_S)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _tick(self, loop: asyncio.AbstractEventLoop, due_s: float) -> None:
        now = loop.time()
        self._record(max(0.0, now - due_s))
        self._timer = loop.call_later(self.INTERVAL_S, self._tick, loop, now + self.INTERVAL_S)
