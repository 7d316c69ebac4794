"""Does the planner foretell its own server? One short run calibrates it, then five loads that it has not seen.

For each model shape a server is started, measured for ``--calibration`` seconds in closed loop, and ended: the step
times that it leaves are the planner's machine. What a request costs outside of steps is the TTFT of single requests
beyond what the machine says. The planner then searches the capacity on that machine, says what p95 TTFT, p95 ITL and
goodput will be at ``--loads`` times that capacity, and only then a new server is offered these very requests.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from statistics import median

import uvloop

from benchmarks.promise_prediction import simulated
from benchmarks.promise_traffic import OUTPUT, PROMPT, Traffic
from headway.bench.body import PLAIN
from headway.bench.call import Call
from headway.bench.generate import Options, run_load
from headway.bench.launch import HOST, RunningServer, headway_server
from headway.bench.loads import SECONDS_MAX, ClosedLoop, Load, OpenLoop
from headway.bench.record import Record
from headway.bench.target import Target
from headway.bench.verdict import Verdict, judge
from headway.models.source import resolve
from headway.plan.learned import LearnedMachine, learned_machine
from headway.policy.policies import build
from headway.policy.scheduler import Scheduler, SchedulerConfig
from headway.policy.slo import Objective
from headway.policy.stepshape import StepShape
from headway.policy.steptime import StepTimeModel
from headway.sim.capacity import capacity
from headway.sim.result import Recorder, Result, Window
from headway.sim.run import DRAIN_S, Simulation

NAME = "bench"
TIER = "priority"
KV_TOKENS = 16384
DRAIN_REAL_S = 20.0
SOCKETS_MAX = 512
CALIBRATION_STREAMS = (1, 4, 12)
"""One after the other, for a third of the time each."""
PATIENCE = 10.0
WARM_UP = ClosedLoop(concurrency=12, seconds=15.0, ramp_s=0.0)
"""The first steps of every kind take longer on a new server, and one that knows its step times skips the calibration
that would have run them."""
SEEDS = (1, 2, 3)
"""Of the noise of steps; predictions are the median over them."""
CAPACITY_SECONDS = 240.0
NEAR = 0.10


@dataclass(frozen=True, slots=True)
class Shape:
    """A model with random weights, and the promise that suits it on this kind of machine."""

    name: str
    ttft_s: float
    itl_s: float

    @classmethod
    def parse(cls, text: str) -> Shape:
        """From ``NAME:TTFT_MS:ITL_MS``. Raises ValueError."""
        name, ttft_ms, itl_ms = text.split(":")
        return cls(name, float(ttft_ms) / 1000, float(itl_ms) / 1000)

    @property
    def objective(self) -> Objective:
        return Objective(ttft_s=self.ttft_s, itl_s=self.itl_s)

    def traffic(self, patience: float = 1.0) -> Traffic:
        """``patience``: times the promise."""
        times_s = {"x-slo-ttft-ms": self.ttft_s, "x-slo-itl-ms": self.itl_s}
        headers = {name: f"{1000 * patience * time_s:g}" for name, time_s in times_s.items()}
        return Traffic(vocab_size=resolve(f"random:{self.name}").config.vocab_size, tier=TIER, headers=headers)


@dataclass(frozen=True, slots=True)
class Values:
    """p95s in seconds, goodput in requests a second."""

    ttft_s: float
    itl_s: float
    goodput: float


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--shapes", default="smollm2-135m:300:100,qwen2.5-0.5b:1200:250", help="NAME:TTFT_MS:ITL_MS, between commas"
    )
    parser.add_argument("--loads", default="0.3,0.5,0.7,0.9,1.1", help="in units of the predicted capacity")
    parser.add_argument("--seconds", type=float, default=60.0, help="of load at each point")
    parser.add_argument("--calibration", type=float, default=24.0, help="seconds of the calibrating run")
    parser.add_argument("--seed", type=int, default=1)


def run(arguments: argparse.Namespace) -> dict[str, float | int | str | None]:
    figures: dict[str, float | int | str | None] = {
        "seconds_a_point": arguments.seconds,
        "calibration_s": arguments.calibration,
        "seed": arguments.seed,
        "prompt_tokens": str(PROMPT),
        "output_tokens": str(OUTPUT),
    }
    errors: dict[str, list[float]] = {"ttft": [], "itl": [], "goodput": []}
    for text in arguments.shapes.split(","):
        with tempfile.TemporaryDirectory() as folder:
            figures |= _shape(Shape.parse(text), Path(folder) / "step_times.json", arguments, errors)
    for part, values in errors.items():
        sizes = [abs(each) for each in values]
        figures[f"{part}_error_median"] = round(median(sizes), 3)
        figures[f"{part}_error_worst"] = round(max(sizes), 3)
        figures[f"{part}_within_10_percent"] = f"{sum(each <= NEAR for each in sizes)} of {len(sizes)}"
    return figures


def _shape(
    shape: Shape, learned: Path, arguments: argparse.Namespace, errors: dict[str, list[float]]
) -> dict[str, float | int | str | None]:
    planner = _calibrate(shape, learned, arguments)
    top = planner.capacity(shape, arguments.seed)
    key = shape.name
    if not top:
        raise SystemExit(f"plan itself: by the planner nothing keeps {shape} on this machine; promise more time")
    figures: dict[str, float | int | str | None] = {
        f"{key}_promise": f"TTFT {1000 * shape.ttft_s:g} ms, ITL {1000 * shape.itl_s:g} ms",
        f"{key}_predicted_capacity_requests_s": round(top, 3),
        f"{key}_outside_steps_ms": round(1000 * planner.outside_s, 1),
        f"{key}_speed_before_ms": round(1000 * planner.single_itl_s, 2),
    }
    offers = []
    for place, load in enumerate(map(float, arguments.loads.split(","))):
        seed = arguments.seed + 100 * (place + 1)
        calls = shape.traffic().schedule("poisson", load * top, arguments.seconds, seed)
        offers.append((load, calls, planner.predict(calls, shape.objective, arguments.seconds)))
    with _server(shape, learned) as server:
        _run(server, _endless(shape, arguments.seed), WARM_UP)
        for load, calls, said in offers:
            verdict = _offer(server, calls, shape.objective, arguments.seconds)
            speed = _single_itl_s(server, shape, arguments.seed)
            figures |= _point(f"{key}_{load:g}x", load * top, said, verdict, speed, errors)
    return figures


def _point(
    key: str, rate: float, said: Values, verdict: Verdict, speed_s: float, errors: dict[str, list[float]]
) -> dict[str, float | int | str | None]:
    seen = Values(verdict.ttft.p95_s, verdict.itl.p95_s, verdict.goodput)
    off = Values(_error(said.ttft_s, seen.ttft_s), _error(said.itl_s, seen.itl_s), _error(said.goodput, seen.goodput))
    for part, error in (("ttft", off.ttft_s), ("itl", off.itl_s), ("goodput", off.goodput)):
        errors[part].append(error)
    print(
        f"  {key}: {rate:.2f} requests/s; TTFT {1000 * said.ttft_s:.0f} said {1000 * seen.ttft_s:.0f} ms seen, "
        f"ITL {1000 * said.itl_s:.0f} and {1000 * seen.itl_s:.0f} ms, goodput {said.goodput:.2f} and {seen.goodput:.2f}"
        f"; single stream {1000 * speed_s:.1f} ms a token",
        file=sys.stderr,
    )
    return {
        f"{key}_rate_requests_s": round(rate, 3),
        f"{key}_offered": verdict.offered,
        f"{key}_attainment": round(verdict.attainment, 3),
        f"{key}_ttft_p95_ms": round(1000 * seen.ttft_s, 1),
        f"{key}_ttft_p95_predicted_ms": round(1000 * said.ttft_s, 1),
        f"{key}_ttft_p95_error": round(off.ttft_s, 3),
        f"{key}_itl_p95_ms": round(1000 * seen.itl_s, 1),
        f"{key}_itl_p95_predicted_ms": round(1000 * said.itl_s, 1),
        f"{key}_itl_p95_error": round(off.itl_s, 3),
        f"{key}_goodput": round(seen.goodput, 3),
        f"{key}_goodput_predicted": round(said.goodput, 3),
        f"{key}_goodput_error": round(off.goodput, 3),
        f"{key}_single_itl_ms_after": round(1000 * speed_s, 2),
    }


def _error(said: float, seen: float) -> float:
    """Relative; 1 where something was foretold and nothing came, as when all were refused."""
    return said / seen - 1 if seen else float(said > 0.0)


# ---- the planner -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Planner:
    """``outside_s``: of a request's TTFT, what is not steps. ``single_itl_s``: a single stream's gaps, measured."""

    machine: LearnedMachine
    outside_s: float
    single_itl_s: float

    def predict(self, calls: Sequence[Call], objective: Objective, seconds: float) -> Values:
        runs = [self._simulate(calls, objective, seconds, seed).summary() for seed in SEEDS]
        return Values(
            median(each.ttft.p95 or 0.0 for each in runs) + self.outside_s,
            median(each.itl.p95 or 0.0 for each in runs),
            median(each.goodput for each in runs),
        )

    def capacity(self, shape: Shape, seed: int) -> float:
        """The largest rate whose attainment is predicted to be 95 %, to 2 %."""

        def attainment(rate: float) -> float:
            calls = shape.traffic().schedule("poisson", rate, CAPACITY_SECONDS, seed)
            result = self._simulate(calls, shape.objective, CAPACITY_SECONDS, seed)
            return result.summary().attainment or 0.0

        return capacity(attainment, 0.2, 2.0).rate

    def _simulate(self, calls: Sequence[Call], objective: Objective, seconds: float, seed: int) -> Result:
        known = self.machine.model.to_json()
        policy = build("headway", model=StepTimeModel.from_json(known))
        recorder = Recorder(Window(0.0, seconds), keep_gaps=True)
        simulation = Simulation(
            simulated(calls, objective),
            self.machine,
            lambda info: Scheduler(info, SchedulerConfig(), prefix_key=b"benchmark", policy=policy),
            recorder,
            seed=seed,
        )
        simulation.run(seconds + DRAIN_S)
        return recorder.result(simulation.now, simulation.steps)


def _calibrate(shape: Shape, learned: Path, arguments: argparse.Namespace) -> Planner:
    """One short run of a server, which leaves its step times when it ends."""
    singles: list[Record] = []
    with _server(shape, learned) as server:
        _run(server, _endless(shape, arguments.seed), WARM_UP)
        for streams in CALIBRATION_STREAMS:
            seconds = arguments.calibration / len(CALIBRATION_STREAMS)
            load = ClosedLoop(concurrency=streams, seconds=seconds, ramp_s=0.0)
            records = _run(server, _endless(shape, arguments.seed + streams), load)
            singles = singles or records
    machine = learned_machine(learned, kv_tokens=KV_TOKENS)
    whole = [each for each in singles[1:] if each.is_ok and each.ttft_s is not None]
    outside = [(each.ttft_s or 0.0) - _prefill_s(machine, each) for each in whole]
    return Planner(machine, max(0.0, median(outside)), median(gap for each in whole for gap in each.gaps_s()))


def _prefill_s(machine: LearnedMachine, record: Record) -> float:
    tokens = record.prompt_tokens
    return machine.step_s(StepShape(tokens, 1, 0, tokens * tokens / 2))


# ---- the server ------------------------------------------------------------------------------------------------------


def _server(shape: Shape, learned: Path) -> AbstractContextManager[RunningServer]:
    flags = ["--name", NAME, "--kv-tokens", str(KV_TOKENS), "--quiet", "--step-times", str(learned)]
    return headway_server(f"random:{shape.name}", *flags)


def _offer(server: RunningServer, calls: Sequence[Call], objective: Objective, seconds: float) -> Verdict:
    load = OpenLoop(rate=0.0, seconds=seconds, arrivals="trace", in_flight_max=SOCKETS_MAX)
    return judge(_run(server, iter(calls), load), objective, seconds)


def _single_itl_s(server: RunningServer, shape: Shape, seed: int) -> float:
    load = ClosedLoop(concurrency=1, seconds=SECONDS_MAX, ramp_s=0.0)
    records = _run(server, _singles(shape, 4, seed), load)
    return median(gap for each in records for gap in each.gaps_s())


def _run(server: RunningServer, calls: Iterator[Call], load: Load) -> list[Record]:
    records: list[Record] = []
    target = Target(host=HOST, port=server.port, api="completions", model=NAME)
    options = Options(dialect=PLAIN, drain_s=DRAIN_REAL_S)
    uvloop.run(run_load(target, calls, load, on_record=records.append, stop=asyncio.Event(), options=options))
    return records


def _endless(shape: Shape, seed: int) -> Iterator[Call]:
    """So patient that none is refused, and no prompt waits for its turn."""
    rng, traffic = Random(seed), shape.traffic(PATIENCE)
    return iter(lambda: traffic.call(rng), None)


def _singles(shape: Shape, count: int, seed: int) -> Iterator[Call]:
    calls = _endless(shape, seed)
    return (next(calls) for _ in range(count))
