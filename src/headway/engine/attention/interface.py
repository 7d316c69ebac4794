"""What attention is asked to do in a step. Implementations: ``reference`` (torch); C++ and Triton ones can follow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


@dataclass(frozen=True, slots=True)
class Span:
    """One sequence's new tokens in the flat batch: ``count`` rows, at positions ``start`` and on.

    ``block_table`` covers every position up to the last new one.
    """

    start: int
    count: int
    block_table: tuple[int, ...]


class StepAttention(Protocol):
    """The attention of one step, prepared once and called for every layer."""

    def __call__(self, layer: int, query: Tensor, key_value: Tensor) -> Tensor:
        """Store the new keys and values in the cache, then let each query see its own sequence up to itself.

        ``query``: [tokens, heads, head_dim]; ``key_value``: [tokens, 2 * kv_heads, head_dim], all keys before all
        values. Positions are applied. Returns [tokens, heads * head_dim] in the type of ``query``. Softmax is
        computed in fp32.
        """
        ...


class Attention(Protocol):
    """An implementation, bound to a cache."""

    def prepare(self, spans: Sequence[Span]) -> StepAttention:
        """``spans`` follow each other in the flat batch, without gaps."""
        ...
