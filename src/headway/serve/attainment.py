"""Who was promised what, and whether it was kept: the outcome of a request as its client saw it.

A request counts in the class it was asked for in, whatever it was served in. *Attainment* is the share of those offered
that were in SLO (see ``policy.slo``): a refused request is a miss, one whose client left doesn't count.
"""

from __future__ import annotations

from enum import StrEnum

from headway.policy.events import FinishReason
from headway.policy.slo import Part
from headway.serve.choices import Choice
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
_BY_PART: dict[Part, SloOutcome] = {
    "ttft": SloOutcome.LATE_TTFT,
    "itl": SloOutcome.LATE_ITL,
    "e2e": SloOutcome.LATE_E2E,
}
_SUCCESSES = frozenset({FinishReason.STOP.value, FinishReason.LENGTH.value})


def slo_outcome(reply: Reply, outcome: str, now: float) -> SloOutcome | None:
    """``outcome``: a finish reason or the code of an error. None for what was the caller's mistake."""
    if outcome not in _SUCCESSES:
        return _BY_ERROR.get(Reason(outcome))
    return SloOutcome.DEMOTED if reply.build.demoted else _late(reply, now) or SloOutcome.IN_SLO


def judgement(reply: Reply, now: float) -> tuple[bool | None, bool | None]:
    """Of a complete reply: whether its first token came in time, and its tokens; None where that was not promised."""
    objective, choices = reply.promise.objective, reply.build.choices
    # Each choice was promised it.
    in_time = all(objective.keeps_ttft(_ttft_s(reply, each, now)) for each in choices)
    at_pace = all(objective.keeps_itl(each.late_gaps, _gaps(each)) for each in choices)
    return (None if objective.ttft_s is None else in_time, None if objective.itl_s is None else at_pace)


def _late(reply: Reply, now: float) -> SloOutcome | None:
    """By the first part that was broken, of all choices."""
    objective, e2e_s = reply.promise.objective, now - reply.received_s
    broken = {
        objective.broken(_ttft_s(reply, each, now), each.late_gaps, _gaps(each), e2e_s) for each in reply.build.choices
    }
    return next((outcome for part, outcome in _BY_PART.items() if part in broken), None)


def _ttft_s(reply: Reply, choice: Choice, now: float) -> float:
    """An answer without a token to see has its end for the first one."""
    return (now if choice.first_out_s is None else choice.first_out_s) - reply.received_s


def _gaps(choice: Choice) -> int:
    return max(0, choice.output_tokens - 1)
