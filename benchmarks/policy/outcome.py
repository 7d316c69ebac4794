"""What became of the calls of one or several runs that were promised something."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import inf

from headway.sim.record import Outcome as CallOutcome
from headway.sim.record import Record
from headway.sim.result import Result
from headway.sim.workload import Workload

LENGTH_EDGES = (256, 1024, 2048)
"""Prompt lengths at which buckets begin."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The calls of the runs' windows in classes that were promised something. Rates are a second."""

    records: tuple[Record, ...]
    seconds: float
    batch_tokens: int
    """Output tokens of all other classes in the windows."""

    @classmethod
    def of(cls, results: Sequence[Result], promised: frozenset[str]) -> Outcome:
        return cls(
            tuple(record for result in results for record in _of_window(result, promised)),
            sum(result.window.seconds for result in results),
            sum(count for result in results for name, count in result.tokens.items() if name not in promised),
        )

    @property
    def offered(self) -> int:
        return len(self.records)

    @property
    def in_slo(self) -> int:
        return sum(record.in_slo for record in self.records)

    @property
    def unfinished(self) -> int:
        """Calls that were cut off by the end of the run: figures say less of the policy the more there are."""
        return sum(record.outcome is CallOutcome.UNFINISHED for record in self.records)

    @property
    def attainment(self) -> float:
        return _share(self.records)

    @property
    def attainment_admitted(self) -> float:
        return _share([record for record in self.records if record.admitted])

    @property
    def goodput(self) -> float:
        return self.in_slo / self.seconds

    @property
    def goodput_every_gap(self) -> float:
        """Where the promised ITL is meant for each single gap."""
        return sum(record.every_gap_in_slo for record in self.records) / self.seconds

    @property
    def tokens_in_slo(self) -> float:
        """Prompt and output tokens a second of calls in SLO."""
        kept = (record for record in self.records if record.in_slo)
        return sum(record.prompt_tokens + record.output_tokens for record in kept) / self.seconds

    @property
    def batch_throughput(self) -> float:
        return self.batch_tokens / self.seconds

    def by_class(self) -> dict[str, float]:
        """Attainment."""
        names = sorted({record.service_class for record in self.records})
        return {name: _share([each for each in self.records if each.service_class == name]) for name in names}

    def by_length(self) -> dict[str, float]:
        """Attainment by prompt length."""
        edges = (1, *LENGTH_EDGES)
        shares: dict[str, float] = {}
        for low, high in zip(edges, (*edges[1:], None), strict=True):
            records = [each for each in self.records if low <= each.prompt_tokens < (high or inf)]
            if records:
                shares[f"{low}_up" if high is None else f"{low}_to_{high - 1}"] = _share(records)
        return shares

    def worst_gap_s(self) -> float:
        return max((record.itl_worst_s or 0.0 for record in self.records), default=0.0)


def promised_names(workload: Workload) -> frozenset[str]:
    """The classes that an outcome is about: all but the backlog's."""
    return frozenset(kind.service_class for kind in workload.traffic)


def _of_window(result: Result, promised: frozenset[str]) -> Iterator[Record]:
    return (
        record
        for record in result.records
        if record.service_class in promised and result.window.holds(record.arrived_s)
    )


def _share(records: Iterable[Record]) -> float:
    kept = [record.in_slo for record in records]
    return sum(kept) / len(kept) if kept else 1.0
