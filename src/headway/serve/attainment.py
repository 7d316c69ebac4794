"""Who was promised what, and whether it was kept: the outcome of a request as its client saw it.

A request counts in the class it was asked for in, whatever it was served in. *Attainment* is the share of those offered
that were in SLO (see ``policy.slo``): a refused request is a miss, one whose client left doesn't count.
"""

from __future__ import annotations

from enum import StrEnum

from headway.policy.events import FinishReason
from headway.policy.slo import late_gaps_allowed
from headway.serve.errors import Reason
from headway.serve.reply import Reply


class SloOutcome(StrEnum):
    IN_SLO = "in_slo"
    LATE_TTFT = "late_ttft"
    LATE_ITL = "late_itl"
    LATE_E2E = "late_e2e"
    DEMOTED = "demoted"  # served without a promise, which it allowed: a miss, even if it came in time
    SHED = "shed"  # refused, at the door or in the queue, since it could not be on time
    IMPOSSIBLE = "impossible"  # it could not be on time even on an idle machine
    EXPIRED = "expired"  # its own deadline passed
    FAILED = "failed"
    ABANDONED = "abandoned"  # its client left before the end


_BY_ERROR = {
    Reason.OVERLOADED: SloOutcome.SHED,
    Reason.QUEUE_FULL: SloOutcome.SHED,
    Reason.IMPOSSIBLE: SloOutcome.IMPOSSIBLE,
    Reason.DEADLINE: SloOutcome.EXPIRED,
    Reason.CLIENT_CLOSED: SloOutcome.ABANDONED,
    Reason.ENGINE_FAILED: SloOutcome.FAILED,
    Reason.INTERNAL: SloOutcome.FAILED,
    Reason.NOT_READY: SloOutcome.FAILED,
    Reason.DRAINING: SloOutcome.FAILED,
    Reason.STOPPED: SloOutcome.FAILED,
}
_SUCCESSES = frozenset({FinishReason.STOP.value, FinishReason.LENGTH.value})


def slo_outcome(reply: Reply, outcome: str, now: float) -> SloOutcome | None:
    """``outcome``: a finish reason or the code of an error. None for what was the caller's mistake."""
    if outcome not in _SUCCESSES:
        return _BY_ERROR.get(Reason(outcome))
    return SloOutcome.DEMOTED if reply.build.demoted else _late(reply, now) or SloOutcome.IN_SLO


def judgement(reply: Reply, now: float) -> tuple[bool | None, bool | None]:
    """Of a complete reply: whether its first token came in time, and its tokens; None where that was not promised."""
    objective = reply.promise.objective
    choices = reply.build.choices
    first_s = max(now if each.first_out_s is None else each.first_out_s for each in choices)  # it was promised to each
    in_time = all(each.late_gaps <= late_gaps_allowed(max(0, each.output_tokens - 1)) for each in choices)
    return (
        None if objective.ttft_s is None else first_s - reply.received_s <= objective.ttft_s,
        None if objective.itl_s is None else in_time,
    )


def _late(reply: Reply, now: float) -> SloOutcome | None:
    objective = reply.promise.objective
    ttft_kept, itl_kept = judgement(reply, now)
    if ttft_kept is False:
        return SloOutcome.LATE_TTFT
    if itl_kept is False:
        return SloOutcome.LATE_ITL
    if objective.e2e_s is not None and now - reply.received_s > objective.e2e_s:
        return SloOutcome.LATE_E2E
    return None
