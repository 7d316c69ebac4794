"""Was the promise kept? A few counts and percentiles over the records of a run, for the demo and the benchmarks.

The definitions are those of ``policy.slo``. A refused request is not admitted; whatever else goes wrong with one is a
miss among those admitted.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from headway.bench.judge import GOOD, Judge
from headway.bench.record import Outcome, Record
from headway.bench.statistics import nearest_rank
from headway.policy.slo import Objective

REFUSED_LATE_S = 0.05


@dataclass(frozen=True, slots=True)
class Quantiles:
    """Exact (nearest rank) over ``n`` values, in seconds; all 0 if there are none."""

    n: int
    p50_s: float
    p95_s: float

    @classmethod
    def of(cls, values: list[float]) -> Quantiles:
        ordered = sorted(values)
        return cls(len(values), nearest_rank(ordered, 0.5), nearest_rank(ordered, 0.95)) if values else cls(0, 0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of the requests of ``seconds`` of load. ``offered`` = ``admitted`` + ``refused``.

    ``refused_late`` of the refused heard so after more than ``REFUSED_LATE_S``: whatever made the answer slow, a client
    had reason to think that it was taken in.
    ``failed`` of the admitted ended without being whole. ``ttft`` is over the admitted; one that never got a token
    counts with how long it waited, so with failures it is a lower bound. ``itl`` is over all gaps of the admitted.
    """

    seconds: float
    offered: int
    admitted: int
    refused: int
    refused_late: int
    failed: int
    in_slo: int
    output_tokens: int
    ttft: Quantiles
    itl: Quantiles

    @property
    def goodput(self) -> float:
        """Requests in SLO a second of load."""
        return self.in_slo / self.seconds

    @property
    def attainment(self) -> float:
        """Share of all requests that were in SLO; 1 if there were none."""
        return self.in_slo / self.offered if self.offered else 1.0

    @property
    def attainment_admitted(self) -> float:
        """Share of the admitted requests that were in SLO; 1 if there were none."""
        return self.in_slo / self.admitted if self.admitted else 1.0


def judge(records: Iterable[Record], objective: Objective, seconds: float) -> Verdict:
    """Hold all ``records`` of ``seconds`` of load against one objective."""
    offered = list(records)
    verdict_of = Judge({}, objective)
    admitted = [each for each in offered if each.outcome is not Outcome.REFUSED]
    refused = [each for each in offered if each.outcome is Outcome.REFUSED]
    return Verdict(
        seconds=seconds,
        offered=len(offered),
        admitted=len(admitted),
        refused=len(refused),
        refused_late=sum(each.ended_s - each.intended_s - each.slip_s > REFUSED_LATE_S for each in refused),
        failed=sum(not each.is_ok for each in admitted),
        in_slo=sum(verdict_of(each) == GOOD for each in admitted),
        output_tokens=sum(sum(each.chunk_tokens) for each in admitted),
        ttft=Quantiles.of([_waited_s(each) for each in admitted]),
        itl=Quantiles.of([gap_s for each in admitted for gap_s in each.gaps_s()]),
    )


def _waited_s(record: Record) -> float:
    """Until the first token; if there was none, until nobody waited any more."""
    return record.ended_s - record.intended_s if record.ttft_s is None else record.ttft_s
