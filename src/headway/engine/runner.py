"""A ``StepPlan`` becomes tensors, one forward pass and drawn tokens.

The runner keeps weights and the KV cache and nothing about requests: any plan that follows from the cache's content
can be run at any time.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from headway.engine.attention.interface import Span
from headway.engine.attention.reference import ReferenceAttention
from headway.engine.decoder import Decoder
from headway.engine.kv_cache import KvCache, available_bytes, kv_bytes_per_token
from headway.engine.linear import Kernel, choose_kernel
from headway.engine.options import EngineOptions
from headway.engine.parallel import Alone, Communicator
from headway.engine.sampling import draw
from headway.engine.weights import CheckpointTensors, RandomTensors, Shard, load_weights
from headway.models.errors import ModelError
from headway.models.source import ModelSource
from headway.policy.plan import Chunk, ExecutorInfo, StepPlan, StepResult

Progress = Callable[[str, float | None], None]
"""Told what is going on, and how far it is (0 to 1, None when that isn't known)."""


class ModelRunner:
    """A loaded model and its KV cache: one rank of it. Used from one thread.

    Raises ``ModelError`` when the model can't be loaded or doesn't fit.
    """

    def __init__(
        self,
        source: ModelSource,
        options: EngineOptions,
        *,
        communicator: Communicator | None = None,
        progress: Progress | None = None,
    ) -> None:
        tell: Progress = progress or (lambda _text, _share: None)
        if options.threads is not None:
            torch.set_num_threads(options.threads)
        config = source.config
        communicator = communicator or Alone()
        shard = Shard(config, communicator.rank, communicator.size)
        kernel = choose_kernel("float32" if options.dtype == "float32" else "bfloat16")
        tensors = (
            RandomTensors(config, options.random_seed)
            if source.path is None
            else CheckpointTensors(source.path, config)
        )
        _check_fits(source, kernel)
        tell("loading weights", 0.0)
        with torch.inference_mode():
            weights = load_weights(tensors, shard, kernel, lambda share: tell("loading weights", share))
            context = min(config.context_tokens, options.context_tokens or config.context_tokens)
            self._decoder = Decoder(weights, shard, communicator)
            tell("reserving the KV cache", None)
            own_blocks = torch.tensor([[_kv_blocks(source, options, shard, kernel)]])
            blocks = int(communicator.gather(own_blocks).min())  # ranks must agree, and may see other free memory
            shape = (config.layers, blocks, shard.kv_heads, options.block_size, config.head_dim)
            self._cache = KvCache(shape, kernel.compute)
            self._attention = ReferenceAttention(self._cache, shard.heads, config.windows)
        self._is_first = communicator.rank == 0
        self.info = ExecutorInfo(
            block_size=options.block_size,
            kv_blocks=blocks,
            context_tokens=context,
            vocab_size=config.vocab_size,
            description=(
                f"{source.name} ({source.description}), {kernel.name}, {blocks * options.block_size} KV tokens, "
                f"{torch.get_num_threads()} threads"
            ),
        )

    @torch.inference_mode()
    def run(self, plan: StepPlan) -> StepResult:
        """Run one step. Every rank runs every plan; only the first rank's result has tokens in it."""
        started = time.perf_counter()
        self._check(plan)
        chunks = plan.chunks
        tokens = torch.tensor([token for chunk in chunks for token in chunk.tokens])
        positions = torch.cat([torch.arange(chunk.start, chunk.start + len(chunk.tokens)) for chunk in chunks])
        self._cache.clear([block for chunk in chunks for block in self._block_begun(chunk)])
        attend = self._attention.prepare([Span(chunk.start, len(chunk.tokens), chunk.block_table) for chunk in chunks])
        last_rows, drawing = [], []
        row = 0
        for chunk in chunks:
            row += len(chunk.tokens)
            if chunk.draw is not None:
                last_rows.append(row - 1)
                drawing.append((chunk.request_id, chunk.start + len(chunk.tokens), chunk.draw))
        logits = self._decoder.forward(tokens, positions, attend, torch.tensor(last_rows, dtype=torch.int64))
        drawn, failed = draw(logits, drawing) if drawing and self._is_first else ((), ())
        return StepResult(plan.step_id, drawn, failed, time.perf_counter() - started)

    def _block_begun(self, chunk: Chunk) -> tuple[int, ...]:
        """The block that the chunk begins and leaves unfilled, if there is one."""
        size, end = self._cache.block_size, chunk.start + len(chunk.tokens)
        begun = end % size != 0 and chunk.start <= end - end % size
        return (chunk.block_table[end // size],) if begun else ()

    def _check(self, plan: StepPlan) -> None:
        """A plan that doesn't fit this executor is a bug of ours."""
        info = self.info
        assert plan.chunks, "a plan without chunks"
        assert len({chunk.request_id for chunk in plan.chunks}) == len(plan.chunks), "a request twice in a plan"
        for chunk in plan.chunks:
            end = chunk.start + len(chunk.tokens)
            assert chunk.tokens, f"{chunk.request_id}: a chunk without tokens"
            assert 0 <= chunk.start < end <= info.context_tokens, f"{chunk.request_id}: outside the context"
            assert 0 <= min(chunk.tokens) <= max(chunk.tokens) < info.vocab_size, f"{chunk.request_id}: token id"
            assert len(chunk.block_table) * info.block_size >= end, f"{chunk.request_id}: short block table"
            assert 0 <= min(chunk.block_table) <= max(chunk.block_table) < info.kv_blocks, (
                f"{chunk.request_id}: block id"
            )


def _check_fits(source: ModelSource, kernel: Kernel) -> None:
    """Raises ``ModelError`` if the weights are larger than the free memory: better than being killed on the way."""
    needed = source.config.parameters * kernel.storage.itemsize
    available = available_bytes()
    if needed > available:
        raise ModelError(
            f"{source.name}: the weights take {needed / 1e9:.1f} GB, only {available / 1e9:.1f} GB of memory are free"
        )


def _kv_blocks(source: ModelSource, options: EngineOptions, shard: Shard, kernel: Kernel) -> int:
    """How many blocks the cache has. Raises ``ModelError`` if not even one fits."""
    if options.kv_tokens is not None:
        return options.kv_tokens // options.block_size
    block_bytes = options.block_size * kv_bytes_per_token(source.config, shard.kv_heads, kernel.compute)
    budget = min(int(available_bytes() * options.kv_memory_fraction), options.kv_bytes_max) // shard.size
    if budget < block_bytes:
        raise ModelError(
            f"{source.name}: a block of the KV cache takes {block_bytes} bytes, and only {budget} may be used for it"
        )
    return budget // block_bytes
