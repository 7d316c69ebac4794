"""What the tests of the kernels share: numbers as bf16, the packed cache, and random cases that can be run again."""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headway.engine import native

Array = NDArray[Any]

NAN = 0x7FC1
"""A bf16 that is not a number."""

LANE = 16


def seed() -> int:
    """Of all random cases. ``HEADWAY_SEED=fresh`` takes a new one, any other value that number."""
    given = os.environ.get("HEADWAY_SEED", "0")
    return secrets.randbits(32) if given == "fresh" else int(given)


def to_bf16(values: Array) -> Array:
    """The nearest bf16, of two equally near the even one; finite numbers only."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    rounded: Array = ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)
    return rounded


def from_bf16(numbers: Array) -> Array:
    wide: Array = (numbers.astype(np.uint32) << 16).view(np.float32).astype(np.float64)
    return wide


def address(array: Array | None) -> int:
    return 0 if array is None else int(array.ctypes.data)


@dataclass
class Cache:
    """One layer's packed keys and values, as ``native/kernels.h`` has them, all of them NaN at first."""

    blocks: int
    block_size: int
    heads: int
    head_dim: int

    def __post_init__(self) -> None:
        # Exactly as large as need be, so that a sanitizer sees what reads beyond.
        memory = np.full((self.blocks, 2, self.heads * self.block_size * self.head_dim), NAN, np.uint16)
        self.keys, self.values = memory[:, 0], memory[:, 1]
        self.native = native.load().Cache(
            keys=address(self.keys),
            values=address(self.values),
            stride=memory[0].size,
            block_size=self.block_size,
            heads=self.heads,
            head_dim=self.head_dim,
        )

    def seen(self) -> tuple[Array, Array]:
        """Keys and values as views [blocks, heads, .., ..] that ``key_at`` and ``value_at`` index."""
        blocks, heads, size, width = self.blocks, self.heads, self.block_size, self.head_dim
        keys = self.keys.reshape(blocks, heads, size // LANE, width // 2, LANE, 2)
        values = self.values.reshape(blocks, heads, size // 2, width, 2)
        return keys, values

    def write(self, block: int, slot: int, key: Array, value: Array) -> None:
        """``key`` and ``value``: bf16, [heads, head_dim]."""
        keys, values = self.seen()
        keys[block, :, slot // LANE, :, slot % LANE, :] = key.reshape(self.heads, -1, 2)
        values[block, :, slot // 2, :, slot % 2] = value

    def read(self, block: int, slot: int) -> tuple[Array, Array]:
        keys, values = self.seen()
        key = keys[block, :, slot // LANE, :, slot % LANE, :].reshape(self.heads, -1)
        return key, values[block, :, slot // 2, :, slot % 2]
