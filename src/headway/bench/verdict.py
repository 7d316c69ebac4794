"""Was the promise kept? Counts and exact percentiles over the outcomes of a run.

The definitions are those of ``policy.slo``. A refused request is not admitted; whatever else goes wrong with one is a
miss among those admitted.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from headway.bench.client import percentile
from headway.bench.load import Outcome
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
        return cls(len(values), percentile(values, 0.5), percentile(values, 0.95)) if values else cls(0, 0.0, 0.0)


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


def in_slo(outcome: Outcome, objective: Objective) -> bool:
    """Whether a request finished and kept to its objective."""
    if outcome.ttft_s is None or outcome.e2e_s is None:
        return False
    gaps_s = outcome.gaps_s
    return not objective.broken(outcome.ttft_s, objective.late_gaps_of(gaps_s), len(gaps_s), outcome.e2e_s)


def judge(outcomes: Iterable[Outcome], objective: Objective, seconds: float) -> Verdict:
    """Hold all ``outcomes`` of ``seconds`` of load against one objective."""
    offered = list(outcomes)
    admitted = [each for each in offered if not each.refused]
    return Verdict(
        seconds=seconds,
        offered=len(offered),
        admitted=len(admitted),
        refused=len(offered) - len(admitted),
        refused_late=sum(
            each.refused and each.reply.ended_s - each.reply.timing.sent_s > REFUSED_LATE_S for each in offered
        ),
        failed=sum(each.reply.error is not None for each in admitted),
        in_slo=sum(in_slo(each, objective) for each in admitted),
        output_tokens=sum(len(each.reply.timing.tokens_s) for each in admitted),
        ttft=Quantiles.of([each.waited_s for each in admitted]),
        itl=Quantiles.of([gap_s for each in admitted for gap_s in each.gaps_s]),
    )
