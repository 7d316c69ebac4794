"""What there is to compute in a step: the exact features that its time is predicted from."""

from __future__ import annotations

from typing import NamedTuple

from headway.policy.plan import StepPlan

FEATURE_MAX = float(1 << 48)
"""Far above what any step has: what claims more is no step."""


class StepShape(NamedTuple):  # one is made for every step, and a frozen dataclass takes three times as long to make
    """``tokens``: all of them, of decodes and of prefill chunks. ``sequences``: chunks.

    ``decode_context``: positions read by decodes (chunks of one token that draw), their own included.
    ``prefill_reads``: positions read by the tokens of all other chunks: p * (s + p / 2) for p tokens after s.
    """

    tokens: int
    sequences: int
    decode_context: int
    prefill_reads: float

    @classmethod
    def of(cls, plan: StepPlan) -> StepShape:
        tokens = decode_context = 0
        prefill_reads = 0.0
        for chunk in plan.chunks:
            count = len(chunk.tokens)
            tokens += count
            if count == 1 and chunk.draw is not None:
                decode_context += chunk.start + 1
            else:
                prefill_reads += count * (chunk.start + count / 2)
        return cls(tokens, len(plan.chunks), decode_context, prefill_reads)


def is_step(shape: StepShape) -> bool:
    """Whether a step can have such features."""
    return (
        1 <= shape.sequences <= shape.tokens <= FEATURE_MAX
        and 0 <= shape.decode_context <= FEATURE_MAX
        and 0.0 <= shape.prefill_reads <= FEATURE_MAX
    )
