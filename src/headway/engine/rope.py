"""Rotary position embedding: how far each pair of dimensions turns a position.

Sources: Su et al. 2021 (RoFormer); linear scaling as in Chen et al. 2023 (position interpolation); YaRN, Peng et al.
2023; llama3 as in the Llama 3.1 release.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from headway.models.rotary import RopeConfig

RAMP_WIDTH_MIN = 1e-3
"""Keeps YaRN's ramp from dividing by zero where its two ends fall together."""

Doubles = NDArray[np.float64]


def frequencies(config: RopeConfig, head_dim: int) -> tuple[NDArray[np.float32], float]:
    """Radians a position for each pair of dimensions ([head_dim / 2]), and the scale of cosine and sine."""
    found = config.theta ** -(np.arange(0, head_dim, 2) / head_dim)
    scale = 1.0
    if config.kind == "linear":
        found = found / config.factor
    elif config.kind == "llama3":
        found = _llama3(config, found)
    elif config.kind == "yarn":
        found, scale = _yarn(config, found, head_dim), _yarn_scale(config)
    return found.astype(np.float32), scale


def _llama3(config: RopeConfig, frequencies: Doubles) -> Doubles:
    """Long waves are stretched, short ones kept, those between blended."""
    wavelengths = 2 * math.pi / frequencies
    share_kept = (config.original_context / wavelengths - config.low) / (config.high - config.low)
    blended = (1 - share_kept) * frequencies / config.factor + share_kept * frequencies
    long = wavelengths > config.original_context / config.low
    short = wavelengths < config.original_context / config.high
    return np.where(long, frequencies / config.factor, np.where(short, frequencies, blended))


def _yarn(config: RopeConfig, frequencies: Doubles, head_dim: int) -> Doubles:
    """As ``_llama3``, but blended along the dimensions, between two numbers of rotations over the context."""

    def dimension(rotations: float) -> float:
        period = config.original_context / (rotations * 2 * math.pi)
        return head_dim * math.log(period) / (2 * math.log(config.theta))

    first, last = dimension(config.high), dimension(config.low)
    if config.truncate:
        first, last = math.floor(first), math.ceil(last)
    first, last = max(first, 0), min(last, head_dim - 1)
    ramp = (np.arange(head_dim // 2) - first) / ((last - first) or RAMP_WIDTH_MIN)
    share_stretched: Doubles = ramp.clip(0, 1)
    return frequencies / config.factor * share_stretched + frequencies * (1 - share_stretched)


def _yarn_scale(config: RopeConfig) -> float:
    def magnitude(weight: float) -> float:
        return 1.0 if config.factor <= 1 else 0.1 * weight * math.log(config.factor) + 1.0

    if config.attention_factor is not None:
        return config.attention_factor
    if config.mscale and config.mscale_all_dim:
        return magnitude(config.mscale) / magnitude(config.mscale_all_dim)
    return magnitude(1.0)
