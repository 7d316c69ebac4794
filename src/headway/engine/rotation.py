"""The rotation of queries and keys by their positions, in torch.

Checkpoints turn dimension ``i`` of a head with dimension ``i + head_dim / 2``. Here the two lie side by side, so that
a pair is one complex number and a rotation one product: ``weights.pair_up`` reorders the rows of the query and key
projections when they are loaded. Both are reordered alike, which leaves every score as it was.
"""

from __future__ import annotations

import torch
from torch import Tensor

from headway.engine.rope import frequencies
from headway.models.rotary import RopeConfig


class Rotary:
    """The frequencies of a model's rotary positions. Angles are computed as needed: a table for a context of 131,072
    positions would take more memory than some models."""

    def __init__(self, config: RopeConfig, head_dim: int) -> None:
        angles, scale = frequencies(config, head_dim)
        self._frequencies = torch.from_numpy(angles)
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
