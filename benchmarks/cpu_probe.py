"""How fast the machine is just now: the yardstick of ``benchmarks.cpu``, taken between any two measurements.

With the compiled kernels: a plain read of memory, and registers' dot products, which is what the processor can do at
most. Without them, torch's own kernels. Beside that, once at the start and once at the end, what torch's matrix
products reach, which is what a model can hope for.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from headway.engine import native

READ_BYTES = 512 << 20
"""Far more than any cache holds."""
READ_REPEATS = 4
DOT_ROUNDS = 8_000_000
DOT_REPEATS = 3
GEMM_SHAPE = (512, 1024, 2816)
"""Rows, inner, columns: a long prompt through a layer of a small model."""
GEMM_REPEATS = 12
STEADY = 0.15
"""Relative change between two probes that is still steadiness."""


@dataclass(frozen=True, slots=True)
class Speeds:
    """Memory read in GB/s; dot products in Gop/s, a multiplication and an addition being two."""

    read: float
    bf16: float
    int8: float

    def of(self, precision: str) -> float:
        """The rate of dot products in it."""
        return self.bf16 if precision == "bf16" else self.int8

    def mean(self, other: Speeds) -> Speeds:
        return Speeds((self.read + other.read) / 2, (self.bf16 + other.bf16) / 2, (self.int8 + other.int8) / 2)

    def strays_from(self, other: Speeds) -> bool:
        """By more than ``STEADY`` in any of the three."""
        pairs = ((self.read, other.read), (self.bf16, other.bf16), (self.int8, other.int8))
        return any(abs(ours - theirs) > STEADY * max(ours, theirs) for ours, theirs in pairs)

    def __str__(self) -> str:
        return f"{self.read:.1f} GB/s, bf16 {self.bf16:.0f} and int8 {self.int8:.0f} Gop/s"


class Probe:
    """Keeps its memory and its threads from one use to the next. ``name``: whose speed it is. ``products``: the best of
    ``gemm_rates`` so far, by precision."""

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._data = np.ones(READ_BYTES // 8, dtype=np.int64)
        self._pool = None if native.why_not() else native.make_pool(threads, tuple(sorted(os.sched_getaffinity(0))))
        if self._pool is not None and not native.load().dot(self._pool, False, 1):
            self._pool = None  # not a processor with such instructions
        self.name = "torch" if self._pool is None else "registers"
        self.products = {"bf16": 0.0, "int8": 0.0}
        self._best = Speeds(0.0, 0.0, 0.0)

    def speeds(self) -> Speeds:
        """The best of a few short tries: half a second in all."""
        if self._pool is None:
            rates = gemm_rates(self._threads)
            now = Speeds(_torch_read(self._data, self._threads), rates["bf16"], rates["int8"])
        else:
            pool, data, read = self._pool, self._data, native.load().read
            read_s = best_s(lambda: read(pool, data.ctypes.data, data.nbytes), READ_REPEATS)
            now = Speeds(data.nbytes / read_s / 1e9, self._dot(int8=False), self._dot(int8=True))
        best = self._best
        self._best = Speeds(max(now.read, best.read), max(now.bf16, best.bf16), max(now.int8, best.int8))
        return now

    def measure_products(self) -> None:
        """A second or two."""
        rates = gemm_rates(self._threads)
        self.products = {each: max(rates[each], self.products[each]) for each in rates}

    def reached(self) -> dict[str, float]:
        """What share of the dot products' rate torch's matrix products reach, by precision; 1 where it isn't known."""
        shares = {each: self.products[each] / (self._best.of(each) or 1.0) for each in self.products}
        return {each: share or 1.0 for each, share in shares.items()}

    def _dot(self, *, int8: bool) -> float:
        pool, dot = self._pool, native.load().dot
        seconds = best_s(lambda: dot(pool, int8, DOT_ROUNDS), DOT_REPEATS)
        operations: float = dot(pool, int8, 1) * DOT_ROUNDS
        return operations / seconds / 1e9


def gemm_rates(threads: int) -> dict[str, float]:
    """Of torch's matrix products, in Gop/s, best of several, by precision; int8 is 0 where torch has none."""
    import torch

    torch.set_num_threads(threads)
    rows, inner, columns = GEMM_SHAPE
    operations = 2 * rows * inner * columns
    left, right = torch.randn(rows, inner).bfloat16(), torch.randn(columns, inner).bfloat16().T
    small, wide = (each.mul(10).to(torch.int8) for each in (left, right))
    rates = {"bf16": operations / best_s(lambda: left @ right, GEMM_REPEATS) / 1e9, "int8": 0.0}
    with contextlib.suppress(RuntimeError):  # some builds of torch have none for CPUs
        rates["int8"] = operations / best_s(lambda: torch._int_mm(small, wide), GEMM_REPEATS) / 1e9
    return rates


def best_s(work: Callable[[], object], repeats: int) -> float:
    best = float("inf")
    for _ in range(repeats):
        start_s = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - start_s)
    return best


def _torch_read(data: np.ndarray[Any, Any], threads: int) -> float:
    import torch

    torch.set_num_threads(threads)
    return data.nbytes / best_s(torch.from_numpy(data).sum, READ_REPEATS) / 1e9
