"""One claim and the checks that it stands or falls by."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from headway.plan.catalogue import find_gpu, gpus
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


@dataclass(frozen=True, slots=True)
class Claim:
    """``article``: what it says. ``check``: all that is predicted for it; ``quick`` predicts less exactly."""

    name: str
    article: str
    check: Callable[[bool], list[Check]]

    def figures(self, checks: list[Check]) -> dict[str, float | int | str | None]:
        """``verdict``: 1 where every check with a band holds; None where none has one."""
        figures: dict[str, float | int | str | None] = {}
        for each in checks:
            label = f"{self.name}_{re.sub(r'[^a-z0-9]+', '_', each.name.lower()).strip('_')}"
            figures[label] = each.predicted
            for part, value in (("published", each.published), ("low", each.low), ("high", each.high)):
                if value is not None:
                    figures[f"{label}_{part}"] = value
            if each.holds is not None:
                figures[f"{label}_holds"] = int(each.holds)
        judged = [each.holds for each in checks if each.holds is not None]
        figures[f"{self.name}_verdict"] = int(all(judged)) if judged else None
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
    model: str, gpu: str, engine: str, tp: int = 1, *, link_of: str | None = None, step_tokens: int | None = None
) -> GpuMachine:
    """``link_of``: a GPU whose link is put in place of the GPU's own. ``step_tokens``: in place of the engine's own."""
    catalogue = gpus()
    chosen = find_gpu(gpu, catalogue)
    if link_of is not None:
        chosen = replace(chosen, link=find_gpu(link_of, catalogue).link)
    return machine(Setup(model=find_model(model), gpu=chosen, engine=find_engine(engine), tp=tp), step_tokens)


def static_batch_s(on: GpuMachine, batch: int, prompt: int, output: int) -> float:
    """From the start of a batch of equal requests to the last token of all."""
    return batch_prefill_s(on, batch, prompt) + (output - 1) * decode_s(on, batch, prompt + output / 2)


def cut(before: float, after: float) -> float:
    """By what share it fell."""
    return 1.0 - after / before
