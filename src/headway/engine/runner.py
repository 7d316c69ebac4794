"""A ``StepPlan`` becomes one forward pass and drawn tokens.

The runner keeps weights and the KV cache and nothing about requests: any plan that follows from the cache's content
can be run at any time.
"""

from __future__ import annotations

import time

from headway.engine import native
from headway.engine.loaded import LoadedModel, Progress
from headway.engine.native_model import LANE, NativeModel
from headway.engine.options import EngineOptions
from headway.engine.parallel import Alone, Communicator
from headway.engine.sampling import draw
from headway.engine.weights import CheckpointTensors, RandomTensors
from headway.models.errors import ModelError
from headway.models.source import ModelSource
from headway.policy.plan import ExecutorInfo, StepPlan, StepResult


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
        config = source.config
        communicator = communicator or Alone()
        self._model = _load(source, options, communicator, tell)
        self._is_first = communicator.rank == 0
        self.info = ExecutorInfo(
            block_size=options.block_size,
            kv_blocks=self._model.kv_blocks,
            context_tokens=min(config.context_tokens, options.context_tokens or config.context_tokens),
            vocab_size=config.vocab_size,
            description=(
                f"{source.name} ({source.description}), {self._model.kernels}, "
                f"{self._model.kv_blocks * options.block_size} KV tokens, {self._model.threads} threads"
            ),
        )

    def run(self, plan: StepPlan) -> StepResult:
        """Run one step. Every rank runs every plan; only the first rank's result has tokens in it."""
        started = time.perf_counter()
        self._check(plan)
        logits = self._model.forward(plan.chunks)
        drawing = [
            (chunk.request_id, chunk.start + len(chunk.tokens), chunk.draw)
            for chunk in plan.chunks
            if chunk.draw is not None
        ]
        drawn, failed = draw(logits, drawing, self._model.pool) if drawing and self._is_first else ((), ())
        return StepResult(plan.step_id, drawn, failed, time.perf_counter() - started)

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


def _load(source: ModelSource, options: EngineOptions, communicator: Communicator, tell: Progress) -> LoadedModel:
    tensors = (
        RandomTensors(source.config, options.random_seed)
        if source.path is None
        else CheckpointTensors(source.path, source.config)
    )
    tell("loading weights", 0.0)
    reason = _why_not_native(options, communicator)
    if reason is None:
        return NativeModel(source, tensors, options, tell)
    if options.dtype == "int8":
        raise ModelError(f"--dtype int8 needs the compiled kernels: {reason}")
    if reason == native.why_not():  # not what was asked for, but what is missing here
        tell(reason, None)
    from headway.engine.torch_model import TorchModel  # here, since torch takes long to import, and much memory

    return TorchModel(source, tensors, options, communicator, tell)


def _why_not_native(options: EngineOptions, communicator: Communicator) -> str | None:
    if options.dtype == "fp32":
        return "they have no fp32"
    if communicator.size > 1:
        return "they run on a single rank"
    if options.block_size % LANE:
        return f"they take cache blocks of a multiple of {LANE} tokens, not {options.block_size}"
    return native.why_not()
