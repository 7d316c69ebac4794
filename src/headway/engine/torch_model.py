"""The model in torch: any processor, any type, any number of ranks; what the native kernels are held against."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from ml_dtypes import bfloat16
from numpy.typing import NDArray
from torch import Tensor

from headway.engine.attention.interface import Span
from headway.engine.attention.reference import ReferenceAttention
from headway.engine.decoder import Decoder
from headway.engine.kv_cache import KvCache
from headway.engine.linear import Kernel, Linear, choose_kernel
from headway.engine.loaded import Progress, check_fits, kv_blocks, kv_bytes_per_token
from headway.engine.norm import RmsNorm
from headway.engine.options import EngineOptions
from headway.engine.parallel import Communicator
from headway.engine.weights import Shard, Tensors, Weight, load_weights
from headway.models.source import ModelSource
from headway.policy.plan import Chunk


class TorchPacking:
    """Weights for the decoder in torch, as one of its kernels stores them."""

    pairs_up = True

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel

    def table(self, weight: Weight) -> Tensor:
        return _tensor(weight).to(self._kernel.storage)

    def pack(self, weight: Weight, bias: Weight | None) -> Linear:
        return self._kernel.pack(_tensor(weight), None if bias is None else _tensor(bias))

    pack_gated = pack

    def norm(self, weight: Weight, epsilon: float) -> RmsNorm:
        return RmsNorm(_tensor(weight).float(), epsilon, self._kernel.compute)


class TorchModel:
    """One rank's decoder and cache. Used from one thread. Raises ``ModelError`` when the model doesn't fit."""

    pool = None

    @torch.inference_mode()
    def __init__(
        self,
        source: ModelSource,
        tensors: Tensors,
        options: EngineOptions,
        communicator: Communicator,
        tell: Progress,
    ) -> None:
        if options.threads is not None:
            torch.set_num_threads(options.threads)
        config = source.config
        shard = Shard(config, communicator.rank, communicator.size)
        kernel = choose_kernel("float32" if options.dtype == "fp32" else "bfloat16")
        check_fits(source, config.parameters * kernel.storage.itemsize)
        weights = load_weights(tensors, shard, TorchPacking(kernel), lambda share: tell("loading weights", share))
        self._decoder = Decoder(weights, shard, communicator)
        tell("reserving the KV cache", None)
        bytes_per_token = kv_bytes_per_token(config, shard.kv_heads, kernel.compute.itemsize)
        own_blocks = torch.tensor([[kv_blocks(source, options, bytes_per_token, communicator.size)]])
        self.kv_blocks = int(communicator.gather(own_blocks).min())  # ranks must agree, and may see other free memory
        shape = (config.layers, self.kv_blocks, shard.kv_heads, options.block_size, config.head_dim)
        self._cache = KvCache(shape, kernel.compute)
        self._attention = ReferenceAttention(self._cache, shard.heads, config.windows)
        self.kernels, self.threads = kernel.name, torch.get_num_threads()

    @torch.inference_mode()
    def forward(self, chunks: Sequence[Chunk]) -> NDArray[np.float32]:
        tokens = torch.tensor([token for chunk in chunks for token in chunk.tokens])
        positions = torch.cat([torch.arange(chunk.start, chunk.start + len(chunk.tokens)) for chunk in chunks])
        self._cache.clear([block for chunk in chunks for block in self._block_begun(chunk)])
        attend = self._attention.prepare([Span(chunk.start, len(chunk.tokens), chunk.block_table) for chunk in chunks])
        last_rows, row = [], 0
        for chunk in chunks:
            row += len(chunk.tokens)
            if chunk.draw is not None:
                last_rows.append(row - 1)
        rows = torch.tensor(last_rows, dtype=torch.int64)
        logits: NDArray[np.float32] = self._decoder.forward(tokens, positions, attend, rows).numpy()
        return logits

    def _block_begun(self, chunk: Chunk) -> tuple[int, ...]:
        """The block that the chunk begins and leaves unfilled, if there is one."""
        size, end = self._cache.block_size, chunk.start + len(chunk.tokens)
        begun = end % size != 0 and chunk.start <= end - end % size
        return (chunk.block_table[end // size],) if begun else ()


def _tensor(weight: Weight) -> Tensor:
    """The same numbers in the same memory. numpy's bf16 is a type that torch doesn't know."""
    if weight.dtype == bfloat16:
        return torch.from_numpy(weight.view(np.uint16)).view(torch.bfloat16)
    return torch.from_numpy(weight)
