"""What each request counts as: in SLO, a miss by cause, or nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from headway.bench.record import Outcome, Record
from headway.policy.slo import NO_PROMISE, Objective

GOOD = "good"


@dataclass(frozen=True)
class Judge:
    """Holds every request against the objective of its class; ``default`` for a class that is not in ``objectives``."""

    objectives: Mapping[str, Objective]
    default: Objective = NO_PROMISE

    def objective(self, service_class: str) -> Objective:
        return self.objectives.get(service_class, self.default)

    def __call__(self, record: Record) -> str | None:
        """``GOOD``, or the cause of the miss: ``ttft``, ``itl``, ``e2e`` (the first part broken), or its outcome.

        None: the run ended before this could be told. A request that was cut when its promise was already broken is a
        miss: else a server that is ever further behind would have no misses but many requests that never count.
        """
        objective = self.objective(record.service_class)
        ttft_s, e2e_s = record.ttft_s, record.e2e_s
        if ttft_s is not None and e2e_s is not None:
            late, gaps = _late_gaps(record, objective)
            return objective.broken(ttft_s, late, gaps, e2e_s) or GOOD
        if record.outcome is not Outcome.CUT:
            return record.outcome.value
        waited_s = record.ended_s - record.intended_s
        if not objective.keeps_ttft(waited_s if ttft_s is None else ttft_s):
            return "ttft"
        return None if objective.keeps_e2e(waited_s) else "e2e"


def _late_gaps(record: Record, objective: Objective) -> tuple[int, int]:
    """How many gaps are late, and how many there are."""
    if objective.itl_s is None:
        return 0, 0
    gaps_s = list(record.gaps_s())
    return objective.late_gaps_of(gaps_s), len(gaps_s)


def token_weights(record: Record) -> list[int]:
    """Tokens of each chunk, so that they add up to ``record.tokens``: where the server's count is another than what was
    counted, it is spread over the chunks. Mean and peak then count the same tokens."""
    counted = sum(record.chunk_tokens)
    if record.usage_completion is None or record.usage_completion == counted or not counted:
        return record.chunk_tokens
    weights, so_far, given = [], 0, 0
    for tokens in record.chunk_tokens:
        so_far += tokens
        due = record.usage_completion * so_far // counted
        weights.append(due - given)
        given = due
    return weights
