"""The simulator on the same requests: what it predicts for a run that was measured.

The scheduler is the real one; the hardware is the step-time model that the live server had learned by its end.
Steps scatter around its predictions as widely as the model's own margin says.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from headway.bench.call import Call
from headway.bench.verdict import Verdict
from headway.plan.learned import LearnedMachine
from headway.policy.plan import ExecutorInfo
from headway.policy.policies import build
from headway.policy.scheduler import Scheduler, SchedulerConfig
from headway.policy.slo import CONVERSATIONAL, Objective, ServiceClasses
from headway.policy.steptime import StepTimeModel
from headway.sim.clients import IMPATIENT
from headway.sim.result import Recorder, Summary, Window
from headway.sim.run import DRAIN_S, Simulation
from headway.sim.workload import Call as SimulatedCall
from headway.sim.workload import Size

BLOCK_SIZE = 16
ERROR_TARGET = 0.15


@dataclass(frozen=True, slots=True)
class AdaptiveRun:
    """A run of the adaptive server. ``seed`` is that of its calls."""

    name: str
    calls: list[Call]
    verdict: Verdict
    seed: int


def predict(run: AdaptiveRun, objective: Objective, model_json: str, *, kv_tokens: int, seconds: float) -> Summary:
    """What the adaptive policy would make of the run's requests on the machine of the model."""
    info = ExecutorInfo(BLOCK_SIZE, kv_tokens // BLOCK_SIZE, kv_tokens, 1 << 32, "simulated")
    policy = build("headway", model=StepTimeModel.from_json(model_json), classes=ServiceClasses())
    recorder = Recorder(Window(0.0, seconds), keep_gaps=True)
    simulation = Simulation(
        simulated(run.calls, objective),
        LearnedMachine(model=StepTimeModel.from_json(model_json), info=info),
        lambda info: Scheduler(info, SchedulerConfig(), prefix_key=b"benchmark", policy=policy),
        recorder,
        seed=run.seed,
        client=IMPATIENT,
    )
    simulation.run(seconds + DRAIN_S)
    return recorder.result(simulation.now, simulation.steps).summary()


def compare(
    runs: Sequence[AdaptiveRun], objective: Objective, model_json: str, *, kv_tokens: int, seconds: float
) -> dict[str, float | int]:
    """For each run that admitted anything: the p95s predicted, and how far they are off (0.1: a tenth too high)."""
    figures: dict[str, float | int] = {}
    errors: list[float] = []
    for run in runs:
        if run.verdict.itl.n == 0:
            continue
        summary = predict(run, objective, model_json, kv_tokens=kv_tokens, seconds=seconds)
        figures[f"predicted_{run.name}_goodput_requests_s"] = round(summary.goodput, 3)
        pairs = {"ttft": (summary.ttft, run.verdict.ttft), "itl": (summary.itl, run.verdict.itl)}
        for part, (predicted, measured) in pairs.items():
            p95_s = predicted.p95 or 0.0
            error = p95_s / measured.p95_s - 1.0
            figures[f"predicted_{run.name}_{part}_p95_ms"] = round(1000 * p95_s, 1)
            figures[f"predicted_{run.name}_{part}_p95_error"] = round(error, 3)
            errors.append(abs(error))
    if errors:
        figures["prediction_error_median"] = round(median(errors), 3)
        figures["prediction_error_worst"] = round(max(errors), 3)
        figures["predictions_on_target"] = sum(error <= ERROR_TARGET for error in errors)
        figures["predictions"] = len(errors)
    return figures


def simulated(calls: Sequence[Call], objective: Objective) -> Iterator[SimulatedCall]:
    """The same requests for the simulator, as conversations that are promised ``objective``."""
    for index, call in enumerate(calls):
        yield SimulatedCall(
            index=index,
            at_s=call.at_s or 0.0,
            size=Size(call.prompt_tokens, call.max_tokens),
            max_tokens=call.max_tokens,
            service_class=CONVERSATIONAL.name,
            objective=objective,
            weight=CONVERSATIONAL.weight,
        )
