"""The model in torch: any processor, any type, any number of ranks; what the native kernels are held against."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from headway.engine.attention.interface import Span
from headway.engine.attention.reference import ReferenceAttention
from headway.engine.decoder import Decoder
from headway.engine.kv_cache import KvCache, kv_bytes_per_token
from headway.engine.linear import choose_kernel
from headway.engine.loaded import Progress, check_fits, kv_blocks
from headway.engine.options import EngineOptions
from headway.engine.parallel import Communicator
from headway.engine.weights import Shard, Tensors, load_weights
from headway.models.source import ModelSource
from headway.policy.plan import Chunk


class TorchModel:
    """One rank's decoder and cache. Used from one thread. Raises ``ModelError`` when the model doesn't fit."""

    def __init__(
        self,
        source: ModelSource,
        tensors: Tensors,
        options: EngineOptions,
        communicator: Communicator,
        tell: Progress,
    ) -> None:
        config = source.config
        shard = Shard(config, communicator.rank, communicator.size)
        kernel = choose_kernel("float32" if options.dtype == "fp32" else "bfloat16")
        check_fits(source, config.parameters * kernel.storage.itemsize)
        weights = load_weights(tensors, shard, kernel, lambda share: tell("loading weights", share))
        self._decoder = Decoder(weights, shard, communicator)
        tell("reserving the KV cache", None)
        bytes_per_token = kv_bytes_per_token(config, shard.kv_heads, kernel.compute)
        own_blocks = torch.tensor([[kv_blocks(source, options, bytes_per_token, communicator.size)]])
        self.kv_blocks = int(communicator.gather(own_blocks).min())  # ranks must agree, and may see other free memory
        shape = (config.layers, self.kv_blocks, shard.kv_heads, options.block_size, config.head_dim)
        self._cache = KvCache(shape, kernel.compute)
        self._attention = ReferenceAttention(self._cache, shard.heads, config.windows)
        self.kernels, self.threads = kernel.name, torch.get_num_threads()

    def forward(self, chunks: Sequence[Chunk]) -> Tensor:
        tokens = torch.tensor([token for chunk in chunks for token in chunk.tokens])
        positions = torch.cat([torch.arange(chunk.start, chunk.start + len(chunk.tokens)) for chunk in chunks])
        self._cache.clear([block for chunk in chunks for block in self._block_begun(chunk)])
        attend = self._attention.prepare([Span(chunk.start, len(chunk.tokens), chunk.block_table) for chunk in chunks])
        last_rows, row = [], 0
        for chunk in chunks:
            row += len(chunk.tokens)
            if chunk.draw is not None:
                last_rows.append(row - 1)
        return self._decoder.forward(tokens, positions, attend, torch.tensor(last_rows, dtype=torch.int64))

    def _block_begun(self, chunk: Chunk) -> tuple[int, ...]:
        """The block that the chunk begins and leaves unfilled, if there is one."""
        size, end = self._cache.block_size, chunk.start + len(chunk.tokens)
        begun = end % size != 0 and chunk.start <= end - end % size
        return (chunk.block_table[end // size],) if begun else ()
