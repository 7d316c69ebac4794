"""Linear layers with weights laid out once, at load, in the form that this processor multiplies fastest."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional


class Linear(Protocol):
    def __call__(self, rows: Tensor) -> Tensor:
        """``rows`` ([rows, inputs], the kernel's compute type) times the weights, plus the bias: [rows, outputs]."""
        ...


class Kernel(Protocol):
    """A way to store and multiply weights. ``compute`` is the type of what goes in and comes out."""

    @property
    def name(self) -> str: ...

    @property
    def compute(self) -> torch.dtype: ...

    def pack(self, weight: Tensor, bias: Tensor | None) -> Linear:
        """``weight``: [outputs, inputs] in any float type. It may be kept, so it is not to be written afterwards."""
        ...

    def keep(self, weight: Tensor) -> Tensor:
        """``weight`` in memory of its own, in the type that tables to look up in are stored."""
        ...


class PlainLinear:
    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self._weight = weight
        self._bias = bias

    def __call__(self, rows: Tensor) -> Tensor:
        return functional.linear(rows, self._weight, self._bias)


class PlainKernel:
    """Weights as they are, in the compute type."""

    name = "plain fp32"
    compute = torch.float32

    def keep(self, weight: Tensor) -> Tensor:
        return weight.to(self.compute, copy=True)

    def pack(self, weight: Tensor, bias: Tensor | None) -> Linear:
        return PlainLinear(weight.to(self.compute), None if bias is None else bias.to(self.compute))


def choose_kernel(dtype: str) -> Kernel:
    """The kernel for weights stored as ``dtype`` ("bfloat16" or "float32") on this processor."""
    return PlainKernel()
