"""Set-ups of one replica that a search goes through, and which of them can be left out before anything is simulated."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from headway.plan.bounds import Bounds
from headway.plan.errors import PlanError
from headway.plan.gpu import Gpu
from headway.plan.memory import Memory, memory
from headway.plan.outcome import Rejected, Why
from headway.plan.precision import Precision
from headway.plan.question import TENSOR_PARALLEL, Question
from headway.plan.setup import Setup
from headway.plan.standing import Standing
from headway.plan.steptime import peak


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A set-up of one replica that may do. ``bounds``: what no scheduler can do better on it."""

    setup: Setup
    memory: Memory
    standing: Standing
    bounds: Bounds

    def replicas_at_least(self, rate: float) -> int:
        return max(1, math.ceil(rate / (USABLE * self.bounds.rate_max) - 1e-9))

    def cost(self, replicas: int) -> float:
        """What set-ups are ranked by: dollars an hour, and without a price far behind, by the number of GPUs."""
        return cost_of(self.setup.gpu, self.setup.tp * replicas)


NO_PRICE = 1e9
USABLE = 0.95
"""Share of the closed bound beyond which no promise is kept: requests come at random, and queues grow without end."""


def cost_of(gpu: Gpu, gpus: int) -> float:
    return NO_PRICE * gpus if gpu.price is None else gpu.price.usd_per_hour * gpus


def setups(question: Question) -> Iterator[Setup]:
    """All that can be put together of the question's GPUs. What differs only in a link that is not used comes once."""
    seen: set[tuple[object, ...]] = set()
    for gpu in question.gpus:
        for tp in question.tensor_parallel or TENSOR_PARALLEL:
            if tp > min(question.max_gpus, gpu.link.most if tp > 1 else 1):
                continue
            if not question.model.splits_over(tp):
                continue
            for precision in question.precisions:
                price = gpu.price.usd_per_hour if gpu.price else None
                key = (gpu.memory_bytes, gpu.bandwidth, price, gpu.vendor, precision) if tp == 1 else (gpu.name, tp)
                key = (*key, precision, tuple(gpu.peaks.values()))
                if key in seen:
                    continue
                seen.add(key)
                yield Setup(
                    model=question.model,
                    gpu=gpu,
                    engine=question.engine,
                    tp=tp,
                    precision=precision,
                    kv_precision=question.kv_precision,
                    calibration=question.calibration_for(gpu),
                )


def rejected(
    setup: Setup, why: Why, reason: str, replicas: int | None = None, broken: tuple[str, float] | None = None
) -> Rejected:
    """``replicas``: the fewest that could do, if known. ``broken``: part of a promise, and what it is at least."""
    gpus = None if replicas is None else replicas * setup.tp
    usd = None if gpus is None or setup.gpu.price is None else gpus * setup.gpu.price.usd_per_hour
    return Rejected(
        gpu=setup.gpu.name,
        gpu_title=setup.gpu.title,
        tp=setup.tp,
        precision=str(setup.precision),
        why=why,
        reason=reason,
        gpus=gpus,
        usd_per_hour=usd,
        part=broken[0] if broken else None,
        least_s=broken[1] if broken else None,
    )


def smallest_said(question: Question) -> str:
    """What would hold a model that none of the question's GPUs holds."""
    model = question.model
    found = min(
        _holding(question),
        key=lambda setup: (setup.precision not in question.precisions, setup.tp, cost_of(setup.gpu, setup.tp)),
        default=None,
    )
    if found is None:
        return f"{model.name} fits no replica of up to {max(TENSOR_PARALLEL)} GPUs of the catalogue, in any precision"
    asked = f"--max-gpus {question.max_gpus}" if found.gpu in question.gpus else "those that were named"
    return (
        f"{model.name} doesn't fit a replica of {asked}; the smallest that holds it is {found.tp} x {found.gpu.name} "
        f"in {found.precision}: add --gpu {found.gpu.name} --precision {found.precision} --max-gpus {found.tp}"
    )


def _holding(question: Question) -> Iterator[Setup]:
    for gpu in question.catalogue or question.gpus:
        for tp in TENSOR_PARALLEL:
            if tp > (gpu.link.most if tp > 1 else 1) or not question.model.splits_over(tp):
                continue
            for precision in (Precision.BF16, Precision.FP8, Precision.INT8, Precision.INT4, Precision.FP4):
                setup = Setup(
                    model=question.model,
                    gpu=gpu,
                    engine=question.engine,
                    tp=tp,
                    precision=precision,
                    kv_precision=question.kv_precision,
                )
                try:
                    memory(setup)
                    peak(gpu, precision)
                except PlanError:
                    continue
                yield setup
