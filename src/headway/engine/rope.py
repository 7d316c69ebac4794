"""Rotary position embedding: frequencies, angles, and the rotation of queries and keys.

Checkpoints turn dimension ``i`` of a head with dimension ``i + head_dim / 2``. Here the two lie side by side, so that
a pair is one complex number and a rotation one product: ``pair_up`` reorders the rows of the query and key projections
when they are loaded. Both are reordered alike, which leaves every score as it was.

Sources: Su et al. 2021 (RoFormer); linear scaling as in Chen et al. 2023 (position interpolation); YaRN, Peng et al.
2023; llama3 as in the Llama 3.1 release.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from headway.models.rotary import RopeConfig

RAMP_WIDTH_MIN = 1e-3
"""Keeps YaRN's ramp from dividing by zero where its two ends fall together."""


def pair_up(weight: Tensor, head_dim: int) -> Tensor:
    """``weight`` ([heads * head_dim, ...]), the two dimensions that turn together side by side."""
    halves = weight.view(-1, 2, head_dim // 2, *weight.shape[1:])
    return halves.transpose(1, 2).reshape(weight.shape)


class Rotary:
    """The frequencies of a model's rotary positions. Angles are computed as needed: a table for a context of 131,072
    positions would take more memory than some models."""

    def __init__(self, config: RopeConfig, head_dim: int) -> None:
        self._frequencies, scale = frequencies(config, head_dim)
        self._scale = torch.tensor(scale)

    def at(self, positions: Tensor) -> Rotation:
        """The rotation for tokens at ``positions`` (int64, [tokens])."""
        return Rotation(torch.polar(self._scale, positions.view(-1, 1, 1) * self._frequencies))


class Rotation:
    """Complex numbers on a circle for the tokens of one step, [tokens, 1, head_dim / 2]."""

    def __init__(self, phasors: Tensor) -> None:
        self._phasors = phasors

    def __call__(self, heads: Tensor) -> None:
        """Turn ``heads`` ([tokens, heads, head_dim]) by the position of each token, in place; computed in fp32."""
        values = heads.float()
        torch.view_as_complex(values.view(*values.shape[:-1], -1, 2)).mul_(self._phasors)
        if values is not heads:
            heads.copy_(values)


def frequencies(config: RopeConfig, head_dim: int) -> tuple[Tensor, float]:
    """Radians a position for each pair of dimensions (fp32, [head_dim / 2]), and the scale of cosine and sine."""
    steps = torch.arange(0, head_dim, 2, dtype=torch.int64).float() / head_dim
    plain = 1.0 / (config.theta**steps)
    if config.kind == "linear":
        return plain / config.factor, 1.0
    if config.kind == "llama3":
        return _llama3(config, plain), 1.0
    if config.kind == "yarn":
        return _yarn(config, plain, head_dim), _yarn_scale(config)
    return plain, 1.0


def _llama3(config: RopeConfig, frequencies: Tensor) -> Tensor:
    """Long waves are stretched, short ones kept, those between blended."""
    wavelengths = 2 * math.pi / frequencies
    share_kept = (config.original_context / wavelengths - config.low) / (config.high - config.low)
    blended = (1 - share_kept) * frequencies / config.factor + share_kept * frequencies
    long = wavelengths > config.original_context / config.low
    short = wavelengths < config.original_context / config.high
    return torch.where(long, frequencies / config.factor, torch.where(short, frequencies, blended))


def _yarn(config: RopeConfig, frequencies: Tensor, head_dim: int) -> Tensor:
    """As ``_llama3``, but blended along the dimensions, between two numbers of rotations over the context."""

    def dimension(rotations: float) -> float:
        period = config.original_context / (rotations * 2 * math.pi)
        return head_dim * math.log(period) / (2 * math.log(config.theta))

    first, last = dimension(config.high), dimension(config.low)
    if config.truncate:
        first, last = math.floor(first), math.ceil(last)
    first, last = max(first, 0), min(last, head_dim - 1)
    ramp = (torch.arange(head_dim // 2, dtype=torch.float32) - first) / ((last - first) or RAMP_WIDTH_MIN)
    share_stretched = ramp.clamp(0, 1)
    return frequencies / config.factor * share_stretched + frequencies * (1 - share_stretched)


def _yarn_scale(config: RopeConfig) -> float:
    def magnitude(weight: float) -> float:
        return 1.0 if config.factor <= 1 else 0.1 * weight * math.log(config.factor) + 1.0

    if config.attention_factor is not None:
        return config.attention_factor
    if config.mscale and config.mscale_all_dim:
        return magnitude(config.mscale) / magnitude(config.mscale_all_dim)
    return magnitude(1.0)
