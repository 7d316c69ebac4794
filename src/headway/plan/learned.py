"""A machine as its own server came to know it: what ``headway serve --step-times FILE`` leaves behind."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from headway.plan.errors import PlanError
from headway.plan.parts import DECODES, KV_READS, PROMPTS, Work
from headway.policy.plan import ExecutorInfo
from headway.policy.stepshape import StepShape
from headway.policy.steptime import StepTimeModel
from headway.serve.policy_maker import read_step_times
from headway.sim.hardware import VOCABULARY

BLOCK_TOKENS = 16
"""Of a cache that a file doesn't tell."""
Z_95 = 1.645
"""95 % of a normal distribution is below so many standard deviations above its mean."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnedMachine:
    """Hardware whose steps take what a fitted model says. They scatter as widely as the model's own margin for steps
    that only decode, which most are."""

    model: StepTimeModel
    info: ExecutorInfo
    name: str = "learned"
    description: str = "the machine as its server has come to know it"
    source: str = "step times that a server has measured on its own machine"

    @property
    def noise(self) -> float:
        shape = (1, 1, 1, 0.0)
        return math.log(self.model.tail_s(*shape) / self.model.predict_s(*shape)) / Z_95

    def step_s(self, shape: StepShape) -> float:
        return self.model.predict_s(shape.tokens, shape.sequences, shape.decode_context, shape.prefill_reads)

    def parts(self, work: Work) -> dict[str, float]:
        """Shares of the time of a step that add up to 1, the largest first: what its prompts add to its decodes, and
        what these would take less without a context."""
        shape = work.shape
        decodes = shape.sequences - (1 if shape.prefill_reads else 0)
        alone, bare = (StepShape(decodes, decodes, context, 0.0) for context in (shape.decode_context, 0))
        whole_s, alone_s, bare_s = map(self.step_s, (shape, alone, bare))
        seconds = {DECODES: bare_s, KV_READS: max(0.0, alone_s - bare_s), PROMPTS: max(0.0, whole_s - alone_s)}
        total_s = sum(seconds.values())
        return {name: value / total_s for name, value in sorted(seconds.items(), key=lambda each: -each[1])}


def learned_machine(path: Path, *, kv_tokens: int | None = None) -> LearnedMachine:
    """The machine in a file of step times. ``kv_tokens``: of its KV cache, in place of what the file says. Raises
    ``PlanError``, one line."""
    try:
        kept = read_step_times(path)
    except (ValueError, OSError) as error:
        why = f"{path}: {error.strerror}" if isinstance(error, OSError) else error
        raise PlanError(f"{why}; headway serve --step-times FILE writes such a file when it ends") from None
    cache = dict(kept.cache or {})
    block = cache.get("block_size", BLOCK_TOKENS)
    if kv_tokens is not None:
        cache["kv_blocks"] = kv_tokens // block
    if "kv_blocks" not in cache:
        raise PlanError(f"{path} is of an older server and doesn't say how large its KV cache is: give --kv-tokens")
    if cache["kv_blocks"] < 1:
        raise PlanError(f"a KV cache has at least one block of {block} tokens, not {kv_tokens}")
    info = ExecutorInfo(
        block_size=block,
        kv_blocks=cache["kv_blocks"],
        context_tokens=cache.get("context_tokens", cache["kv_blocks"] * block),
        vocab_size=VOCABULARY,
        description=kept.of,
    )
    return LearnedMachine(model=kept.model, info=info, description=kept.of)
