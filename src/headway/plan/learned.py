"""A machine as its own server came to know it: what ``headway serve --step-times FILE`` leaves behind."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from headway.plan.errors import PlanError
from headway.policy.plan import ExecutorInfo
from headway.policy.stepshape import StepShape
from headway.policy.steptime import StepTimeModel
from headway.serve.policy_maker import read_step_times
from headway.sim.hardware import VOCABULARY

BLOCK_TOKENS = 16
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


def learned_machine(path: Path, *, kv_tokens: int, context_tokens: int | None = None) -> LearnedMachine:
    """The machine in a file of step times, with a KV cache of so many tokens. Raises ``PlanError``, one line."""
    try:
        description, model = read_step_times(path)
    except (ValueError, OSError) as error:
        raise PlanError(f"{error}; headway serve --step-times FILE writes such a file when it ends") from None
    if kv_tokens < BLOCK_TOKENS:
        raise PlanError(f"a KV cache has at least one block of {BLOCK_TOKENS} tokens, not {kv_tokens}")
    info = ExecutorInfo(
        block_size=BLOCK_TOKENS,
        kv_blocks=kv_tokens // BLOCK_TOKENS,
        context_tokens=kv_tokens if context_tokens is None else context_tokens,
        vocab_size=VOCABULARY,
        description=description,
    )
    return LearnedMachine(model=model, info=info, description=description)
