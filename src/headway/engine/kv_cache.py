"""The paged keys and values, in torch."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from headway.engine.memory import large_pages, touch


class LayerCache:
    """One layer's keys and values, seen in the ways that attention needs."""

    def __init__(self, values: Tensor) -> None:
        """``values``: [2, blocks, kv_heads, block_size, head_dim], keys first."""
        _, _, _, block_size, head_dim = values.shape
        self.keys = values[0]
        self.values = values[1]
        self.slots = values.view(-1, head_dim)
        """All keys, then all values, one position and head a row: [2 * blocks * kv_heads * block_size, head_dim]."""
        self.key_blocks = self.keys.view(-1, block_size * head_dim)
        """A block's positions of one head a row: [blocks * kv_heads, block_size * head_dim]."""
        self.value_blocks = self.values.view(-1, block_size * head_dim)
        self.value_slots = self.values.view(-1, head_dim)


class KvCache:
    """Keys and values of every layer: [layers, 2, blocks, kv_heads, block_size, head_dim].

    A block keeps each head's positions together, so that gathering a sequence copies whole runs of memory; and a layer
    its blocks, as torch's operations want them. Making it takes up to ``memory.TOUCH_S``.
    """

    def __init__(self, shape: tuple[int, int, int, int, int], dtype: torch.dtype) -> None:
        """``shape``: (layers, blocks, kv_heads, block_size, head_dim)."""
        layers, self.blocks, self.kv_heads, self.block_size, self.head_dim = shape
        size = layers * 2 * math.prod(shape[1:]) * dtype.itemsize
        memory = large_pages(size)
        touch(memory, torch.get_num_threads())
        self._values = torch.from_numpy(memory).view(dtype).view(layers, 2, *shape[1:])
        # Views are made once: making them costs as much as a small operation.
        self._layers = tuple(LayerCache(layer) for layer in self._values)

    @property
    def dtype(self) -> torch.dtype:
        return self._values.dtype

    def __getitem__(self, layer: int) -> LayerCache:
        return self._layers[layer]

    def clear(self, blocks: Sequence[int]) -> None:
        """Forget what blocks held. Due before a block is written for the first time, if it won't be filled at once.

        Attention multiplies what lies behind a sequence's end in its last block by zero, which takes away any number
        but not a NaN that another, failed, request left there.
        """
        if blocks:
            self._values.index_fill_(2, torch.tensor(blocks), 0.0)
