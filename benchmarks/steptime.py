"""The step-time model on the real engine: does it learn, and does it follow when the machine's speed is halved?

A scheduler drives the engine directly, without HTTP, under a mixed load with Poisson arrivals. Every step is predicted
before it runs; errors and coverage are over these predictions. First the machine is left alone, then one busy process
for each compute thread takes half of it away. Arrivals are at a share of what the machine can do, measured in a burst
before; with the busy processes beside, of half that.
"""

from __future__ import annotations

import argparse
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from headway.engine.executor import WorkerExecutor
from headway.engine.options import EngineOptions
from headway.models.source import resolve
from headway.policy.config import SchedulerConfig
from headway.policy.plan import Executor
from headway.policy.request import RequestSpec
from headway.policy.scheduler import Scheduler
from headway.policy.steptime import StepShape, StepTimeModel
from headway.serve.calibration import calibrate

TOKEN_BUDGET = 64
KV_TOKENS = 16384
BURST_REQUESTS = 48
LOAD = 0.7
"""Arrivals, as a share of what the machine can do."""
SETTLE_STEPS = 20
"""Steps after the change of speed that don't count."""
STEPS_MIN = 400
LONGER = 3.0
"""How many times as long a half may take until it has ``STEPS_MIN`` steps."""
IDLE_S = 0.001
TIMED_CALLS = 2000


@dataclass
class Phase:
    """One-step-ahead predictions, each made before its step ran."""

    errors: list[float] = field(default_factory=list)
    within: list[bool] = field(default_factory=list)
    over: list[float] = field(default_factory=list)
    observe_s: list[float] = field(default_factory=list)
    elapsed_s: list[float] = field(default_factory=list)
    costs_s: list[float] = field(default_factory=list)

    def figures(self, name: str, skip: int) -> dict[str, float]:
        errors = sorted(self.errors[skip:])
        return {
            f"{name}_steps": len(errors),
            f"{name}_error_median_percent": _percent(errors[len(errors) // 2]),
            f"{name}_error_p90_percent": _percent(errors[len(errors) * 9 // 10]),
            f"{name}_coverage_percent": _percent(statistics.fmean(self.within[skip:])),
            f"{name}_tail_over_actual_median": round(statistics.median(self.over[skip:]), 3),
            f"{name}_step_median_ms": round(1000 * statistics.median(self.elapsed_s[skip:]), 2),
            f"{name}_pace": round(sum(self.elapsed_s[skip:]) / sum(self.costs_s[skip:]), 3),
        }


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", default="random:smollm2-135m", help="a directory, a hub id or random:SHAPE")
    parser.add_argument("--threads", type=int, default=2, help="threads of the engine, and busy processes")
    parser.add_argument("--seconds", type=float, default=60.0, help="length of each of the two halves")
    parser.add_argument("--seed", type=int, default=1, help="seed of the load")


def run(arguments: argparse.Namespace) -> dict[str, float | int | str]:
    executor = WorkerExecutor(
        resolve(arguments.model), EngineOptions(kv_tokens=KV_TOKENS, threads=arguments.threads, block_size=16)
    )
    try:
        return _measure(executor, arguments)
    finally:
        executor.stop()


def _measure(executor: Executor, arguments: argparse.Namespace) -> dict[str, float | int | str]:
    info, model = executor.start(), StepTimeModel()
    start_s = time.perf_counter()
    calibrate(executor, info, model)
    calibration = {"calibration_s": round(time.perf_counter() - start_s, 2), "calibration_samples": model.samples}
    scheduler = Scheduler(info, SchedulerConfig(max_step_tokens=TOKEN_BUDGET), prefix_key=b"benchmark")
    load = Load(executor, scheduler, model, random.Random(arguments.seed), info.vocab_size)
    capacity = load.burst()
    print(f"  capacity: {capacity:.2f} requests/s", file=sys.stderr)
    alone = load.run(arguments.seconds, LOAD * capacity)
    with _busy_processes(arguments.threads):
        halved = load.run(arguments.seconds, LOAD * capacity / 2)
    return {
        "model": arguments.model,
        "threads": arguments.threads,
        "seconds_each": arguments.seconds,
        "seed": arguments.seed,
        "capacity_requests_s": round(capacity, 3),
        **calibration,
        **alone.figures("alone", 0),
        **halved.figures("halved", SETTLE_STEPS),
        "samples": model.samples,
        "observe_mean_us": round(1e6 * statistics.fmean([*alone.observe_s, *halved.observe_s]), 1),
        "observe_max_ms": round(1e3 * max(*alone.observe_s, *halved.observe_s), 2),
        "predict_us": _cost_us(lambda: model.predict_s(64, 10, 2000, 3000.0)),
        "tail_us": _cost_us(lambda: model.tail_s(64, 10, 2000, 3000.0)),
        "chunk_within_us": _cost_us(lambda: model.chunk_within(10, 10, 2000, 0.0, 100, 2048, 0.2)),
    }


class Load:
    """Requests as they come, through one scheduler on one executor, each step observed."""

    def __init__(
        self, executor: Executor, scheduler: Scheduler, model: StepTimeModel, rng: random.Random, vocab_size: int
    ) -> None:
        self._executor = executor
        self._scheduler = scheduler
        self._model = model
        self._rng = rng
        self._vocab_size = vocab_size
        self._sent = 0

    def burst(self) -> float:
        """How many requests a second the machine can do, from a number of them at once."""
        start_s = time.perf_counter()
        for _ in range(BURST_REQUESTS):
            self._submit()
        while not self._scheduler.idle:
            self._step(Phase())
        return BURST_REQUESTS / (time.perf_counter() - start_s)

    def run(self, seconds: float, rate: float) -> Phase:
        """Arrivals at ``rate`` a second for so long, and longer if there were too few steps to say anything."""
        phase = Phase()
        start_s = due_s = time.perf_counter()
        while (now := time.perf_counter()) < start_s + seconds or (
            len(phase.errors) < STEPS_MIN and now < start_s + LONGER * seconds
        ):
            while due_s <= now:
                self._submit()
                due_s += self._rng.expovariate(rate)
            if not self._step(phase):
                time.sleep(IDLE_S)
        return phase

    def _submit(self) -> None:
        rng = self._rng
        prompt = min(max(round(rng.lognormvariate(4.16, 0.8)), 16), 256)  # medians: 64 and 48 tokens
        output = min(max(round(rng.lognormvariate(3.87, 0.7)), 4), 200)
        tokens = tuple(rng.randrange(self._vocab_size) for _ in range(prompt))
        spec = RequestSpec(request_id=f"request-{self._sent}", prompt=tokens, max_tokens=output)
        self._sent += 1
        self._scheduler.submit(time.perf_counter(), spec)

    def _step(self, phase: Phase) -> bool:
        """Run one step; False if there is nothing to run."""
        begin_s = time.perf_counter()
        plan = self._scheduler.plan(begin_s)
        if plan is None:
            return False
        shape = StepShape.of(plan)
        features = (shape.tokens, shape.sequences, shape.decode_context, shape.prefill_reads)
        predicted_s, tail_s = self._model.predict_s(*features), self._model.tail_s(*features)
        self._executor.begin(plan)
        result = self._executor.finish()
        end_s = time.perf_counter()
        elapsed_s = end_s - begin_s
        self._scheduler.apply(end_s, result)
        observed_s = time.perf_counter()
        self._model.observe(shape, elapsed_s)
        phase.observe_s.append(time.perf_counter() - observed_s)
        phase.errors.append(abs(predicted_s - elapsed_s) / elapsed_s)
        phase.within.append(elapsed_s <= tail_s)
        phase.over.append(tail_s / elapsed_s)
        phase.elapsed_s.append(elapsed_s)
        phase.costs_s.append(elapsed_s / self._model.pace)
        return True


@contextmanager
def _busy_processes(count: int) -> Iterator[None]:
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def _cost_us(call: Callable[[], object]) -> float:
    times_s = []
    for _ in range(TIMED_CALLS):
        start_s = time.perf_counter()
        call()
        times_s.append(time.perf_counter() - start_s)
    return round(1e6 * statistics.median(times_s), 2)


def _percent(share: float) -> float:
    return round(100.0 * share, 2)
