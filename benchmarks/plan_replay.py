"""A measured overload of vLLM, replayed: Headway's own scheduler under vLLM's rules, on a modelled RTX 4090.

300 requests come in 29 s to Llama-3.1-8B in bf16; the GPU takes 184 s over them, because its KV cache holds about forty
at once. So what is predicted is a queue, its order, and who is preempted, not just how long a step takes. The arrivals
and lengths are those of the run (``data/README.md``); everything else is the planner's.

What the planner may know is varied. ``data_sheet``: memory, bandwidth and peak, and the flat shares of both that it
assumes for a GPU that nobody measured. ``sister``: the rates measured on the L40S, which has the same kind of cores.
``operators``: the catalogue as shipped, with rates of single matrix products and attention kernels that were measured
on an RTX 4090, by the authors of this run, but not in it. ``calibrated``: the same and two numbers fitted to the first
30 s of this run; figures are of all requests and, as ``rest``, of those that got their first token later. Each is run
with the KV cache that the planner predicts (its engine profile knows of this run's) and, as ``_kv``, with the true one.
``own_limits_kv`` shows what the rules are worth: ``calibrated_kv`` with Headway's own limits in place of vLLM's.
"""

from __future__ import annotations

import argparse
import sys
import time
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.measured_run import RTX4090, Engine, Run, Served, errors, read_engine
from headway.plan.calibration import StepPoint, fit
from headway.plan.catalogue import find_gpu, gpus
from headway.plan.engine import Calibration
from headway.plan.engines import find_engine
from headway.plan.gpu import Gpu
from headway.plan.known_models import find_model
from headway.plan.setup import Setup
from headway.plan.steptime import machine
from headway.policy.baselines import StaticPolicy
from headway.policy.plan import ExecutorInfo
from headway.policy.policies import VLLM_CONFIG
from headway.policy.scheduler import Scheduler, SchedulerConfig
from headway.policy.stepshape import StepShape
from headway.sim.cluster import Cluster
from headway.sim.result import Recorder, Window
from headway.sim.workload import Call, Size

MODEL, GPU, SISTER, ENGINE = "llama-3.1-8b", "rtx-4090", "l40s", "vllm"
GATE = 0.10
GATED = ("ttft_mean_s", "tpot_mean_s", "duration_s", "output_tok_s", "batch_mean", "batch_over_time")
CALIBRATION_S = 30.0
END_S = 36_000.0


class Watched(StaticPolicy):
    """vLLM's policy, which also keeps when each step ended."""

    def __init__(self) -> None:
        super().__init__()
        self.ends_s: list[float] = []

    def observe(self, now: float, shape: StepShape, elapsed_s: float) -> None:
        self.ends_s.append(now)


@dataclass(frozen=True, slots=True)
class Replayed:
    """``ends_s``: when its steps ended. ``preemptions``: in all."""

    run: Run
    ends_s: tuple[float, ...]
    preemptions: int


def variants() -> dict[str, Gpu]:
    """What may be known of the GPU, by name."""
    catalogue = gpus()
    gpu, sister = find_gpu(GPU, catalogue), find_gpu(SISTER, catalogue)
    return {
        "data_sheet": replace(gpu, gemm={}, attention=None),
        "sister": replace(gpu, gemm=sister.gemm, attention=sister.attention),
        "operators": gpu,
    }


def setup_of(gpu: Gpu, engine: Engine) -> Setup:
    profile = replace(find_engine(ENGINE), max_step_tokens=engine.max_step_tokens)
    return Setup(model=find_model(MODEL), gpu=gpu, engine=profile)


def replay(
    measured: Run, setup: Setup, engine: Engine, kv_blocks: int | None = None, limits: SchedulerConfig = VLLM_CONFIG
) -> Replayed:
    """The requests of a run, served by a modelled engine. ``kv_blocks``: in place of those predicted."""
    config = replace(limits, max_step_tokens=engine.max_step_tokens, max_running=engine.max_running)
    policy = Watched()
    schedulers: list[Scheduler] = []

    def make(info: ExecutorInfo) -> Scheduler:
        if kv_blocks is not None:
            info = replace(info, kv_blocks=kv_blocks)
        schedulers.append(Scheduler(info, config, prefix_key=b"replayed", policy=policy))
        return schedulers[-1]

    recorder = Recorder(Window(0.0, END_S), keep_gaps=False)
    simulation = Cluster(_calls(measured), [machine(setup)], [make], recorder, seed=0, step_by_step=True)
    simulation.run(END_S)
    served = []
    for record in recorder.result(simulation.now, simulation.steps).records:
        assert record.ttft_s is not None, f"request {record.index} was not served"
        assert record.e2e_s is not None, f"request {record.index} was not served to its end"
        served.append(
            Served(
                arrived_s=record.arrived_s,
                first_s=record.sent_s + record.ttft_s,
                last_s=record.sent_s + record.e2e_s,
                prompt_tokens=record.prompt_tokens,
                output_tokens=record.output_tokens,
            )
        )
    return Replayed(Run(tuple(served)), tuple(policy.ends_s), schedulers[0].counters.preemptions)


def _calls(measured: Run) -> Iterator[Call]:
    for index, each in enumerate(measured.served):
        yield Call(
            index=index,
            at_s=each.arrived_s,
            size=Size(each.prompt_tokens, each.output_tokens),
            max_tokens=each.output_tokens,
            service_class="batch",
        )


def calibrate(measured: Run, simulated: Replayed, until_s: float = CALIBRATION_S) -> Calibration:
    """Two numbers from what was measured up to ``until_s``: times to the first token, which are a few large steps, and
    times per token of requests that have ended, which are many small ones."""
    points = []
    for theirs, ours in zip(measured.served, simulated.run.served, strict=True):
        if theirs.first_s <= until_s:
            steps = bisect_left(simulated.ends_s, ours.first_s) - bisect_right(simulated.ends_s, ours.arrived_s) + 1
            points.append(StepPoint(ours.ttft_s, theirs.ttft_s, max(1, steps)))
        if theirs.last_s <= until_s:
            points.append(StepPoint(ours.tpot_s, theirs.tpot_s))
    return fit(points)


def rest(run: Run, measured: Run, after_s: float = CALIBRATION_S) -> Run:
    """The requests that got their first token later in the measured run."""
    return Run(
        tuple(ours for ours, theirs in zip(run.served, measured.served, strict=True) if theirs.first_s > after_s)
    )


def within_gate(error: dict[str, float]) -> bool:
    return all(abs(error[name]) <= GATE for name in GATED)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--run", type=Path, default=RTX4090, help="another measured run, in the same form")


def run(arguments: argparse.Namespace) -> dict[str, float | int | str | None]:
    measured, engine = Run.read(arguments.run), read_engine(arguments.run)
    figures: dict[str, float | int | str | None] = {
        f"measured_{name}": value for name, value in measured.figures().items()
    }
    figures |= {"measured_kv_blocks": engine.kv_blocks, "gate": GATE}
    setups = {name: setup_of(gpu, engine) for name, gpu in variants().items()}
    first = replay(measured, setups["operators"], engine, engine.kv_blocks)
    calibration = calibrate(measured, first)
    figures |= {"calibrated_step_ms": 1000 * calibration.step_s, "calibrated_factor": calibration.factor}
    setups["calibrated"] = replace(setups["operators"], calibration=calibration)
    figures["predicted_kv_blocks"] = machine(setups["operators"]).info.kv_blocks
    cases: dict[str, tuple[Setup, int | None, SchedulerConfig]] = {}
    for name, setup in setups.items():
        cases[name] = (setup, None, VLLM_CONFIG)
        cases[f"{name}_kv"] = (setup, engine.kv_blocks, VLLM_CONFIG)
    cases["own_limits_kv"] = (setups["calibrated"], engine.kv_blocks, SchedulerConfig())
    for label, (setup, kv_blocks, limits) in cases.items():
        began_s = time.monotonic()
        simulated = replay(measured, setup, engine, kv_blocks, limits)
        figures |= {f"{label}_{key}": value for key, value in simulated.run.figures().items()}
        error = errors(simulated.run, measured)
        figures |= {f"{label}_error_{key}": value for key, value in error.items()}
        figures |= {f"{label}_preemptions": simulated.preemptions, f"{label}_within_gate": int(within_gate(error))}
        if label.startswith("calibrated"):
            later = errors(rest(simulated.run, measured), rest(measured, measured))
            figures |= {f"{label}_rest_error_{key}": later[key] for key in ("ttft_mean_s", "tpot_mean_s")}
        _say(label, error, simulated, time.monotonic() - began_s)
    return figures


def _say(label: str, error: dict[str, float], simulated: Replayed, wall_s: float) -> None:
    parts = ", ".join(f"{name.removesuffix('_s')} {100 * error[name]:+.1f} %" for name in GATED)
    verdict = "within" if within_gate(error) else "outside"
    print(
        f"{label:15} {parts}; {simulated.preemptions} preemptions; {verdict} {100 * GATE:.0f} % ({wall_s:.0f} s)",
        file=sys.stderr,
    )
