"""The compiled kernels (``native/`` in the sources): whether there are any, and linear layers for those who call them.

They get plain addresses, so everything is checked here. bf16 numbers are numpy ``uint16``: the upper half of a float.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import cache
from importlib import import_module
from math import prod
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from headway.engine.memory import ALIGNMENT, Arena

if TYPE_CHECKING:
    from headway.engine import _native

PANEL = 32
"""Outputs of a linear layer that are packed together."""
GROUPS = {False: 2, True: 4}
"""Inputs that are packed together, in bf16 and in int8."""
KERNELS = ("avx512", "avx2", "portable")
"""By their speed."""

Array = NDArray[Any]


class NativeError(RuntimeError):
    """There are no compiled kernels, or not those asked for."""


class Into(IntEnum):
    """What becomes of a product. With gates, each panel's first 16 outputs are gates of its last 16."""

    STORE = 0
    ADD = 1
    GATE = 2
    GATE_BF16 = 3


@cache
def _found() -> ModuleType | str:
    try:
        return import_module("headway.engine._native")
    except ModuleNotFoundError:
        return "Headway was installed without compiled kernels: no C++ compiler, or one that failed"
    except ImportError as error:
        return f"the compiled kernels can't be loaded: {' '.join(str(error).split())}"


def why_not() -> str | None:
    """Why there are no compiled kernels, in one line; None where there are."""
    found = _found()
    return found if isinstance(found, str) else None


def load() -> Any:
    """The compiled module. Raises ``NativeError`` where there is none."""
    found = _found()
    if isinstance(found, str):
        raise NativeError(found)
    return found


def choose(name: str = "") -> str:
    """The name of the kernels called ``name``, or (empty) of ``$HEADWAY_KERNELS``, or of the best for this processor.

    Raises ``NativeError`` where this processor hasn't got them.
    """
    try:
        chosen: str = load().kernels(name)
    except ValueError as error:
        raise NativeError(f"{error}; there are {', '.join(available())}") from None
    return chosen


def available() -> tuple[str, ...]:
    """The names of all kernels that this processor can run, the best first; none where nothing was compiled."""
    if why_not() is not None:
        return ()
    names = []
    for name in KERNELS:
        try:
            names.append(load().kernels(name))
        except ValueError:
            continue
    return tuple(names)


def make_pool(threads: int, cpus: tuple[int, ...] = ()) -> _native.Pool:
    """A team of ``threads``, the caller among them. The others stay on their places in ``cpus``, if any."""
    if threads < 1:
        raise ValueError(f"a pool needs at least one thread, not {threads}")
    pool: _native.Pool = load().Pool(threads, list(cpus))
    return pool


def aligned(shape: tuple[int, ...], dtype: Any) -> Array:
    """An array whose memory begins at a cache line. Its contents are whatever was there."""
    size = prod(shape) * np.dtype(dtype).itemsize
    room = np.empty(size + ALIGNMENT, np.uint8)
    begin = -room.ctypes.data % ALIGNMENT
    array: Array = room[begin : begin + size].view(dtype).reshape(shape)
    return array


@dataclass(frozen=True, slots=True)
class PackedLinear:
    """A linear layer as the kernels read it; the arrays could be a file's.

    ``data``: [panels, groups, 32, 2] ``uint16`` or [panels, groups, 32, 4] ``int8``, aligned. With int8, a weight is
    ``scales`` (fp32) of its output times the number, and ``sums`` (int32) holds the sum of each output's numbers.
    ``bias``: fp32. These three have one entry for each output, padded to whole panels.
    """

    outputs: int
    inputs: int
    data: Array
    scales: Array | None = None
    sums: Array | None = None
    bias: Array | None = None

    def __post_init__(self) -> None:
        panels, group = _parts(self.outputs, PANEL), GROUPS[self.int8]
        shape = (panels, _parts(self.inputs, group), PANEL, group)
        _check("data", self.data, np.int8 if self.int8 else np.uint16, shape)
        if self.data.ctypes.data % ALIGNMENT:
            raise ValueError(f"packed weights begin at a multiple of {ALIGNMENT} bytes, not at {self.data.ctypes.data}")
        for name, array, dtype in (("scales", self.scales, np.float32), ("sums", self.sums, np.int32)):
            if (array is not None) != self.int8:
                raise ValueError(f"int8 weights have {name}, and no others have")
            if array is not None:
                _check(name, array, dtype, (panels * PANEL,))
        if self.bias is not None:
            _check("bias", self.bias, np.float32, (panels * PANEL,))

    @property
    def int8(self) -> bool:
        return bool(self.data.dtype == np.int8)

    def native(self) -> _native.Linear:
        """For the kernels. Keep this object as long as what is made of it is used."""
        linear: _native.Linear = load().Linear(
            int8=self.int8,
            outputs=self.outputs,
            inputs=self.inputs,
            data=self.data.ctypes.data,
            scales=address(self.scales),
            sums=address(self.sums),
            bias=address(self.bias),
        )
        return linear


def pack(
    weight: Array,
    *,
    int8: bool,
    pool: _native.Pool,
    bias: Array | None = None,
    kernels: str = "",
    arena: Arena | None = None,
) -> PackedLinear:
    """``weight``: [outputs, inputs], bf16, contiguous; ``bias``: [outputs], fp32.

    int8 is symmetric, with one scale an output: its largest magnitude becomes 127. ``arena``: where the memory for
    packed weights comes from; without one they have memory of their own.
    """
    _check("weight", weight, np.uint16, weight.shape)
    if weight.ndim != 2 or 0 in weight.shape:
        raise ValueError(f"weights are [outputs, inputs], not {list(weight.shape)}")
    outputs, inputs = weight.shape
    padded, group = _parts(outputs, PANEL) * PANEL, GROUPS[int8]
    shape, dtype = (padded // PANEL, _parts(inputs, group), PANEL, group), np.int8 if int8 else np.uint16
    data = aligned(shape, dtype) if arena is None else arena.array(shape, dtype)
    scales, sums = (np.empty(padded, np.float32), np.empty(padded, np.int32)) if int8 else (None, None)
    wide_bias = None
    if bias is not None:
        _check("bias", bias, np.float32, (outputs,))
        wide_bias = np.zeros(padded, np.float32)
        wide_bias[:outputs] = bias
    load().pack(
        kernels=choose(kernels),
        pool=pool,
        int8=int8,
        weight=weight.ctypes.data,
        outputs=outputs,
        inputs=inputs,
        data=data.ctypes.data,
        scales=address(scales),
        sums=address(sums),
    )
    return PackedLinear(outputs, inputs, data, scales, sums, wide_bias)


def multiply(
    linear: PackedLinear,
    rows: Array,
    out: Array,
    *,
    into: Into = Into.STORE,
    scales: Array | None = None,
    pool: _native.Pool,
    kernels: str = "",
    chunk: int = 4,
) -> None:
    """``out`` becomes ``rows`` times the layer, or what ``into`` says. ``chunk``: panels that a thread takes at once.

    ``rows``: [count, inputs rounded up to 2] bf16, or [count, inputs rounded up to 4] ``uint8`` with ``scales`` (fp32,
    [count]), where a value is its row's scale times (number - 128). ``out``: fp32 [count, outputs], with a gate half
    as wide, bf16 for ``GATE_BF16``. Rows may lie apart in both.
    """
    gated = into in (Into.GATE, Into.GATE_BF16)
    if gated and linear.outputs % PANEL:
        raise ValueError(f"a gated layer has whole panels of {PANEL} outputs, not {linear.outputs}")
    if (scales is not None) != linear.int8:
        raise ValueError("rows have scales where weights are int8, and nowhere else")
    if chunk < 1:
        raise ValueError(f"a thread takes at least one panel, not {chunk}")
    count, group = len(rows), GROUPS[linear.int8]
    width = _parts(linear.inputs, group) * group
    columns = linear.outputs // 2 if gated else linear.outputs
    if scales is not None:
        _check("scales", scales, np.float32, (count,))
    stride = _stride("rows", rows, np.uint8 if linear.int8 else np.uint16, (count, width))
    out_stride = _stride("out", out, np.uint16 if into == Into.GATE_BF16 else np.float32, (count, columns))
    if not out.flags.writeable:
        raise ValueError("out is read-only")
    load().multiply(
        kernels=choose(kernels),
        pool=pool,
        linear=linear.native(),
        rows=rows.ctypes.data,
        stride=stride,
        scales=address(scales),
        count=count,
        chunk=chunk,
        into=int(into),
        out=out.ctypes.data,
        out_stride=out_stride,
    )


def largest(values: Array, *, pool: _native.Pool | None = None, kernels: str = "") -> list[int | None]:
    """The first index of each row's largest number; None where one is NaN or the largest is infinite.

    ``values``: fp32, [rows, count]. Rows may lie apart.
    """
    rows, count = values.shape
    stride = _stride("values", values, np.float32, (rows, count))
    found = load().largest(
        kernels=choose(kernels), pool=pool, values=values.ctypes.data, stride=stride, rows=rows, count=count
    )
    return [None if index < 0 else index for index in found]


@dataclass(frozen=True, slots=True)
class Rule:
    """How one token is drawn: ``SamplingParams``' rules 4 to 7, and ``number``, in [0, 1), that decides."""

    temperature: float
    top_k: int
    top_p: float
    min_p: float
    number: float


def sample(
    logits: Array, rules: Sequence[Rule], *, pool: _native.Pool | None = None, kernels: str = ""
) -> list[int | None]:
    """The first token of each row at which the cumulative probability exceeds the rule's number times its total.

    None where ``largest`` says so, or where the largest logit over the temperature is infinite.
    ``logits``: fp32, [rows, vocabulary]. Rows may lie apart.
    """
    rows, count = logits.shape
    stride = _stride("logits", logits, np.float32, (rows, count))
    if rows != len(rules):
        raise ValueError(f"{rows} rows of logits, but {len(rules)} rules")
    for rule in rules:
        if not (rule.temperature > 0.0 and rule.top_k >= 1 and 0.0 <= rule.number < 1.0):
            raise ValueError(f"no token can be drawn by {rule}")
    given = [(rule.temperature, min(rule.top_k, count), rule.top_p, rule.min_p, rule.number) for rule in rules]
    drawn = load().sample(
        kernels=choose(kernels), pool=pool, logits=logits.ctypes.data, stride=stride, count=count, rules=given
    )
    return [None if token < 0 else token for token in drawn]


def _parts(count: int, size: int) -> int:
    return -(-count // size)


def address(array: Array | None) -> int:
    """Where an array's numbers begin; 0 for none."""
    return 0 if array is None else int(array.ctypes.data)


def _check(name: str, array: Array, dtype: Any, shape: tuple[int, ...]) -> None:
    if array.dtype != dtype or array.shape != shape or not array.flags.c_contiguous:
        raise ValueError(
            f"{name} is to be a contiguous {np.dtype(dtype)} {list(shape)}, not {array.dtype} {list(array.shape)}"
        )


def _stride(name: str, array: Array, dtype: Any, shape: tuple[int, int]) -> int:
    """The distance of two rows, in numbers."""
    size = np.dtype(dtype).itemsize
    apart = array.strides[0] if array.ndim == 2 and len(array) > 1 else shape[1] * size
    inner = array.strides[1] if array.ndim == 2 and shape[1] > 1 else size
    if array.dtype != dtype or array.shape != shape or inner != size or apart < shape[1] * size or apart % size:
        raise ValueError(f"{name} is to be {np.dtype(dtype)} rows {list(shape)}, not {array.dtype} {list(array.shape)}")
    return int(apart // size)
