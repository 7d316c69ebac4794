"""What a loaded model does for the runner. Implementations: ``torch_model``, ``native_model``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from headway.engine.memory import available_bytes
from headway.engine.options import EngineOptions
from headway.models.config import ModelConfig
from headway.models.errors import ModelError
from headway.models.source import ModelSource
from headway.policy.plan import Chunk

if TYPE_CHECKING:
    from headway.engine._native import Pool

Progress = Callable[[str, float | None], None]
"""Told what is going on, and how far it is (0 to 1, None when that isn't known)."""


class LoadedModel(Protocol):
    """One rank's weights and KV cache."""

    @property
    def kv_blocks(self) -> int: ...

    @property
    def kernels(self) -> str:
        """What computes, in words."""
        ...

    @property
    def threads(self) -> int: ...

    @property
    def pool(self) -> Pool | None:
        """The compiled kernels' threads, if it has any: free between two calls."""
        ...

    def forward(self, chunks: Sequence[Chunk]) -> NDArray[np.float32]:
        """Logits ([draws, vocabulary]) after each chunk that has a draw, in order; the same on every rank.

        The cache holds all tokens' keys and values afterwards. The array is valid until the next call.
        """
        ...


def check_fits(source: ModelSource, weight_bytes: int) -> None:
    """Raises ``ModelError`` if the weights are larger than the free memory: better than being killed on the way."""
    available = available_bytes()
    if weight_bytes > available:
        raise ModelError(
            f"{source.name}: the weights take {weight_bytes / 1e9:.1f} GB, only {available / 1e9:.1f} GB of memory "
            "are free"
        )


def kv_bytes_per_token(config: ModelConfig, kv_heads: int, number_bytes: int) -> int:
    return 2 * config.layers * kv_heads * config.head_dim * number_bytes


def kv_blocks(source: ModelSource, options: EngineOptions, bytes_per_token: int, ranks: int = 1) -> int:
    """How many blocks a rank's cache has. Raises ``ModelError`` if not even one fits, or less than was asked for."""
    if options.kv_tokens is not None:
        asked, available = options.kv_tokens * bytes_per_token * ranks, available_bytes()
        if asked > available:
            raise ModelError(
                f"{source.name}: a KV cache of {options.kv_tokens} tokens takes {asked / 1e9:.1f} GB, only "
                f"{available / 1e9:.1f} GB of memory are free"
            )
        return options.kv_tokens // options.block_size
    block_bytes = options.block_size * bytes_per_token
    budget = min(int(available_bytes() * options.kv_memory_fraction), options.kv_bytes_max) // ranks
    if budget < block_bytes:
        raise ModelError(
            f"{source.name}: a block of the KV cache takes {block_bytes} bytes, and only {budget} may be used for it"
        )
    return budget // block_bytes
