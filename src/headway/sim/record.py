"""What became of one call, and whether its promise was kept."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

from headway.policy.slo import late_gaps_allowed


class Outcome(StrEnum):
    SERVED = "served"  # it has its whole answer
    SHED = "shed"  # refused for want of capacity, at the door or in the queue (429)
    REFUSED = "refused"  # refused for good (400)
    ABORTED = "aborted"  # the client left
    EXPIRED = "expired"  # its deadline passed
    FAILED = "failed"
    UNFINISHED = "unfinished"  # the simulation ended first


ANSWER_MAX_S = 0.05
"""A refusal that takes longer comes after the answer was taken for given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One call, with all its tries. ``arrived_s``: of the first try; ``sent_s``: of the last.

    Latencies are those of the last try, from ``sent_s``; None where no token came, or no gap. ``itl_p95_s`` and
    ``itl_worst_s`` are over the call's own gaps. ``e2e_s`` ends when the last token was drawn. ``every_gap_in_slo``:
    in SLO even if the promised ITL is meant for each single gap. ``promised``: whether anything was. ``answered_s``:
    from ``sent_s`` to the end or the refusal. ``replica``: where its last try was sent.
    """

    index: int
    service_class: str
    tenant: str
    prompt_tokens: int
    arrived_s: float
    sent_s: float
    attempts: int
    outcome: Outcome
    reason: str
    demoted: bool
    promised: bool
    cached_tokens: int
    output_tokens: int
    ttft_s: float | None
    itl_p95_s: float | None
    itl_worst_s: float | None
    e2e_s: float | None
    in_slo: bool
    every_gap_in_slo: bool
    answered_s: float
    replica: int = 0

    @property
    def admitted(self) -> bool:
        """See ``was_admitted``."""
        return was_admitted(self.outcome, self.answered_s, self.demoted)


def was_admitted(outcome: Outcome, answered_s: float, demoted: bool) -> bool:
    """Whether a call was taken in under the promise it came with: neither demoted nor refused in time. One that was
    shed after more than ``ANSWER_MAX_S`` counts as taken in, and broken."""
    if outcome is Outcome.SHED:
        return answered_s > ANSWER_MAX_S
    return outcome is not Outcome.REFUSED and not demoted


def nearest_rank(ordered: list[float], share: float) -> float:
    """The smallest value that at least ``share`` of the ``ordered`` values are not above. There must be one."""
    return ordered[max(0, math.ceil(len(ordered) * share - 1e-9) - 1)]


def p95_of_gaps(ordered: list[float]) -> float:
    """The same rule as the scheduler's: what stays once the late gaps that are allowed are taken away."""
    return ordered[len(ordered) - 1 - late_gaps_allowed(len(ordered))]
