"""Figures that are kept while a run goes on, so that memory does not grow with the calls: in place of records."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from operator import sub

from headway.sim.live import Attempt
from headway.sim.record import Outcome, was_admitted
from headway.sim.result import Percentiles, Summary, Window
from headway.sim.sketch import Sketch

GAPS_OF_EVERY = 32
"""ITL is over the gaps of one call in so many: telling each gap's bucket would be a tenth of a long run."""


@dataclass(slots=True)
class _Counts:
    """Of one class. All but ``tokens`` are of the calls that arrived in the window."""

    offered: int = 0
    admitted: int = 0
    kept: int = 0
    served: int = 0
    shed: int = 0
    demoted: int = 0
    unfinished: int = 0
    retried: int = 0
    in_slo: int = 0
    every_gap_in_slo: int = 0
    tokens: int = 0
    ttft: Sketch = field(default_factory=Sketch)
    itl: Sketch = field(default_factory=Sketch)
    e2e: Sketch = field(default_factory=Sketch)


class Tally:
    """Counts and quantiles by class. Counts are exact; quantiles are off by less than ``sketch.ERROR``, those of ITL
    over the gaps of one call in ``GAPS_OF_EVERY``."""

    def __init__(self, window: Window) -> None:
        self.window = window
        self._counts: dict[str, _Counts] = {}

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(sorted(self._counts))

    def ended(self, attempt: Attempt, now: float, outcome: Outcome, reason: str) -> None:
        call, times, window = attempt.call, attempt.token_times, self.window
        counts = self._counts.get(call.service_class)
        if counts is None:
            counts = self._counts[call.service_class] = _Counts()
        if times:
            counts.tokens += bisect_left(times, window.end_s) - bisect_left(times, window.start_s)
        if not window.holds(attempt.arrived_s):
            return
        served, answered_s = outcome is Outcome.SERVED, now - attempt.sent_s
        counts.offered += 1
        counts.served += served
        counts.shed += outcome is Outcome.SHED
        counts.unfinished += outcome is Outcome.UNFINISHED
        counts.demoted += attempt.demoted
        counts.retried += attempt.number > 0
        admitted = was_admitted(outcome, answered_s, attempt.demoted)
        counts.admitted += admitted
        if not times:
            return
        ttft_s = times[0] - attempt.sent_s
        counts.ttft.add(ttft_s)
        if call.index % GAPS_OF_EVERY == 0:
            counts.itl.add_all(list(map(sub, times[1:], times)))
        if not served:
            return
        counts.e2e.add(answered_s)
        late_gaps = call.objective.late_gaps_of(map(sub, times[1:], times))
        if call.objective.broken(ttft_s, late_gaps, len(times) - 1, answered_s) is None:
            counts.in_slo += 1
            counts.kept += admitted
            counts.every_gap_in_slo += not late_gaps

    def summary(self, service_class: str) -> Summary:
        """As ``Result.summary``."""
        counts, seconds = self._counts.get(service_class, _Counts()), self.window.seconds
        return Summary(
            offered=counts.offered,
            offered_rate=counts.offered / seconds,
            admitted=counts.admitted,
            served=counts.served,
            shed=counts.shed,
            demoted=counts.demoted,
            unfinished=counts.unfinished,
            retried=counts.retried,
            in_slo=counts.in_slo,
            attainment=counts.in_slo / counts.offered if counts.offered else None,
            attainment_admitted=counts.kept / counts.admitted if counts.admitted else None,
            goodput=counts.in_slo / seconds,
            goodput_every_gap=counts.every_gap_in_slo / seconds,
            throughput=counts.tokens / seconds,
            ttft=_percentiles(counts.ttft),
            itl=_percentiles(counts.itl),
            e2e=_percentiles(counts.e2e),
        )


def _percentiles(sketch: Sketch) -> Percentiles:
    if not sketch.n:
        return Percentiles(0)
    return Percentiles(sketch.n, *(sketch.quantile(share) for share in (0.50, 0.95, 0.99)))
