"""Norms, conversions and rotation against float64."""

from __future__ import annotations

import math

import numpy as np
import pytest

from headway.engine import native
from tests.engine.native.cases import NAN, Array, Cache, address, from_bf16, to_bf16

CASES = 40
EPSILON = 1e-5
BF16_ERROR = 2.0**-8
"""Of one rounding to the nearest bf16, with what the arithmetic before it adds."""


def sizes(random: np.random.Generator) -> list[int]:
    return [1, 2, 3, 4, 15, 16, 17, 576, 1024, *random.integers(1, 3000, CASES).tolist()]


def row_of(random: np.random.Generator, size: int) -> Array:
    return (random.standard_normal(size) * 10.0 ** random.integers(-3, 4)).astype(np.float32)


def padded(size: int) -> int:
    return -(-size // 4) * 4


def normed(x: Array, weight: Array) -> Array:
    wide = x.astype(np.float64)
    result: Array = wide / np.sqrt(np.mean(wide**2) + EPSILON) * weight
    return result


def to_rows(kernels: str, x: Array, weight: Array | None, *, int8: bool) -> tuple[Array, float]:
    """What a linear layer reads: the numbers with their padding, and the scale."""
    out = np.full(padded(len(x)) + 1, 77, np.uint8 if int8 else np.uint16)
    scale = np.full(1, 5.0, np.float32)
    shared = {"kernels": kernels, "int8": int8, "x": address(x), "size": len(x), "out": address(out)}
    if weight is None:
        native.load().convert(**shared, scale=address(scale))
    else:
        native.load().norm(**shared, weight=address(weight), epsilon=EPSILON, scale=address(scale))
    assert out[-1] == 77, "wrote beyond the row"
    if np.isfinite(x).all():
        assert (out[len(x) : -1] == (128 if int8 else 0)).all(), "padding"
    return out[: len(x)], float(scale[0])


@pytest.mark.parametrize("with_norm", [False, True])
def test_bf16(kernels: str, random: np.random.Generator, with_norm: bool) -> None:
    for size in sizes(random):
        x, weight = row_of(random, size), row_of(random, size)
        expected = normed(x, weight) if with_norm else x
        rows, _ = to_rows(kernels, x, weight if with_norm else None, int8=False)
        np.testing.assert_allclose(from_bf16(rows), expected, rtol=BF16_ERROR)


def test_bf16_rounds_to_the_nearest_and_to_even(kernels: str, random: np.random.Generator) -> None:
    ties = (np.arange(0x3F80, 0x3FC0, dtype=np.uint32) << 16 | 0x8000).view(np.float32)
    near = random.standard_normal(1000).astype(np.float32)
    for x in (ties, near, np.array([0.0, -0.0, math.inf, -math.inf], np.float32)):
        rows, _ = to_rows(kernels, x, None, int8=False)
        assert (rows == to_bf16(x)).all()


@pytest.mark.parametrize("with_norm", [False, True])
def test_int8(kernels: str, random: np.random.Generator, with_norm: bool) -> None:
    for size in sizes(random):
        x, weight = row_of(random, size), row_of(random, size)
        expected = normed(x, weight) if with_norm else x
        rows, scale = to_rows(kernels, x, weight if with_norm else None, int8=True)
        assert scale == pytest.approx(np.abs(expected).max() / 127, rel=1e-5)
        assert rows.min() >= 1
        np.testing.assert_allclose((rows.astype(int) - 128) * scale, expected, atol=scale * 0.501)


def test_a_row_of_zeros(kernels: str) -> None:
    x, weight = np.zeros(40, np.float32), np.ones(40, np.float32)
    for given in (None, weight):
        assert (to_rows(kernels, x, given, int8=False)[0] == 0).all()
        rows, scale = to_rows(kernels, x, given, int8=True)
        assert (rows == 128).all()
        assert scale == 0.0


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_shows(kernels: str, random: np.random.Generator, bad: float) -> None:
    """8-bit numbers can't say that a row is broken, so its scale must: else a broken model goes on talking."""
    for size in (1, 16, 20, 576):
        x, weight = row_of(random, size), np.ones(size, np.float32)
        x[random.integers(size)] = bad
        for given in (None, weight):
            assert not math.isfinite(to_rows(kernels, x, given, int8=True)[1])
        assert not np.isfinite(from_bf16(to_rows(kernels, x, None, int8=False)[0])).all()
        assert np.isnan(from_bf16(to_rows(kernels, x, weight, int8=False)[0])).any()


def turned(heads: Array, cosines: Array, sines: Array) -> Array:
    a, b = np.split(heads, 2, axis=-1)
    return np.concatenate([a * cosines - b * sines, b * cosines + a * sines], axis=-1)


@pytest.mark.parametrize("with_norm", [False, True])
def test_rotate(kernels: str, random: np.random.Generator, with_norm: bool) -> None:
    for _ in range(CASES):
        head_dim = int(random.choice([2, 6, 32, 40, 64, 80, 96, 120, 128]))
        kv_heads, group = int(random.integers(1, 5)), int(random.integers(1, 9))
        block_size = int(random.choice([16, 32, 48, 64]))
        heads = kv_heads * group
        cache = Cache(3, block_size, kv_heads, head_dim)
        block, slot, scale = int(random.integers(3)), int(random.integers(block_size)), 0.125
        mixed = random.standard_normal((heads + 2 * kv_heads, head_dim)).astype(np.float32)
        weights = random.standard_normal((2, head_dim)).astype(np.float32) if with_norm else None
        angles = random.uniform(0, 1000, head_dim // 2)
        cosines, sines = np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)

        wide = mixed.astype(np.float64)
        query, key, value = np.split(wide, [heads, heads + kv_heads])
        if weights is not None:
            query = query / np.sqrt((query**2).mean(-1, keepdims=True) + EPSILON) * weights[0]
            key = key / np.sqrt((key**2).mean(-1, keepdims=True) + EPSILON) * weights[1]
        queries = np.zeros((heads, head_dim), np.uint16)
        native.load().rotate(
            kernels=kernels,
            mixed=address(mixed),
            heads=heads,
            query_norm=0 if weights is None else address(weights[0]),
            key_norm=0 if weights is None else address(weights[1]),
            epsilon=EPSILON,
            cosines=address(cosines),
            sines=address(sines),
            scale=scale,
            cache=cache.native,
            block=block,
            slot=slot,
            queries=address(queries),
        )
        np.testing.assert_allclose(
            from_bf16(queries), turned(query, cosines, sines) * scale, rtol=BF16_ERROR, atol=1e-5
        )
        keys, values = cache.read(block, slot)
        np.testing.assert_allclose(from_bf16(keys), turned(key, cosines, sines), rtol=BF16_ERROR, atol=1e-5)
        np.testing.assert_allclose(from_bf16(values), value, rtol=BF16_ERROR, atol=1e-5)
        cache.write(block, slot, np.full_like(keys, NAN), np.full_like(values, NAN))
        assert (cache.keys == NAN).all(), "wrote a neighbour's key"
        assert (cache.values == NAN).all(), "wrote a neighbour's value"
