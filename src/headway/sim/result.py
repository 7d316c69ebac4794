"""What a run showed: a record of every call, and figures over those that arrived in the steady part."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from operator import sub
from typing import Any, Protocol

from headway.sim.live import Attempt
from headway.sim.record import Outcome, Record, nearest_rank, p95_of_gaps


@dataclass(frozen=True, slots=True)
class Window:
    """The steady part: warm-up before ``start_s`` and ramp-down after ``end_s`` are cut."""

    start_s: float
    end_s: float

    def __post_init__(self) -> None:
        if not 0.0 <= self.start_s < self.end_s:
            raise ValueError(f"a window from {self.start_s} to {self.end_s} s holds nothing")

    @property
    def seconds(self) -> float:
        return self.end_s - self.start_s

    def holds(self, at_s: float) -> bool:
        return self.start_s <= at_s < self.end_s


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Exact, nearest rank, over ``n`` values, in seconds; None for no values."""

    n: int
    p50: float | None = None
    p95: float | None = None
    p99: float | None = None

    @classmethod
    def of(cls, values: Iterable[float]) -> Percentiles:
        ordered = sorted(values)
        if not ordered:
            return cls(0)
        return cls(len(ordered), *(nearest_rank(ordered, share) for share in (0.50, 0.95, 0.99)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """Figures over some of the calls. Attainment is a share of those offered, or of those admitted; None of none.

    ``goodput``: calls in SLO a second, the same where every single gap counts in ``goodput_every_gap``;
    ``throughput``: output tokens a second. ``itl`` is over gaps, not over calls. ``retried``: calls sent more than
    once; they count once, and are judged by their last try.
    """

    offered: int
    offered_rate: float
    admitted: int
    served: int
    shed: int
    demoted: int
    unfinished: int
    retried: int
    in_slo: int
    attainment: float | None
    attainment_admitted: float | None
    goodput: float
    goodput_every_gap: float
    throughput: float
    ttft: Percentiles
    itl: Percentiles
    e2e: Percentiles


@dataclass(frozen=True, slots=True, kw_only=True)
class LengthBucket:
    """The calls of the window whose prompts have ``shortest`` to ``longest`` tokens (None: no bound)."""

    shortest: int
    longest: int | None
    offered: int
    admitted: int
    in_slo: int
    attainment: float | None


PROMPT_EDGES = (256, 1024, 4096)


class Sink(Protocol):
    """Whoever wants to know what became of each call."""

    def ended(self, attempt: Attempt, now: float, outcome: Outcome, reason: str) -> None:
        """The last try of a call has ended, been refused or been given up."""
        ...


class Recorder:
    """Turns calls that end into records. Without ``keep_gaps`` no gap is kept, and memory grows by records alone."""

    def __init__(self, window: Window, keep_gaps: bool) -> None:
        self._window = window
        self._keep_gaps = keep_gaps
        self._records: list[Record] = []
        self._gaps: dict[str, array[float]] = {}
        self._tokens: dict[str, int] = {}  # by class, those that came out in the window

    def ended(self, attempt: Attempt, now: float, outcome: Outcome, reason: str) -> None:
        call, times = attempt.call, attempt.token_times
        name = call.service_class
        gaps = list(map(sub, times[1:], times))
        served = outcome is Outcome.SERVED
        answered_s = now - attempt.sent_s
        ttft_s = times[0] - attempt.sent_s if times else None
        if gaps:
            if self._keep_gaps and self._window.holds(attempt.arrived_s):
                self._gaps.setdefault(name, array("d")).extend(gaps)
            gaps.sort()
        p95_s = p95_of_gaps(gaps) if gaps else None
        late_gaps = call.objective.late_gaps_of(gaps)
        in_slo = served and ttft_s is not None and not call.objective.broken(ttft_s, late_gaps, len(gaps), answered_s)
        if times:
            count = bisect_left(times, self._window.end_s) - bisect_left(times, self._window.start_s)
            self._tokens[name] = self._tokens.get(name, 0) + count
        self._records.append(
            Record(
                index=call.index,
                service_class=name,
                tenant=call.tenant,
                prompt_tokens=call.size.prompt_tokens,
                arrived_s=attempt.arrived_s,
                sent_s=attempt.sent_s,
                attempts=attempt.number + 1,
                outcome=outcome,
                reason=str(reason),
                demoted=attempt.demoted,
                promised=not call.objective.is_empty,
                cached_tokens=attempt.cached_tokens,
                output_tokens=len(times),
                ttft_s=ttft_s,
                itl_p95_s=p95_s,
                itl_worst_s=gaps[-1] if gaps else None,
                e2e_s=answered_s if served else None,
                in_slo=in_slo,
                every_gap_in_slo=in_slo and not late_gaps,
                answered_s=answered_s,
                replica=attempt.replica,
            )
        )

    def result(self, seconds: float, steps: int) -> Result:
        records = tuple(sorted(self._records, key=lambda record: (record.arrived_s, record.index)))
        return Result(self._window, records, seconds, steps, self._gaps, self._tokens)


@dataclass(frozen=True, slots=True)
class Result:
    """All records, in order of arrival. ``seconds``: virtual time until the last call ended."""

    window: Window
    records: tuple[Record, ...]
    seconds: float
    steps: int
    gaps: dict[str, array[float]]
    tokens: dict[str, int]

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(sorted({record.service_class for record in self.records}))

    def attainment(self) -> float:
        """Share in SLO of the calls that arrived in the window and were promised something; 1 if there are none."""
        promised = [r.in_slo for r in self.records if r.promised and self.window.holds(r.arrived_s)]
        return sum(promised) / len(promised) if promised else 1.0

    def summary(self, service_class: str | None = None) -> Summary:
        """Over the calls that arrived in the window: of one class, or of all."""
        names = self.classes if service_class is None else (service_class,)
        records = [r for r in self.records if r.service_class in names and self.window.holds(r.arrived_s)]
        gaps = (gap for name in names for gap in self.gaps.get(name, ()))
        tokens = sum(self.tokens.get(name, 0) for name in names)
        return self._summarise(records, Percentiles.of(gaps), tokens / self.window.seconds)

    def by_prompt_length(self, edges: tuple[int, ...] = PROMPT_EDGES) -> tuple[LengthBucket, ...]:
        """What became of short and of long prompts. A length that is an edge is in the bucket above it."""
        buckets: list[LengthBucket] = []
        for shortest, end in zip((1, *edges), (*edges, None), strict=True):
            records = [
                record
                for record in self.records
                if self.window.holds(record.arrived_s)
                and record.prompt_tokens >= shortest
                and (end is None or record.prompt_tokens < end)
            ]
            in_slo = sum(record.in_slo for record in records)
            buckets.append(
                LengthBucket(
                    shortest=shortest,
                    longest=None if end is None else end - 1,
                    offered=len(records),
                    admitted=sum(record.admitted for record in records),
                    in_slo=in_slo,
                    attainment=in_slo / len(records) if records else None,
                )
            )
        return tuple(buckets)

    def figures(self) -> dict[str, Any]:
        """All figures as plain values, for JSON: of all calls, by class, by prompt length."""
        return {
            "window_s": [self.window.start_s, self.window.end_s],
            "seconds": self.seconds,
            "steps": self.steps,
            "all": asdict(self.summary()),
            "classes": {name: asdict(self.summary(name)) for name in self.classes},
            "prompt_length": [asdict(bucket) for bucket in self.by_prompt_length()],
        }

    def _summarise(self, records: list[Record], itl: Percentiles, throughput: float) -> Summary:
        offered, in_slo = len(records), sum(record.in_slo for record in records)
        admitted = [record for record in records if record.admitted]
        kept = sum(record.in_slo for record in admitted)
        return Summary(
            offered=offered,
            offered_rate=offered / self.window.seconds,
            admitted=len(admitted),
            served=sum(record.outcome is Outcome.SERVED for record in records),
            shed=sum(record.outcome is Outcome.SHED for record in records),
            demoted=sum(record.demoted for record in records),
            unfinished=sum(record.outcome is Outcome.UNFINISHED for record in records),
            retried=sum(record.attempts > 1 for record in records),
            in_slo=in_slo,
            attainment=in_slo / offered if offered else None,
            attainment_admitted=kept / len(admitted) if admitted else None,
            goodput=in_slo / self.window.seconds,
            goodput_every_gap=sum(record.every_gap_in_slo for record in records) / self.window.seconds,
            throughput=throughput,
            ttft=Percentiles.of(r.ttft_s for r in records if r.ttft_s is not None),
            itl=itl,
            e2e=Percentiles.of(r.e2e_s for r in records if r.e2e_s is not None),
        )
