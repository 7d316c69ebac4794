"""One claim and the checks that it stands or falls by."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from headway.plan.catalogue import find_gpu, gpus
from headway.plan.engine import Engine
from headway.plan.engines import find_engine
from headway.plan.known_models import find_model
from headway.plan.setup import Setup
from headway.plan.steady import batch_prefill_s, decode_s
from headway.plan.steptime import GpuMachine, machine


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """``published``: measured by somebody, None where nobody published it. ``low`` and ``high``: the band, fixed before
    anything was predicted; without one the check is for information."""

    name: str
    predicted: float
    published: float | None = None
    low: float | None = None
    high: float | None = None

    @property
    def holds(self) -> bool | None:
        if self.low is None and self.high is None:
            return None
        return (self.low is None or self.predicted >= self.low) and (self.high is None or self.predicted <= self.high)


BY_HAND = {
    "fastertransformer": replace(find_engine("fastertransformer"), layer_s=40e-6, sequence_s=20e-6, all_reduce=1.0),
    "eager-2023": replace(find_engine("eager-2023"), layer_s=60e-6, step_s=3e-3, sequence_s=20e-6, all_reduce=1.0),
}
"""Engines of 2023 as they were guessed before their profiles were fitted to published points. Those points hold some of
what is compared with here, so only these can tell whether the planner would have known."""


@dataclass(frozen=True, slots=True)
class Scope:
    """``quick``: fewer simulated requests. ``by_hand``: those engines in place of the shipped profiles."""

    quick: bool = False
    by_hand: bool = False

    def engine(self, name: str) -> Engine:
        return BY_HAND.get(name, find_engine(name)) if self.by_hand else find_engine(name)


@dataclass(frozen=True, slots=True)
class Claim:
    """``article``: what it says. ``check``: all that is predicted for it. ``of_2023``: it involves engines of 2023."""

    name: str
    article: str
    check: Callable[[Scope], list[Check]]
    of_2023: bool = False

    def figures(self, checks: list[Check], prefix: str = "") -> dict[str, float | int | str | None]:
        """``verdict``: 1 where every check with a band holds; None where none has one."""
        figures: dict[str, float | int | str | None] = {}
        name = f"{self.name}_{prefix}" if prefix else self.name
        for each in checks:
            label = f"{name}_{re.sub(r'[^a-z0-9]+', '_', each.name.lower()).strip('_')}"
            figures[label] = each.predicted
            for part, value in (("published", each.published), ("low", each.low), ("high", each.high)):
                if value is not None:
                    figures[f"{label}_{part}"] = value
            if each.holds is not None:
                figures[f"{label}_holds"] = int(each.holds)
        judged = [each.holds for each in checks if each.holds is not None]
        figures[f"{name}_verdict"] = int(all(judged)) if judged else None
        return figures


def about(name: str, predicted: float, published: float, share: float) -> Check:
    """What was published, give or take a share of it."""
    return Check(
        name=name,
        predicted=predicted,
        published=published,
        low=published * (1.0 - share),
        high=published * (1.0 + share),
    )


def model_on(
    model: str, gpu: str, engine: Engine, tp: int = 1, *, link_of: str | None = None, step_tokens: int | None = None
) -> GpuMachine:
    """``link_of``: a GPU whose link is put in place of the GPU's own. ``step_tokens``: in place of the engine's own."""
    catalogue = gpus()
    chosen = find_gpu(gpu, catalogue)
    if link_of is not None:
        chosen = replace(chosen, link=find_gpu(link_of, catalogue).link)
    return machine(Setup(model=find_model(model), gpu=chosen, engine=engine, tp=tp), step_tokens)


def static_batch_s(on: GpuMachine, batch: int, prompt: int, output: int) -> float:
    """From the start of a batch of equal requests to the last token of all."""
    return batch_prefill_s(on, batch, prompt) + (output - 1) * decode_s(on, batch, prompt + output / 2)


def cut(before: float, after: float) -> float:
    """By what share it fell."""
    return 1.0 - after / before
