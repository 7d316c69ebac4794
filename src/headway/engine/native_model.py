"""The model in compiled kernels: a step is one call. For one rank, on processors that the kernels know."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from ml_dtypes import bfloat16
from numpy.typing import NDArray

from headway.engine import native
from headway.engine.loaded import Progress, check_fits, kv_blocks, kv_bytes_per_token
from headway.engine.memory import Arena, large_pages, touch
from headway.engine.options import EngineOptions
from headway.engine.rope import frequencies
from headway.engine.weights import DecoderWeights, Shard, Tensors, Weight, load_weights
from headway.models.source import ModelSource
from headway.policy.plan import Chunk

HALF_PANEL = native.PANEL // 2
ROWS_MAX = 1024
"""Tokens that go through the model together, at most."""
LANE = 16
"""Positions of the cache that the kernels read together: a block has a multiple of them."""

Bits = NDArray[np.uint16]
Floats = NDArray[np.float32]


class NativePacking:
    """Weights for the compiled kernels: bf16, or 8-bit with a scale for each output."""

    pairs_up = False

    def __init__(self, pool: Any, *, int8: bool) -> None:
        self._pool = pool
        self._int8 = int8
        self._arena = Arena()

    def table(self, weight: Weight) -> Bits:
        return _bits(weight)

    def pack(self, weight: Weight, bias: Weight | None) -> native.PackedLinear:
        numbers = None if bias is None else bias.astype(np.float32)
        return native.pack(_bits(weight), int8=self._int8, pool=self._pool, bias=numbers, arena=self._arena)

    def pack_gated(self, weight: Weight, bias: Weight | None) -> native.PackedLinear:
        """Sixteen outputs of the gate, then the sixteen that they gate: the kernel has both at hand at once."""
        return self.pack(_interleaved(weight), None if bias is None else _interleaved(bias))

    def norm(self, weight: Weight, _epsilon: float) -> Floats:
        return weight.astype(np.float32)


class NativeModel:
    """Weights, cache and the threads that compute. Used from one thread. Raises ``ModelError`` when it doesn't fit."""

    def __init__(self, source: ModelSource, tensors: Tensors, options: EngineOptions, tell: Progress) -> None:
        config, int8 = source.config, options.dtype == "int8"
        check_fits(source, config.parameters * (1 if int8 else 2))
        self.threads = options.threads or len(os.sched_getaffinity(0))
        self.pool = native.make_pool(self.threads)
        packing = NativePacking(self.pool, int8=int8)
        weights = load_weights(tensors, Shard(config), packing, lambda share: tell("loading weights", share))
        tell("reserving the KV cache", None)
        bytes_per_token = kv_bytes_per_token(config, config.kv_heads, np.dtype(bfloat16).itemsize)
        self.kv_blocks = kv_blocks(source, options, bytes_per_token)
        kernels = native.choose()
        self._kept = _Kept(weights, source, self.kv_blocks, options.block_size, self.threads)
        self._module = native.load()
        self._decoder = self._module.Decoder(kernels=kernels, pool=self.pool, model=self._kept.model(int8=int8))
        self._vocabulary = config.vocab_size
        self._logits: Floats = np.empty((0, self._vocabulary), dtype=np.float32)
        self.kernels = f"{'int8' if int8 else 'bf16'} weights ({kernels} kernels)"

    def forward(self, chunks: Sequence[Chunk]) -> Floats:
        drawing = sum(chunk.draw is not None for chunk in chunks)
        if drawing > len(self._logits):
            self._logits = np.empty((drawing, self._vocabulary), dtype=np.float32)
        drawn = 0
        for batch in _batches(chunks):
            drawn += self._run(batch, self._logits[drawn:])
        return self._logits[:drawn]

    def _run(self, batch: Sequence[Chunk], logits: Floats) -> int:
        """Logits of the chunks that have a draw become the first rows of ``logits``; how many they are."""
        tokens = np.array([token for chunk in batch for token in chunk.tokens], dtype=np.int32)
        tables = [np.array(chunk.block_table, dtype=np.int32) for chunk in batch]
        spans, picked, row = [], [], 0
        for chunk, table in zip(batch, tables, strict=True):
            spans.append(self._module.Span(row, len(chunk.tokens), chunk.start, table.ctypes.data))
            row += len(chunk.tokens)
            if chunk.draw is not None:
                picked.append(row - 1)
        self._decoder.run(tokens=tokens.ctypes.data, count=row, spans=spans, picked=picked, logits=logits.ctypes.data)
        return len(picked)


class _Kept:
    """What the decoder points into: alive as long as it is."""

    def __init__(
        self,
        weights: DecoderWeights[Bits, native.PackedLinear, Floats],
        source: ModelSource,
        blocks: int,
        block_size: int,
        threads: int,
    ) -> None:
        """Takes up to ``memory.TOUCH_S`` to have the cache's memory at hand; ``threads`` at once."""
        config = source.config
        self._blocks, self._final_norm, self._head = weights.blocks, weights.final_norm, weights.head
        self._config = config
        self._block_size = block_size
        self._frequencies, self._rotation_scale = frequencies(config.rope, config.head_dim)
        self._embedding = None if config.tied_embeddings else weights.embedding
        # A block's memory lies together, all layers of it, so that a new block comes upon one new page of memory. Layer
        # by layer it would be one for each layer's keys and values, all in the same step.
        shape = (blocks, config.layers, 2, config.kv_heads * block_size * config.head_dim)
        memory = large_pages(2 * math.prod(shape))
        touch(memory, threads)
        self._cache = memory.view(np.uint16).reshape(shape)

    def model(self, *, int8: bool) -> Any:
        config = self._config
        return native.load().Model(
            int8=int8,
            hidden=config.hidden_size,
            heads=config.heads,
            kv_heads=config.kv_heads,
            head_dim=config.head_dim,
            intermediate=config.intermediate_size,
            vocabulary=config.vocab_size,
            epsilon=config.norm_epsilon,
            frequencies=self._frequencies.ctypes.data,
            rotation_scale=self._rotation_scale,
            embedding=native.address(self._embedding),
            layers=[self._layer(index) for index in range(config.layers)],
            final_norm=self._final_norm.ctypes.data,
            head=self._head.native(),
        )

    def _layer(self, index: int) -> Any:
        block, config = self._blocks[index], self._config
        module = native.load()
        return module.Layer(
            attention_norm=block.attention_norm.ctypes.data,
            qkv=block.qkv.native(),
            query_norm=native.address(block.query_norm),
            key_norm=native.address(block.key_norm),
            output=block.output.native(),
            feed_forward_norm=block.feed_forward_norm.ctypes.data,
            gate_up=block.gate_up.native(),
            down=block.down.native(),
            window=config.windows[index] or 0,
            cache=module.Cache(
                keys=self._cache[:, index, 0].ctypes.data,
                values=self._cache[:, index, 1].ctypes.data,
                stride=self._cache[0].size,
                block_size=self._block_size,
                heads=config.kv_heads,
                head_dim=config.head_dim,
            ),
        )


def _batches(chunks: Sequence[Chunk]) -> Iterator[list[Chunk]]:
    """The same tokens in the same order, ``ROWS_MAX`` at a time: a large step would take room for all of its rows."""
    batch: list[Chunk] = []
    room = ROWS_MAX
    for chunk in chunks:
        rest = chunk
        while len(rest.tokens) > room:
            if room:
                batch.append(replace(rest, tokens=rest.tokens[:room], draw=None))
                rest = replace(rest, start=rest.start + room, tokens=rest.tokens[room:])
            yield batch
            batch, room = [], ROWS_MAX
        batch.append(rest)
        room -= len(rest.tokens)
    yield batch


def _bits(weight: Weight) -> Bits:
    """The bits of a matrix in bf16."""
    bits: Bits = np.ascontiguousarray(weight.astype(bfloat16, copy=False)).view(np.uint16)
    return bits


def _interleaved(both: Weight) -> Weight:
    half = both.shape[0] // 2
    panels = -(-half // HALF_PANEL)
    padded = np.zeros((2, panels * HALF_PANEL, *both.shape[1:]), both.dtype)
    padded[:, :half] = both.reshape(2, half, *both.shape[1:])
    folded = padded.reshape(2, panels, HALF_PANEL, *both.shape[1:])
    return folded.swapaxes(0, 1).reshape(-1, *both.shape[1:])
