"""Packed linear layers against the same product in fp64."""

from __future__ import annotations

import pytest
import torch

from headway.engine.linear import BrainKernel, HalfKernel, Kernel, PlainKernel, choose_kernel

KERNELS: dict[str, tuple[Kernel, bool, float]] = {
    "plain": (PlainKernel(), True, 1e-6),
    "half": (HalfKernel(), HalfKernel.is_supported(), 1e-6),
    "brain": (BrainKernel(), BrainKernel.is_supported(), 1e-2),
}
"""Each with whether this processor has it, and its error in the product of bf16 weights, relative to the largest."""


@pytest.mark.parametrize("rows", [1, 2, 7, 64])
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("name", KERNELS)
def test_product(name: str, biased: bool, rows: int) -> None:
    kernel, is_supported, tolerance = KERNELS[name]
    if not is_supported:
        pytest.skip("this processor has no such instructions")
    generator = torch.Generator().manual_seed(rows)
    weight = torch.randn(96, 70, generator=generator).to(torch.bfloat16)
    bias = torch.randn(96, generator=generator).to(torch.bfloat16) if biased else None
    inputs = torch.randn(rows, 70, generator=generator).to(kernel.compute)
    product = kernel.pack(weight, bias)(inputs)
    exact = inputs.double() @ weight.double().T + (0 if bias is None else bias.double())
    assert product.dtype == kernel.compute
    assert (product - exact).abs().max() <= tolerance * exact.abs().max()


def test_small_weights_lose_little_as_fp16() -> None:
    if not HalfKernel.is_supported():
        pytest.skip("this processor has no such kernel")
    weight = torch.full((1, 1), 3e-6, dtype=torch.bfloat16)
    product = HalfKernel().pack(weight, None)(torch.ones(1, 1))
    assert abs(float(product) - float(weight)) <= 3e-8


def test_weights_too_large_for_fp16_stay_as_they_are() -> None:
    if not HalfKernel.is_supported():
        pytest.skip("this processor has no such kernel")
    weight = torch.tensor([[1e6, -1.0]], dtype=torch.bfloat16)
    product = HalfKernel().pack(weight, None)(torch.tensor([[1.0, 1.0]]))
    assert float(product) == float(weight[0, 0].float() - 1.0)


def test_float32_is_never_rounded() -> None:
    assert isinstance(choose_kernel("float32"), PlainKernel)
