"""Paged attention against float64, over random shapes, block tables, lengths and windows.

All that no query may see, in the cache's unused blocks and behind a sequence's end, is NaN.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from headway.engine import native
from tests.engine.native.cases import Array, Cache, address, from_bf16, to_bf16

RANGE = 512
"""Positions that are summed up by themselves."""

ERRORS = {"avx512": 2.0**-8, "avx2": 2e-6, "portable": 2e-6}
"""Of a result, as a share of the largest value. avx512 rounds what values are weighted with to bf16."""


@dataclass
class Sequence:
    """One sequence with ``count`` new tokens at its end."""

    cache: Cache
    heads: int
    length: int
    count: int
    window: int
    blocks: Array
    keys: Array
    values: Array
    queries: Array
    """bf16, [rows of a batch, heads, head_dim]; the sequence's rows begin at ``row``."""
    row: int

    @property
    def start(self) -> int:
        return self.length - self.count

    def attend(self, kernels: str, rows: tuple[int, int], positions: tuple[int, int]) -> tuple[Array, Array, Array]:
        """``out`` [rows, heads, head_dim], ``top`` and ``total`` [rows, heads] of all key/value heads."""
        shape = (rows[1] - rows[0], self.heads)
        out = np.full((*shape, self.cache.head_dim), np.nan, np.float32)
        top, total = np.full(shape, np.nan, np.float32), np.full(shape, np.nan, np.float32)
        group = self.heads // self.cache.heads
        for kv_head in range(self.cache.heads):
            first = kv_head * group
            native.load().attend(
                kernels=kernels,
                cache=self.cache.native,
                span=native.load().Span(self.row, self.count, self.start, address(self.blocks)),
                queries=address(self.queries),
                heads=self.heads,
                kv_head=kv_head,
                first_row=rows[0],
                last_row=rows[1],
                first_position=positions[0],
                last_position=positions[1],
                window=self.window,
                out=address(out[:, first:]),
                top=address(top[:, first:]),
                total=address(total[:, first:]),
            )
        return out, top, total

    def result(self, kernels: str, rows: tuple[int, int], *, ranges: bool = False) -> Array:
        """[rows, heads, head_dim], from one call or range by range."""
        end = self.start + rows[1]
        step = RANGE if ranges else end
        parts = [self.attend(kernels, rows, (first, min(first + step, end))) for first in range(0, end, step)]
        outs, tops, totals = (np.stack([part[which] for part in parts]) for which in range(3))
        merged: Array = np.full(outs.shape[1:], np.nan, np.float32)
        for row in range(merged.shape[0]):
            for head in range(self.heads):
                native.load().merge(
                    kernels=kernels,
                    outs=address(outs[0, row, head:]),
                    tops=address(tops[0, row, head:]),
                    totals=address(totals[0, row, head:]),
                    ranges=len(parts),
                    heads=self.heads * merged.shape[0],
                    head_dim=self.cache.head_dim,
                    out=address(merged[row, head]),
                )
        return merged

    def expected(self) -> Array:
        """[count, heads, head_dim] in float64."""
        positions = np.arange(self.length)
        own = np.arange(self.start, self.length)[:, None]
        seen = positions <= own
        if self.window:
            seen &= positions > own - self.window
        group = self.heads // self.cache.heads
        query = from_bf16(self.queries[self.row : self.row + self.count])
        keys = from_bf16(self.keys).repeat(group, axis=1)
        values = from_bf16(self.values).repeat(group, axis=1)
        scores = np.where(seen[None], np.einsum("rhd,phd->hrp", query, keys), -np.inf)
        shares = np.exp(scores - scores.max(-1, keepdims=True))
        result: Array = np.einsum("hrp,phd->rhd", shares / shares.sum(-1, keepdims=True), values)
        return result


def sequence(random: np.random.Generator, **given: Any) -> Sequence:
    """A random one, with what is given."""

    def choose(name: str, low: int, high: int) -> int:
        return int(given.get(name, random.integers(low, high + 1)))

    def pick(name: str, *choices: int) -> int:
        return int(given.get(name, random.choice(choices)))

    head_dim = pick("head_dim", 32, 40, 64, 80, 96, 128)
    kv_heads, group = choose("kv_heads", 1, 3), choose("group", 1, 8)
    length = int(given["length"]) if "length" in given else int(np.exp(random.uniform(0, np.log(1200))))
    count = pick("count", 1, min(length, 40), int(random.integers(1, min(length, 150) + 1)))
    window = pick("window", 0, 1, 5, 100, 700)
    block_size = pick("block_size", 16, 32, 48, 64)
    used = -(-length // block_size)
    cache = Cache(used + 2, block_size, kv_heads, head_dim)
    blocks = random.permutation(used + 2)[:used].astype(np.int32)
    keys, values = (to_bf16(random.standard_normal((length, kv_heads, head_dim))) for _ in range(2))
    for position in range(length):
        cache.write(blocks[position // block_size], position % block_size, keys[position], values[position])
    row = int(random.integers(0, 3))
    # Scores from nearly alike to nearly one alone.
    spread = head_dim**-0.5 * float(random.choice([0.1, 1.0, 6.0]))
    queries = to_bf16(random.standard_normal((row + count, kv_heads * group, head_dim)) * spread)
    return Sequence(cache, kv_heads * group, length, count, window, blocks, keys, values, queries, row)


def check(kernels: str, case: Sequence) -> None:
    result = case.result(kernels, (0, case.count))
    limit = ERRORS[kernels] * np.abs(from_bf16(case.values)).max()
    np.testing.assert_allclose(result, case.expected(), rtol=0, atol=limit)


def test_random_cases(kernels: str, random: np.random.Generator) -> None:
    for _ in range(60):
        check(kernels, sequence(random))


@pytest.mark.parametrize("group", range(1, 9))
def test_decode(kernels: str, random: np.random.Generator, group: int) -> None:
    for length in (1, 2, 15, 16, 17, 63, 64, 65, 511, 512, 513, 1025):
        check(kernels, sequence(random, group=group, length=length, count=1, window=0, kv_heads=1))


def test_long_sequences(kernels: str, random: np.random.Generator) -> None:
    for count, window in ((1, 0), (1, 1000), (33, 0), (70, 600)):
        check(kernels, sequence(random, length=4096, count=count, window=window, kv_heads=1, group=3, head_dim=64))


def test_a_whole_prompt(kernels: str, random: np.random.Generator) -> None:
    check(kernels, sequence(random, length=700, count=700, kv_heads=1, group=3, head_dim=64))


def test_a_row_is_the_same_in_any_company(kernels: str, random: np.random.Generator) -> None:
    """All new tokens at once, in shares, one by one, and range by range: the same bits."""
    for _ in range(6):
        case = sequence(random, length=int(random.integers(500, 1300)), count=int(random.integers(17, 60)))
        whole = case.result(kernels, (0, case.count))
        assert (case.result(kernels, (0, case.count), ranges=True) == whole).all()
        middle = int(random.integers(1, case.count))
        assert (case.result(kernels, (0, middle)) == whole[:middle]).all()
        assert (case.result(kernels, (middle, case.count)) == whole[middle:]).all()
        for row in (0, middle, case.count - 1):
            assert (case.result(kernels, (row, row + 1), ranges=True) == whole[row : row + 1]).all()


def test_nothing_is_seen_of_a_range(kernels: str, random: np.random.Generator) -> None:
    case = sequence(random, length=1100, count=1, window=20)
    out, top, total = case.attend(kernels, (0, 1), (0, 512))
    assert (out == 0).all()
    assert (top == -np.inf).all()
    assert (total == 0).all()


def test_a_broken_sequence_shows(kernels: str, random: np.random.Generator) -> None:
    """A NaN that is seen must not get lost on the way, or a broken model would go on talking."""
    for where in ("keys", "values"):
        case = sequence(random, length=90, count=2, window=0)
        position = int(random.integers(0, 80))
        block, slot = case.blocks[position // case.cache.block_size], position % case.cache.block_size
        keys, values = case.keys[position].copy(), case.values[position].copy()
        (keys if where == "keys" else values)[:] = 0x7FC0
        case.cache.write(block, slot, keys, values)
        assert np.isnan(case.result(kernels, (0, 2))).all()
