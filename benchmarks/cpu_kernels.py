"""The compiled linear layers and attention, held against the machine: how much of its limit each reaches.

A product can be no faster than its weights are read from memory, nor than the processor multiplies; both limits are
measured in the same run, before and after. Each layer is there in so many copies that none of it is still in a cache
when its turn comes, as in a model. torch's own bf16 layers take turns with ours. Attention: see ``cpu_attention``.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from benchmarks import cpu_attention
from headway.engine import native
from headway.engine.linear import BrainKernel

if TYPE_CHECKING:
    from headway.engine import _native

SHAPES = ("960x576", "3072x576", "576x1536", "1536x1024", "5632x1024", "1024x2816")
"""Outputs x inputs. The first three are those of SmolLM2-135M."""
ROWS = (1, 2, 4, 8, 12, 16, 32, 64, 128, 512, 2048)
COLD_BYTES = 160 * 1024 * 1024
"""Of all copies of a layer: several times what a cache holds."""
READ_BYTES = 512 * 1024 * 1024
DOT_ROUNDS = 2_000_000
TURN_S = 0.05
"""About how long one measurement takes."""

Array = native.Array


@dataclass(frozen=True)
class Limits:
    """Bytes a second, and operations a second by whether they are of int8."""

    read: float
    operations: dict[bool, float]

    def seconds(self, shape: str, rows: int, int8: bool) -> float:
        """What a product takes at least: the nearer limit, of reading the weights or of the arithmetic."""
        outputs, inputs = sizes(shape)
        weight_bytes = outputs * inputs * (1 if int8 else 2)
        return max(weight_bytes / self.read, 2 * rows * outputs * inputs / self.operations[int8])

    def or_better(self, other: Limits) -> Limits:
        better = {int8: max(rate, other.operations[int8]) for int8, rate in self.operations.items()}
        return Limits(max(self.read, other.read), better)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--kernels", default="", help="avx512, avx2 or portable; the best if not given")
    parser.add_argument("--shapes", default=",".join(SHAPES), help="outputs x inputs, as in 1024x2816")
    parser.add_argument("--rows", default=",".join(map(str, ROWS)))
    parser.add_argument(
        "--attention", default=",".join(cpu_attention.SHAPES), help="heads x key/value heads x head_dim"
    )
    parser.add_argument("--repeats", type=int, default=5, help="turns; the best counts")


def run(arguments: argparse.Namespace) -> dict[str, float | int | str]:
    torch.set_num_threads(arguments.threads)
    pool = native.make_pool(arguments.threads)
    kernels = native.choose(arguments.kernels)
    before = measure_limits(pool)
    times = {
        (shape, rows): _measure(shape, rows, pool, kernels, arguments.repeats)
        for shape in arguments.shapes.split(",")
        for rows in map(int, arguments.rows.split(","))
    }
    shapes = [shape for shape in arguments.attention.split(",") if shape]
    attention = [case for shape in shapes for case in cpu_attention.measure(shape, pool, kernels, arguments.repeats)]
    limits = before.or_better(measure_limits(pool))
    figures: dict[str, float | int | str] = {
        "kernels": kernels,
        "threads": arguments.threads,
        "limit_read_gb_s": round(limits.read / 1e9, 1),
        "limit_bf16_gflop_s": round(limits.operations[False] / 1e9, 1),
        "limit_int8_gop_s": round(limits.operations[True] / 1e9, 1),
    }
    for (shape, rows), seconds in times.items():
        shares = {name: limits.seconds(shape, rows, name == "int8") / taken for name, taken in seconds.items()}
        figures |= {f"{name}_share_{shape}_{rows}": round(share, 3) for name, share in shares.items()}
        figures |= {f"{name}_us_{shape}_{rows}": round(taken * 1e6, 1) for name, taken in seconds.items()}
        print(f"{shape:>10} {rows:5}", *(f"{name} {share:4.0%}" for name, share in shares.items()), file=sys.stderr)
    for case in attention:
        share = max(case.bytes_read / limits.read, case.operations / limits.operations[False]) / case.seconds
        figures |= {f"{case.name}_share": round(share, 3), f"{case.name}_us": round(case.seconds * 1e6, 1)}
        print(f"{case.name:>30} {case.seconds * 1e6:9.1f} us {share:4.0%}", file=sys.stderr)
    return figures


def measure_limits(pool: _native.Pool) -> Limits:
    module, buffer = native.load(), np.ones(READ_BYTES, np.uint8)
    read = READ_BYTES / _best(lambda: module.read(pool, buffer.ctypes.data, READ_BYTES), 5)
    operations = {}
    for int8 in (False, True):
        done = module.dot(pool, int8, DOT_ROUNDS)
        seconds = _best(lambda int8=int8: module.dot(pool, int8, DOT_ROUNDS), 3)  # type: ignore[misc]
        operations[int8] = done / seconds if done else float("inf")
    return Limits(read, operations)


def _measure(shape: str, rows: int, pool: _native.Pool, kernels: str, repeats: int) -> dict[str, float]:
    """Seconds of one product, by who does it."""
    random = np.random.default_rng(0)
    outputs, inputs = sizes(shape)
    weight = random.integers(0x3C00, 0x3D00, (outputs, inputs)).astype(np.uint16)
    turns = {
        "bf16": _native_turn(weight, rows, False, pool, kernels, random),
        "int8": _native_turn(weight, rows, True, pool, kernels, random),
    }
    if BrainKernel.is_supported():
        turns["torch_bf16"] = _torch_turn(weight, rows)
    for turn in turns.values():
        turn(1)
    times = {name: max(2, round(TURN_S / turn(2))) for name, turn in turns.items()}
    best = dict.fromkeys(turns, float("inf"))
    for _ in range(repeats):
        for name, turn in turns.items():
            best[name] = min(best[name], turn(times[name]))
    return best


def sizes(shape: str) -> tuple[int, int]:
    outputs, inputs = map(int, shape.split("x"))
    return outputs, inputs


def _native_turn(
    weight: Array, rows: int, int8: bool, pool: _native.Pool, kernels: str, random: np.random.Generator
) -> Callable[[int], float]:
    """Multiplies as often as it is told, and tells the seconds of one."""
    first = native.pack(weight, int8=int8, pool=pool, kernels=kernels)
    copies = [first]
    for _ in range(COLD_BYTES // first.data.nbytes):
        data = native.aligned(first.data.shape, first.data.dtype)
        data[:] = first.data
        copies.append(native.PackedLinear(first.outputs, first.inputs, data, first.scales, first.sums))
    layers = [copy.native() for copy in copies]
    outputs, inputs = weight.shape
    numbers = random.integers(100, 150, (rows, inputs)).astype(np.uint8 if int8 else np.uint16)
    scales, out = np.ones(rows, np.float32), np.empty((rows, outputs), np.float32)
    multiply = native.load().multiply
    options = {
        "kernels": kernels,
        "pool": pool,
        "rows": numbers.ctypes.data,
        "stride": inputs,
        "scales": scales.ctypes.data if int8 else 0,
        "count": rows,
        "chunk": max(1, -(-outputs // native.PANEL) // (8 * pool.threads)),
        "into": int(native.Into.STORE),
        "out": out.ctypes.data,
        "out_stride": outputs,
    }

    def turn(times: int, _kept: object = (copies, numbers, scales, out)) -> float:
        begin = time.perf_counter()
        for place in range(times):
            multiply(linear=layers[place % len(layers)], **options)
        return (time.perf_counter() - begin) / times

    return turn


def _torch_turn(weight: Array, rows: int) -> Callable[[int], float]:
    wide = torch.from_numpy(weight.view(np.int16)).view(torch.bfloat16)
    layers = [BrainKernel().pack(wide, None) for _ in range(1 + COLD_BYTES // weight.nbytes)]
    numbers = torch.ones(rows, weight.shape[1], dtype=torch.bfloat16)

    def turn(times: int) -> float:
        with torch.inference_mode():
            begin = time.perf_counter()
            for place in range(times):
                layers[place % len(layers)](numbers)
            return (time.perf_counter() - begin) / times

    return turn


def _best(work: Callable[[], object], repeats: int) -> float:
    best = float("inf")
    for _ in range(repeats):
        begin = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - begin)
    return best
