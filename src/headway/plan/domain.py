"""Where the planner's predictions hold: supported, fragile, or not supported at all, each with its reasons."""

from __future__ import annotations

from dataclasses import replace

from headway.plan.bands import Group, Metric, band
from headway.plan.engine import UNCALIBRATED
from headway.plan.errors import PlanError
from headway.plan.links import all_reduce
from headway.plan.memory import Memory, memory
from headway.plan.precision import Precision
from headway.plan.setup import Setup
from headway.plan.standing import Level, Standing
from headway.plan.steptime import gemm_is_measured, peak

WEIGHTS_MAX = 0.85
"""Of the memory for weights and KV cache: beyond, an error of 1 GB changes the batch much."""
LOAD_MAX = 0.9
"""Of the highest load: beyond, queueing multiplies every error of a step."""


def judge(setup: Setup, max_step_tokens: int | None = None) -> Standing:
    try:
        room = memory(setup, max_step_tokens)
        peak(setup.gpu, setup.precision)
        all_reduce(setup.gpu, setup.tp)
    except PlanError as error:
        return Standing(level=Level.UNSUPPORTED, reasons=(str(error),))
    reasons = fragile_reasons(setup, room)
    kinds = groups(setup, room)
    calibration = UNCALIBRATED if reasons else setup.calibration  # how far one holds is known of what is supported
    bands = {metric: band(kinds, metric, calibration) for metric in Metric}
    return Standing(
        level=Level.FRAGILE if reasons else Level.SUPPORTED,
        reasons=reasons,
        tpot=bands[Metric.TPOT],
        throughput=bands[Metric.THROUGHPUT],
        ttft=bands[Metric.TTFT],
    )


def near_saturation(standing: Standing, load_share: float) -> Standing:
    """``load_share``: of the highest load that a set-up sustains for long."""
    if load_share <= LOAD_MAX:
        return standing
    reason = f"at {load_share:.0%} of the highest load, queueing multiplies every error of a step"
    return replace(standing, level=Level.FRAGILE, reasons=(*standing.reasons, reason))


def groups(setup: Setup, room: Memory) -> tuple[Group, ...]:
    """Those whose residuals tell how far to trust it. The first is the one that its own residuals count to."""
    found = []
    if setup.engine.eager:
        found.append(Group.EAGER)
    if setup.model.experts is not None:
        found.append(Group.MOE)
    if _is_early_amd(setup):
        found.append(Group.EARLY_AMD)
    if _is_over_pcie(setup):
        found.append(Group.PCIE)
    if _unmeasured(setup, room):
        found.append(Group.FRAGILE)
    return tuple(found) or (Group.DENSE,)


def _is_early_amd(setup: Setup) -> bool:
    return setup.gpu.vendor == "AMD" and setup.engine.since < "2025"


def _is_over_pcie(setup: Setup) -> bool:
    """Unless the all-reduce of this very host was measured."""
    return setup.tp > 1 and setup.gpu.link.kind == "pcie" and all_reduce(setup.gpu, setup.tp).assumed


def fragile_reasons(setup: Setup, room: Memory) -> tuple[str, ...]:
    """One short sentence each."""
    found = []
    if setup.model.experts is not None:
        found.append("mixture of experts: which experts a step touches, and how evenly, is a guess")
    if setup.engine.eager:
        found.append(f"{setup.engine.title}: host time rules, and differs between hosts")
    if _is_early_amd(setup):
        found.append(
            f"{setup.engine.title} on AMD: published runs took up to 5 times as long as the same GPUs do since"
        )
    if _is_over_pcie(setup):
        found.append("tensor parallelism over PCIe: hosts differ by 10 times; measure the all-reduce on yours")
    return (*found, *_unmeasured(setup, room))


def _unmeasured(setup: Setup, room: Memory) -> list[str]:
    model, gpu = setup.model, setup.gpu
    found = []
    if all_reduce(gpu, setup.tp).assumed and not _is_over_pcie(setup):
        found.append(f"nobody measured the all-reduce over this link ({gpu.link.kind})")
    if room.weight_share > WEIGHTS_MAX:
        found.append(
            f"weights take {room.weight_share:.0%} of the memory for them and the KV cache: 1 GB more or less decides"
        )
    if not gemm_is_measured(gpu, setup.precision):
        found.append(
            f"no measured rates of {setup.precision} products on {gpu.title}: assumed shares of its data sheet"
        )
    if setup.precision is Precision.INT4:
        found.append("4-bit integer weights: kernels differ widely")
    if model.assumed:
        found.append(f"guessed of the model: {model.assumed}")
    return found
