"""Linear layers with weights laid out once, at load, in the form that this processor multiplies fastest.

Which form that is was measured: see ``docs/log.md``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional

HALF_MAX = 65504.0
"""The largest fp16 number. No weight that anyone trains comes near it; a layer with a larger one stays in fp32."""

PACKED_ROWS = 64
"""The batch that oneDNN is told to expect when it chooses a layout."""


class Linear(Protocol):
    def __call__(self, rows: Tensor) -> Tensor:
        """``rows`` ([rows >= 1, inputs], the kernel's compute type) times the weights, plus the bias.

        Returns [rows, outputs], which the caller may overwrite.
        """
        ...


class Kernel(ABC):
    """A way to store and multiply weights.

    ``compute`` is the type of what goes in and comes out, ``storage`` that of tables that are only looked up in.
    """

    name: str
    compute: torch.dtype
    storage: torch.dtype

    @abstractmethod
    def pack(self, weight: Tensor, bias: Tensor | None) -> Linear:
        """``weight``: [outputs, inputs] in any float type. It may be kept, so it is not to be written afterwards."""


class PlainLinear:
    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self._weight = weight
        self._bias = bias

    def __call__(self, rows: Tensor) -> Tensor:
        return functional.linear(rows, self._weight, self._bias)


class PlainKernel(Kernel):
    """One type throughout. In fp32 it is exact, at twice the memory traffic of the others."""

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        self.name = f"{str(dtype).removeprefix('torch.')} weights (torch)"
        self.compute = self.storage = dtype

    def pack(self, weight: Tensor, bias: Tensor | None) -> Linear:
        return PlainLinear(weight.to(self.compute), None if bias is None else bias.to(self.compute))


class HalfLinear:
    def __init__(self, packed: Any) -> None:
        self._packed = packed
        # Naming the overload saves looking for it at every call, a tenth of the time of a small layer at one row.
        self._multiply = torch.ops.quantized.linear_dynamic_fp16.default

    def __call__(self, rows: Tensor) -> Tensor:
        product: Tensor = self._multiply(rows, self._packed)
        return product


class HalfKernel(Kernel):
    """Weights as fp16, multiplied in fp32 (fbgemm): half the memory traffic on processors without bf16 arithmetic.

    A bf16 weight keeps all its bits in fp16, except below 6e-5, where the error is at most 3e-8.
    """

    name = "fp16 weights, fp32 arithmetic (fbgemm)"
    compute = torch.float32
    storage = torch.bfloat16

    @staticmethod
    def is_supported() -> bool:
        return torch.backends.quantized.engine in ("x86", "fbgemm")

    def pack(self, weight: Tensor, bias: Tensor | None) -> Linear:
        if not float(weight.abs().max()) <= HALF_MAX:
            return PlainKernel().pack(weight, bias)
        bias = None if bias is None else bias.float()
        return HalfLinear(torch.ops.quantized.linear_prepack_fp16(weight.float(), bias))


class BrainLinear:
    def __init__(self, packed: Tensor, bias: Tensor | None) -> None:
        self._packed = packed
        self._bias = bias

    def __call__(self, rows: Tensor) -> Tensor:
        product: Tensor = torch.ops.mkldnn._linear_pointwise(rows, self._packed, self._bias, "none", [], "")
        return product


class BrainKernel(Kernel):
    """bf16 weights and products, summed in fp32 (oneDNN), on processors that multiply bf16 themselves."""

    name = "bf16 weights and arithmetic (oneDNN)"
    compute = torch.bfloat16
    storage = torch.bfloat16

    @staticmethod
    def is_supported() -> bool:
        if not (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()):
            return False
        try:  # the operations are torch's own, but not part of its public interface
            trial = BrainKernel().pack(torch.ones(32, 16), None)
            return all(bool((trial(torch.ones(rows, 16, dtype=torch.bfloat16)) == 16).all()) for rows in (1, 3))
        except (RuntimeError, AttributeError):
            return False

    def pack(self, weight: Tensor, bias: Tensor | None) -> Linear:
        packed = torch.ops.mkldnn._reorder_linear_weight(weight.bfloat16().contiguous(), PACKED_ROWS)
        return BrainLinear(packed, None if bias is None else bias.bfloat16())


def choose_kernel(dtype: str) -> Kernel:
    """The kernel for weights stored as ``dtype`` ("bfloat16" or "float32") on this processor."""
    assert dtype in ("bfloat16", "float32")
    if dtype == "bfloat16" and BrainKernel.is_supported():
        return BrainKernel()
    if dtype == "bfloat16" and HalfKernel.is_supported():
        return HalfKernel()
    return PlainKernel()
