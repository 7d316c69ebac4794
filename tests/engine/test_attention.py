"""Paged attention against a few lines of dense attention, on caches where everything else is poison."""

from __future__ import annotations

import math
import random

import pytest
import torch
from torch import Tensor

from headway.engine.attention import reference
from headway.engine.attention.interface import Span
from headway.engine.attention.reference import ReferenceAttention
from headway.engine.kv_cache import KvCache

HEADS, KV_HEADS, SIZE, BLOCK, BLOCKS = 6, 2, 8, 4, 64


def dense(query: Tensor, keys: Tensor, values: Tensor, start: int, window: int | None) -> Tensor:
    """Attention of the tokens from ``start`` on over all of a sequence, in fp64: [tokens, heads, size]."""
    output = torch.empty(query.shape, dtype=torch.float64)
    for row in range(query.shape[0]):
        first = 0 if window is None else max(start + row - window + 1, 0)
        for head in range(HEADS):
            seen = slice(first, start + row + 1)
            key, value = (each[seen, head // (HEADS // KV_HEADS)].double() for each in (keys, values))
            weights = torch.softmax(key @ query[row, head].double() / math.sqrt(SIZE), dim=0)
            output[row, head] = weights @ value
    return output


class Sequences:
    """Sequences with random keys and values, their past in a cache whose other blocks hold NaN."""

    def __init__(self, shapes: list[tuple[int, int]], seed: int, dtype: torch.dtype = torch.float32) -> None:
        """``shapes``: how many tokens are in the cache, and how many are new, for each sequence."""
        generator = torch.Generator().manual_seed(seed)
        order = list(range(BLOCKS))
        random.Random(seed).shuffle(order)
        self.shapes = shapes
        self.cache = KvCache((1, BLOCKS, KV_HEADS, BLOCK, SIZE), dtype)
        self.cache[0].keys.fill_(math.nan)
        self.cache[0].values.fill_(math.nan)
        self.spans: list[Span] = []
        self.keys: list[Tensor] = []
        self.values: list[Tensor] = []
        for start, count in shapes:
            table = [order.pop() for _ in range(-(-(start + count) // BLOCK))]
            self.cache.clear(table)
            self.spans.append(Span(start, count, tuple(table)))
            for stored, kept in ((self.cache[0].keys, self.keys), (self.cache[0].values, self.values)):
                drawn = torch.randn(start + count, KV_HEADS, SIZE, generator=generator).to(dtype)
                for position in range(start):
                    stored[table[position // BLOCK], :, position % BLOCK] = drawn[position]
                kept.append(drawn)
        total = sum(count for _, count in shapes)
        self.query = (torch.randn(total, HEADS, SIZE, generator=generator) * 2).to(dtype)

    def new(self) -> Tensor:
        """Keys and values of the new tokens, as a step gets them."""
        pairs = [torch.cat(pair, dim=1) for pair in zip(self.keys, self.values, strict=True)]
        return torch.cat([pair[start:] for pair, (start, _) in zip(pairs, self.shapes, strict=True)])

    def attend(self, window: int | None) -> Tensor:
        step = ReferenceAttention(self.cache, HEADS, [window]).prepare(self.spans)
        return step(0, self.query, self.new())

    def expected(self, window: int | None) -> Tensor:
        outputs, row = [], 0
        for (start, count), keys, values in zip(self.shapes, self.keys, self.values, strict=True):
            outputs.append(dense(self.query[row : row + count], keys, values, start, window))
            row += count
        return torch.cat(outputs).view(-1, HEADS * SIZE)


SHAPES = {
    "one decode": [(9, 1)],
    "first token": [(0, 1)],
    "decodes of equal length": [(8, 1), (8, 1), (8, 1)],
    "decodes of all lengths": [(length, 1) for length in (0, 1, 3, 4, 7, 16, 31, 2)],
    "whole prompt": [(0, 11)],
    "chunk after a block": [(4, 5)],
    "chunk within a block": [(6, 7)],
    "all mixed": [(5, 1), (0, 6), (17, 1), (3, 8), (30, 1), (12, 2)],
}


@pytest.mark.parametrize("window", [None, 1, 3, 4, 9, 100])
@pytest.mark.parametrize("shapes", SHAPES.values(), ids=SHAPES.keys())
def test_equals_dense_attention(shapes: list[tuple[int, int]], window: int | None) -> None:
    sequences = Sequences(shapes, seed=len(shapes))
    torch.testing.assert_close(sequences.attend(window).double(), sequences.expected(window), rtol=1e-5, atol=1e-5)


def test_splits_large_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = [(13 + length % 3, 1) for length in range(9)]
    monkeypatch.setattr(reference, "GROUP_BYTES_MAX", 2 * 4 * KV_HEADS * BLOCK * SIZE * 4)
    sequences = Sequences(shapes, seed=3)
    torch.testing.assert_close(sequences.attend(None).double(), sequences.expected(None), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("window", [None, 5])
def test_bfloat16(window: int | None) -> None:
    sequences = Sequences(SHAPES["all mixed"], seed=8, dtype=torch.bfloat16)
    attended = sequences.attend(window)
    assert attended.dtype == torch.bfloat16
    torch.testing.assert_close(attended.double(), sequences.expected(window), rtol=0.02, atol=0.02)


def test_layers_with_different_windows_share_a_step() -> None:
    sequences = Sequences(SHAPES["all mixed"], seed=5)
    cache = KvCache((2, BLOCKS, KV_HEADS, BLOCK, SIZE), torch.float32)
    for layer in range(2):
        cache[layer].keys.copy_(sequences.cache[0].keys)
        cache[layer].values.copy_(sequences.cache[0].values)
    step = ReferenceAttention(cache, HEADS, [None, 3]).prepare(sequences.spans)
    for layer, window in enumerate((None, 3)):
        attended = step(layer, sequences.query, sequences.new())
        torch.testing.assert_close(attended.double(), sequences.expected(window), rtol=1e-5, atol=1e-5)
