"""Root-mean-square norm: x / sqrt(mean(x^2) + epsilon) * weight, in fp32. Source: Zhang and Sennrich, 2019."""

from __future__ import annotations

import math

import torch
from torch import Tensor


class RmsNorm:
    """A norm over the last dimension.

    Computed as x / hypot(|x|, sqrt(size * epsilon)) * (weight * sqrt(size)), which is the same number in four short
    operations: torch's own takes ten, and at one row the operations are what costs.
    """

    def __init__(self, weight: Tensor, epsilon: float, result: torch.dtype) -> None:
        """``weight``: fp32, [size]. ``result`` is the type of what comes out."""
        size = weight.shape[0]
        self._scale = weight * math.sqrt(size)
        self._floor = torch.tensor(math.sqrt(size * epsilon))
        self._result = result

    def __call__(self, values: Tensor) -> Tensor:
        values = values.float()
        length = torch.linalg.vector_norm(values, dim=-1, keepdim=True)
        normed = values.div(length.hypot_(self._floor)).mul_(self._scale)
        return normed if self._result is torch.float32 else normed.to(self._result)
