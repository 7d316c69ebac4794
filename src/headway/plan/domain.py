"""Where the planner's predictions hold: supported, fragile, or not supported at all, each with its reasons."""

from __future__ import annotations

from headway.plan.bands import Group, Metric, band
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


def judge(setup: Setup, max_step_tokens: int | None = None, load_share: float | None = None) -> Standing:
    """``load_share``: of the highest load that the setup sustains, where that is known."""
    try:
        room = memory(setup, max_step_tokens)
        peak(setup.gpu, setup.precision)
        all_reduce(setup.gpu, setup.tp)
    except PlanError as error:
        return Standing(level=Level.UNSUPPORTED, reasons=(str(error),))
    reasons = fragile_reasons(setup, room, load_share)
    group = group_of(setup, room, load_share)
    bands = {metric: band(group, metric, setup.calibration) for metric in Metric}
    return Standing(
        level=Level.FRAGILE if reasons else Level.SUPPORTED,
        reasons=reasons,
        tpot=bands[Metric.TPOT],
        throughput=bands[Metric.THROUGHPUT],
        ttft=bands[Metric.TTFT],
    )


def group_of(setup: Setup, room: Memory, load_share: float | None = None) -> Group:
    """Whose residuals tell how far to trust it."""
    if setup.engine.eager:
        return Group.EAGER
    if setup.model.experts is not None:
        return Group.MOE
    return Group.FRAGILE if fragile_reasons(setup, room, load_share) else Group.DENSE


def fragile_reasons(setup: Setup, room: Memory, load_share: float | None = None) -> tuple[str, ...]:
    """One short sentence each."""
    model, gpu, engine = setup.model, setup.gpu, setup.engine
    found = []
    if setup.tp > 1 and gpu.link.kind == "pcie":
        found.append("tensor parallelism over PCIe: hosts differ by 10 times; measure the all-reduce on yours")
    elif all_reduce(gpu, setup.tp).assumed:
        found.append(f"nobody measured the all-reduce over this link ({gpu.link.kind})")
    if room.weight_share > WEIGHTS_MAX:
        found.append(
            f"weights take {room.weight_share:.0%} of the memory for them and the KV cache: 1 GB more or less decides"
        )
    if model.experts is not None:
        found.append("mixture of experts: which experts a step touches, and how evenly, is a guess")
    if engine.eager:
        found.append(f"{engine.title}: host time rules, and differs between hosts")
    if gpu.vendor == "AMD" and engine.since < "2025":
        found.append(f"{engine.title} on AMD: published runs took up to 5 times as long as the same GPUs do since")
    if not gemm_is_measured(gpu, setup.precision):
        found.append(f"no measured rates of {setup.precision} products on {gpu.title}: flat shares of its data sheet")
    if setup.precision is Precision.INT4:
        found.append("4-bit integer weights: kernels differ widely")
    if model.assumed:
        found.append(f"guessed of the model: {model.assumed}")
    if load_share is not None and load_share > LOAD_MAX:
        found.append(f"at {load_share:.0%} of the highest load, queueing multiplies every error of a step")
    return tuple(found)
