"""Packed linear layers against the same product in float64, over random shapes, strides and numbers of rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from headway.engine import native
from headway.engine.native import PANEL, Into, NativeError, PackedLinear, aligned, available, choose, multiply, pack
from tests.engine.native.cases import Array, from_bf16, to_bf16

CASES = 24
ROUNDING = 2.0**-24
"""The largest relative error of one operation in fp32."""
BF16_ROUNDING = 2.0**-8
FORMATS = pytest.mark.parametrize("int8", [False, True], ids=["bf16", "int8"])


@pytest.fixture(scope="module")
def pool() -> Any:
    if native.why_not() is not None:
        pytest.skip(str(native.why_not()))
    return native.make_pool(2)


@dataclass
class Case:
    """A layer, rows for it, and in float64 what comes out and how large its terms are, both [rows, outputs]."""

    linear: PackedLinear
    rows: Array
    scales: Array | None
    product: Array
    terms: Array

    @property
    def tolerance(self) -> Array:
        """int8 sums are exact; four roundings come after. bf16: one for each term, and the bias."""
        steps = 4 if self.linear.int8 else self.linear.inputs + 4
        tolerance: Array = self.terms * steps * ROUNDING + 1e-35  # numbers below the normal ones may become zero
        return tolerance


def unpacked(linear: PackedLinear) -> Array:
    """The numbers, [outputs and inputs with all their padding]."""
    return linear.data.transpose(0, 2, 1, 3).reshape(len(linear.data) * PANEL, -1)


def apart(random: np.random.Generator, shape: tuple[int, int], dtype: Any) -> Array:
    """Rows of an array with room between them, as they lie in a larger one."""
    return np.zeros((shape[0], shape[1] + int(random.integers(0, 9))), dtype)[:, : shape[1]]


def make(
    random: np.random.Generator,
    pool: Any,
    kernels: str,
    *,
    int8: bool,
    outputs: int,
    inputs: int,
    count: int,
    biased: bool = True,
) -> Case:
    weight = to_bf16(random.standard_normal((outputs, inputs)) * 10.0 ** random.uniform(-3, 1))
    bias = random.standard_normal(outputs).astype(np.float32) if biased else None
    linear = pack(weight, int8=int8, pool=pool, bias=bias, kernels=kernels)
    group = 4 if int8 else 2
    rows = apart(random, (count, -(-inputs // group) * group), np.uint8 if int8 else np.uint16)
    scales = None
    if int8:
        assert linear.scales is not None
        rows[:] = 128
        rows[:, :inputs] = random.integers(0, 256, (count, inputs))
        scales = random.uniform(0.01, 1, count).astype(np.float32)
        sums = (rows[:, :inputs].astype(np.int64) - 128) @ unpacked(linear)[:outputs, :inputs].T.astype(np.int64)
        product = sums * np.outer(scales.astype(np.float64), linear.scales[:outputs])
        terms = np.abs(product)
    else:
        rows[:, :inputs] = to_bf16(random.standard_normal((count, inputs)))
        x, w = from_bf16(rows[:, :inputs]), from_bf16(weight)
        product, terms = x @ w.T, np.abs(x) @ np.abs(w).T
    if bias is not None:
        product, terms = product + bias, terms + np.abs(bias)
    return Case(linear, rows, scales, product, terms)


def run(case: Case, pool: Any, kernels: str, into: Into, out: Array, **options: Any) -> Array:
    multiply(case.linear, case.rows, out, into=into, scales=case.scales, pool=pool, kernels=kernels, **options)
    return out


@FORMATS
def test_product(int8: bool, kernels: str, pool: Any, random: np.random.Generator) -> None:
    """STORE and ADD, any shape; what lies between and behind the rows of the output is left alone."""
    for number in range(CASES):
        outputs, inputs = int(random.integers(1, 200)), int(random.integers(1, 700))
        count = int(random.choice([1, 2, 3, 5, 8, 11, 12, 13, 24, 25, 40]))
        print("outputs", outputs, "inputs", inputs, "rows", count)
        case = make(
            random, pool, kernels, int8=int8, outputs=outputs, inputs=inputs, count=count, biased=bool(number % 3)
        )
        room = np.full((count, outputs + int(random.integers(0, 40))), 7, np.float32)
        out = run(case, pool, kernels, Into.STORE, room[:, :outputs], chunk=int(random.integers(1, 6)))
        assert (np.abs(out - case.product) <= case.tolerance).all()
        assert (room[:, outputs:] == 7).all()
        before = random.standard_normal((count, outputs)).astype(np.float32)
        added = run(case, pool, kernels, Into.ADD, before.copy())
        np.testing.assert_array_equal(added, before + out)


@FORMATS
@pytest.mark.parametrize(("outputs", "inputs", "count"), [(96, 4096, 130), (64, 1536, 700), (1056, 64, 2048)])
def test_many_rows(
    outputs: int, inputs: int, count: int, int8: bool, kernels: str, pool: Any, random: np.random.Generator
) -> None:
    """More rows than are multiplied at a time, so that their activations stay in the cache."""
    case = make(random, pool, kernels, int8=int8, outputs=outputs, inputs=inputs, count=count)
    out = run(case, pool, kernels, Into.STORE, np.empty((count, outputs), np.float32))
    assert (np.abs(out - case.product) <= case.tolerance).all()


@FORMATS
@pytest.mark.parametrize("into", [Into.GATE, Into.GATE_BF16])
def test_gates(into: Into, int8: bool, kernels: str, pool: Any, random: np.random.Generator) -> None:
    for _ in range(CASES // 2):
        outputs, inputs = PANEL * int(random.integers(1, 6)), int(random.integers(1, 300))
        count = int(random.integers(1, 30))
        print("outputs", outputs, "inputs", inputs, "rows", count)
        case = make(random, pool, kernels, int8=int8, outputs=outputs, inputs=inputs, count=count)
        gate, up = np.moveaxis(case.product.reshape(count, -1, 2, PANEL // 2), 2, 0)
        gate_error, up_error = np.moveaxis(case.tolerance.reshape(count, -1, 2, PANEL // 2), 2, 0)
        with np.errstate(over="ignore"):
            gated = gate / (1 + np.exp(-gate))
        exact = gated * up
        # The gate's slope is at most 1.1; exp is good to about two roundings, and four operations follow.
        tolerance = 1.1 * gate_error * (np.abs(up) + up_error) + np.abs(gated) * up_error
        tolerance += np.abs(exact) * 10 * ROUNDING + 1e-30
        if into == Into.GATE_BF16:
            out = run(case, pool, kernels, into, apart(random, (count, outputs // 2), np.uint16))
            values, tolerance = from_bf16(out), tolerance + np.abs(exact) * BF16_ROUNDING
        else:
            values = run(case, pool, kernels, into, apart(random, (count, outputs // 2), np.float32))
        assert (np.abs(values - exact.reshape(count, -1)) <= tolerance.reshape(count, -1)).all()


@FORMATS
@pytest.mark.parametrize("count", [*range(1, 30), 64, 500])
def test_a_row_comes_out_the_same_in_any_company(
    count: int, int8: bool, kernels: str, pool: Any, random: np.random.Generator
) -> None:
    """Bit for bit: how many rows there are decides neither the order of sums, nor do other rows or threads."""
    case = make(random, pool, kernels, int8=int8, outputs=70, inputs=1100 if count == 500 else 130, count=count)
    together = run(case, pool, kernels, Into.STORE, np.empty((count, 70), np.float32))
    one_thread = native.make_pool(1)
    for row in sorted({0, count // 2, count - 1}):
        scales = None if case.scales is None else case.scales[row : row + 1]
        alone = Case(case.linear, case.rows[row : row + 1], scales, case.product, case.terms)
        out = run(alone, one_thread, kernels, Into.STORE, np.empty((1, 70), np.float32), chunk=3)
        np.testing.assert_array_equal(out[0], together[row])


def test_sums_of_extreme_bytes_are_exact(kernels: str, pool: Any) -> None:
    """Products of 255 and 127 don't fit 16 bits in pairs, where some instructions would saturate."""
    outputs, inputs = 33, 4096
    signs = np.where(np.arange(outputs) % 2, -1.0, 1.0)[:, None] * np.ones((outputs, inputs))
    linear = pack(to_bf16(signs), int8=True, pool=pool, kernels=kernels)
    rows = np.stack([np.full(inputs, 255, np.uint8), np.zeros(inputs, np.uint8)])
    out = np.empty((2, outputs), np.float32)
    multiply(linear, rows, out, scales=np.ones(2, np.float32), pool=pool, kernels=kernels)
    exact = np.outer([127.0, -128.0], signs[:, 0]) * inputs
    np.testing.assert_allclose(out, exact, rtol=4 * ROUNDING)


def test_packed_bf16_is_the_same_weights(kernels: str, pool: Any, random: np.random.Generator) -> None:
    for outputs, inputs in [(1, 1), (32, 2), (33, 31), (100, 257)]:
        weight = random.integers(0, 1 << 16, (outputs, inputs)).astype(np.uint16)
        packed = unpacked(pack(weight, int8=False, pool=pool, kernels=kernels))
        np.testing.assert_array_equal(packed[:outputs, :inputs], weight)
        assert not packed[outputs:].any()
        assert not packed[:, inputs:].any()


def test_packed_int8_is_the_nearest(kernels: str, pool: Any, random: np.random.Generator) -> None:
    for outputs, inputs in [(1, 1), (32, 4), (33, 31), (100, 777)]:
        weight = to_bf16(random.standard_normal((outputs, inputs)) * 10.0 ** random.uniform(-20, 20, (outputs, 1)))
        weight[outputs // 2] = 0
        linear = pack(weight, int8=True, pool=pool, kernels=kernels)
        assert linear.scales is not None
        assert linear.sums is not None
        packed, exact = unpacked(linear).astype(np.int64), from_bf16(weight)
        scales = linear.scales[:outputs, None].astype(np.float64)
        error = np.abs(packed[:outputs, :inputs] * scales - exact)
        assert (error <= scales * 0.5 * (1 + 1e-4)).all()
        whole = np.abs(exact).max(axis=1) > 0
        assert (np.abs(packed[:outputs]).max(axis=1)[whole] == 127).all()
        assert (linear.scales[:outputs] > 0).tolist() == whole.tolist()
        np.testing.assert_array_equal(linear.sums, packed.sum(axis=1))
        assert not packed[outputs:].any()
        assert not packed[:, inputs:].any()
        assert not linear.scales[outputs:].any()


def test_what_is_not_a_number_stays_so(kernels: str, pool: Any) -> None:
    weight = np.full((PANEL, 2), 0x3F80, np.uint16)
    weight[3, 1] = 0x7FC0
    linear = pack(weight, int8=False, pool=pool, kernels=kernels)
    rows = np.full((1, 2), 0x3F80, np.uint16)
    out = np.empty((1, PANEL), np.float32)
    multiply(linear, rows, out, pool=pool, kernels=kernels)
    assert np.isnan(out[0]).nonzero()[0].tolist() == [3]
    half = np.empty((1, PANEL // 2), np.uint16)
    multiply(linear, rows, half, into=Into.GATE_BF16, pool=pool, kernels=kernels)
    assert np.isnan(from_bf16(half[0])).nonzero()[0].tolist() == [3]


class TestChecks:
    """C++ gets addresses, so what is wrong must be found before."""

    def linear(self, pool: Any) -> PackedLinear:
        return pack(np.zeros((40, 6), np.uint16), int8=False, pool=pool)

    @pytest.mark.parametrize(
        "weight", [np.zeros((4, 4), np.float32), np.zeros((4, 4), np.uint16).T[::2], np.zeros((0, 4), np.uint16)]
    )
    def test_weights(self, weight: Array, pool: Any) -> None:
        with pytest.raises(ValueError, match="weight"):
            pack(weight, int8=False, pool=pool)

    def test_bias(self, pool: Any) -> None:
        with pytest.raises(ValueError, match="bias"):
            pack(np.zeros((4, 4), np.uint16), int8=False, pool=pool, bias=np.zeros(5, np.float32))

    @pytest.mark.parametrize(
        "rows",
        [
            np.zeros((3, 4), np.uint16),
            np.zeros((3, 6), np.uint8),
            np.zeros((3, 12), np.uint16)[:, ::2],
            np.zeros((6, 3), np.uint16).T,
        ],
    )
    def test_rows(self, rows: Array, pool: Any) -> None:
        with pytest.raises(ValueError, match="rows"):
            multiply(self.linear(pool), rows, np.zeros((3, 40), np.float32), pool=pool)

    @pytest.mark.parametrize("out", [np.zeros((3, 39), np.float32), np.zeros((3, 40)), np.zeros((2, 40), np.float32)])
    def test_out(self, out: Array, pool: Any) -> None:
        with pytest.raises(ValueError, match="out"):
            multiply(self.linear(pool), np.zeros((3, 6), np.uint16), out, pool=pool)

    def test_rows_of_out_that_overlap(self, pool: Any) -> None:
        out = np.lib.stride_tricks.as_strided(np.zeros(200, np.float32), (3, 40), (20, 4))
        with pytest.raises(ValueError, match="out"):
            multiply(self.linear(pool), np.zeros((3, 6), np.uint16), out, pool=pool)

    def test_gates_of_half_a_panel(self, pool: Any) -> None:
        with pytest.raises(ValueError, match="whole panels"):
            multiply(
                self.linear(pool), np.zeros((3, 6), np.uint16), np.zeros((3, 20), np.float32), into=Into.GATE, pool=pool
            )

    def test_scales_without_int8(self, pool: Any) -> None:
        with pytest.raises(ValueError, match="scales"):
            multiply(
                self.linear(pool),
                np.zeros((3, 6), np.uint16),
                np.zeros((3, 40), np.float32),
                scales=np.ones(3, np.float32),
                pool=pool,
            )

    def test_weights_that_begin_anywhere(self) -> None:
        data = aligned((1, 3, 32, 2, 2), np.uint16).reshape(-1)[1 : 1 + 192].reshape(1, 3, 32, 2)
        with pytest.raises(ValueError, match="64"):
            PackedLinear(20, 6, data)

    def test_kernels_that_there_are_not(self, pool: Any) -> None:
        with pytest.raises(NativeError, match=r"'fast'.*there are .*portable"):
            choose("fast")
        assert choose() == available()[0]
