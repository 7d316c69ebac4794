"""The attention of the compiled kernels: for one new token each of many sequences, and for whole prompts.

A token's attention is bound by reading keys and values from memory, a prompt's by arithmetic. Sequences are so many
that none of them is still in a cache when its turn comes, as in a model of many layers.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from headway.engine import native

if TYPE_CHECKING:
    from headway.engine import _native

SHAPES = ("9x3x64", "16x4x64")
"""Heads x key/value heads x head_dim. The first are those of SmolLM2-135M."""
CONTEXTS = (128, 1024, 4096)
PROMPTS = (128, 512, 2048)
BLOCK_SIZE = 16
COLD_BYTES = 160 * 1024 * 1024
TURN_S = 0.05


@dataclass(frozen=True)
class Case:
    """One measurement: the best time of a sequence, and the least that it takes in bytes and operations."""

    name: str
    seconds: float
    bytes_read: int
    operations: int


def measure(shape: str, pool: _native.Pool, kernels: str, repeats: int) -> Iterator[Case]:
    heads, kv_heads, head_dim = map(int, shape.split("x"))
    for length in CONTEXTS:
        size = 2 * length * kv_heads * head_dim * 2
        count = 1 + COLD_BYTES // size
        seconds = _attend(heads, kv_heads, head_dim, count, length, 1, pool, kernels, repeats) / count
        yield Case(f"decode_{shape}_{length}", seconds, size, 4 * heads * head_dim * length)
    for length in PROMPTS:
        seconds = _attend(heads, kv_heads, head_dim, 1, length, length, pool, kernels, repeats)
        operations = 4 * heads * head_dim * length * (length + 1) // 2
        yield Case(f"prefill_{shape}_{length}", seconds, 2 * length * kv_heads * head_dim * 2, operations)


def _attend(
    heads: int,
    kv_heads: int,
    head_dim: int,
    sequences: int,
    length: int,
    new: int,
    pool: _native.Pool,
    kernels: str,
    repeats: int,
) -> float:
    """Seconds for the last ``new`` tokens of all sequences, of ``length`` each; the best of ``repeats``."""
    random = np.random.default_rng(0)
    blocks = -(-length // BLOCK_SIZE)
    numbers = sequences * blocks * kv_heads * BLOCK_SIZE * head_dim
    keys, values = (native.aligned((numbers,), np.uint16) for _ in range(2))
    for array in (keys, values):  # 1 to 2, either sign
        array[:] = random.integers(0x3F80, 0x4000, numbers, np.uint16) | random.integers(0, 2, numbers, np.uint16) << 15
    tables = random.permutation(sequences * blocks).astype(np.int32).reshape(sequences, blocks)
    queries = random.integers(0x3C00, 0x3D00, (sequences * new, heads, head_dim), np.uint16)
    out, top, total = (np.empty((sequences * new, heads, width), np.float32) for width in (head_dim, 1, 1))
    module = native.load()
    cache = module.Cache(
        keys=keys.ctypes.data,
        values=values.ctypes.data,
        stride=kv_heads * BLOCK_SIZE * head_dim,
        block_size=BLOCK_SIZE,
        heads=kv_heads,
        head_dim=head_dim,
    )
    spans = [module.Span(index * new, new, length - new, tables[index].ctypes.data) for index in range(sequences)]
    best, spent = float("inf"), 0.0
    for turn in range(1000 * repeats):
        begin = time.perf_counter()
        module.attend_all(
            kernels=kernels,
            pool=pool,
            cache=cache,
            spans=spans,
            queries=queries.ctypes.data,
            heads=heads,
            out=out.ctypes.data,
            top=top.ctypes.data,
            total=total.ctypes.data,
        )
        seconds = time.perf_counter() - begin
        best, spent = min(best, seconds), spent + seconds
        if turn + 1 >= repeats and spent >= TURN_S * repeats:
            break
    return best
