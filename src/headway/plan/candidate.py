"""Set-ups of one replica that a search goes through, and which of them can be left out before anything is simulated."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from headway.plan.bounds import Bounds
from headway.plan.errors import PlanError
from headway.plan.gpu import Gpu, Link
from headway.plan.memory import Memory, memory
from headway.plan.outcome import Rejected, Why
from headway.plan.precision import Precision
from headway.plan.question import TENSOR_PARALLEL, Question
from headway.plan.setup import Setup, is_measured
from headway.plan.standing import Standing
from headway.plan.steptime import peak


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A set-up of one replica that may do. ``bounds``: what no scheduler can do better on it."""

    setup: Setup
    memory: Memory
    standing: Standing
    bounds: Bounds

    def cost(self, replicas: int) -> float:
        """What set-ups are ranked by: dollars an hour, and without a price far behind, by the number of GPUs."""
        return cost_of(self.setup.gpu, self.setup.tp * replicas)


NO_PRICE = 1e9
HELD_IN = (Precision.BF16, Precision.FP8, Precision.INT8, Precision.INT4, Precision.FP4)
"""What else a model can be held in, where it fits in nothing that was asked for."""


def cost_of(gpu: Gpu, gpus: int) -> float:
    return NO_PRICE * gpus if gpu.price is None else gpu.price.usd_per_hour * gpus


def setups(question: Question) -> Iterator[Setup]:
    """All that can be put together of the question's GPUs, calibrated where that was measured. What differs only in a
    link that is not used comes once."""
    seen: list[tuple[float | None, Setup]] = []
    for gpu in question.gpus:
        for setup in _of(question, gpu, question.tensor_parallel or TENSOR_PARALLEL, question.precisions):
            if setup.gpus > question.max_gpus:
                continue
            if is_measured(setup, question.calibration):
                setup = replace(setup, calibration=question.calibration)
            elif setup.tp == 1:
                twin = (gpu.price.usd_per_hour if gpu.price else None, _without_link(setup))
                if twin in seen:
                    continue
                seen.append(twin)
            yield setup


def _of(question: Question, gpu: Gpu, sizes: Iterable[int], precisions: Iterable[Precision]) -> Iterator[Setup]:
    for tp in sizes:
        if tp > (gpu.link.most if tp > 1 else 1) or not question.model.splits_over(tp):
            continue
        for precision in precisions:
            yield Setup(
                model=question.model,
                gpu=gpu,
                engine=question.engine,
                tp=tp,
                precision=precision,
                kv_precision=question.kv_precision,
            )


def _without_link(setup: Setup) -> Setup:
    """With all that the link, names and origins of its GPU say left out."""
    plain = replace(setup.gpu, name="", title="", aliases=(), link=_NO_LINK, prices=(), sources={})
    return replace(setup, gpu=plain)


_NO_LINK = Link(kind="pcie", bandwidth=0.0, most=1)


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
        for setup in _of(question, gpu, TENSOR_PARALLEL, HELD_IN):
            try:
                memory(setup)
                peak(gpu, setup.precision)
            except PlanError:
                continue
            yield setup
