"""How the engine is set up: everything an operator may choose, checked here, without importing torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Dtype = Literal["auto", "bf16", "int8", "fp32"]

THREADS_MAX = 1024
BLOCK_SIZE_MAX = 1024


class OptionError(Exception):
    """An option can't be used. The message is one clear line with the limit and the given value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOptions:
    """``dtype``: how weights are stored; "auto" is bf16, at half the memory and memory traffic of fp32; int8 halves
    them again and needs the compiled kernels.

    ``kv_tokens``: positions in the KV cache; None takes ``kv_memory_fraction`` of the memory that is free once the
    weights are loaded, but at most ``kv_bytes_max``, over all ranks. ``block_size``: positions in a cache block.
    ``threads``: compute threads; None is one for each processor (in torch, for each physical core).
    ``context_tokens``: longest sequence; None is what the model was made for. ``random_seed``: for random weights.
    """

    dtype: Dtype = "auto"
    kv_tokens: int | None = None
    block_size: int = 16
    threads: int | None = None
    context_tokens: int | None = None
    kv_memory_fraction: float = 0.25
    kv_bytes_max: int = 4 << 30
    random_seed: int = 0

    def __post_init__(self) -> None:
        if self.dtype not in get_args(Dtype):
            raise OptionError(f"dtype must be one of {', '.join(get_args(Dtype))}, not {self.dtype!r}")
        if not 1 <= self.block_size <= BLOCK_SIZE_MAX:
            raise OptionError(f"block_size must be 1 to {BLOCK_SIZE_MAX}, not {self.block_size}")
        if self.kv_tokens is not None and self.kv_tokens < self.block_size:
            raise OptionError(f"kv_tokens must be at least one block of {self.block_size}, not {self.kv_tokens}")
        if self.threads is not None and not 1 <= self.threads <= THREADS_MAX:
            raise OptionError(f"threads must be 1 to {THREADS_MAX}, not {self.threads}")
        if self.context_tokens is not None and self.context_tokens < 1:
            raise OptionError(f"context_tokens must be at least 1, not {self.context_tokens}")
        if not 0.0 < self.kv_memory_fraction <= 1.0:
            raise OptionError(f"kv_memory_fraction must be above 0 and at most 1, not {self.kv_memory_fraction}")
        if self.kv_bytes_max < 1:
            raise OptionError(f"kv_bytes_max must be at least 1, not {self.kv_bytes_max}")
