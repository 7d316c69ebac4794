"""Number formats of weights and of the KV cache."""

from __future__ import annotations

from enum import StrEnum


class Precision(StrEnum):
    """``bf16`` stands for fp16 as well: GPUs compute both at one rate."""

    FP32 = "fp32"
    BF16 = "bf16"
    FP8 = "fp8"
    INT8 = "int8"
    INT4 = "int4"
    FP4 = "fp4"

    @property
    def bytes(self) -> float:
        """Bytes per number, without the scales of quantised blocks."""
        return _BYTES[self]

    @property
    def computes_as(self) -> Precision:
        """The format in which products are computed: 4-bit integer weights are expanded to bf16 first."""
        return Precision.BF16 if self is Precision.INT4 else self


_BYTES = {
    Precision.FP32: 4.0,
    Precision.BF16: 2.0,
    Precision.FP8: 1.0,
    Precision.INT8: 1.0,
    Precision.INT4: 0.5,
    Precision.FP4: 0.5,
}
