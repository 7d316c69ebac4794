"""The features of a step that its time depends on."""

from __future__ import annotations

from dataclasses import dataclass

from headway.policy.plan import StepPlan


@dataclass(frozen=True, slots=True)
class StepShape:
    """``decode_context``: read by chunks of one token that draw; ``prefill_reads``: p * (s + p / 2) of the others."""

    tokens: int
    sequences: int
    decode_context: int
    prefill_reads: float

    @classmethod
    def of(cls, plan: StepPlan) -> StepShape:
        tokens = decode_context = 0
        reads = 0.0
        for chunk in plan.chunks:
            count = len(chunk.tokens)
            tokens += count
            if count == 1 and chunk.draw is not None:
                decode_context += chunk.start + 1
            else:
                reads += count * (chunk.start + count / 2)
        return cls(tokens, len(plan.chunks), decode_context, reads)
