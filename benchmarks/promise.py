"""Is the promise kept on a real server? The adaptive policy against static settings, over HTTP, in one run.

Every setting has a server of its own; all are up the whole time and idle but for the one that is measured. Each point
(arrival process x load) is offered to all of them one after the other, with the same requests at the same times, in an
order that rotates; so a slow minute of the machine hits all alike. Requests are sent in open loop and timed from when
they were meant to be sent. Goodput counts requests in SLO a second of load: finished, first token within the TTFT
promise, 95 % of its own gaps within the ITL promise. What is not whole ``--drain`` seconds after the last arrival is a
miss. "Best static" is the best of the grid at that very point, chosen in hindsight.

Afterwards the simulator is given the same requests, and the step-time model that the adaptive server had in the end.
How far its p95s are from those measured is in the figures too.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import uvloop

from benchmarks.promise_prediction import AdaptiveRun, compare
from benchmarks.promise_traffic import ARRIVALS, OUTPUT, PROMPT, Traffic
from headway.bench.body import PLAIN
from headway.bench.call import Call
from headway.bench.capacity import Level, find_capacity
from headway.bench.generate import LoadStats, Options, run_load
from headway.bench.launch import HOST, RunningServer, headway_server
from headway.bench.loads import SECONDS_MAX, ClosedLoop, Load, OpenLoop
from headway.bench.record import Record
from headway.bench.statistics import nearest_rank
from headway.bench.target import Target
from headway.bench.verdict import Verdict, judge
from headway.models.source import resolve
from headway.policy.slo import BATCH, CONVERSATIONAL, Objective
from headway.serve.policy_maker import read_step_times

NAME = "bench"
TIER = "priority"
ADAPTIVE = "adaptive"
BUNDLED = "bundled"
KV_TOKENS = 16384
"""Room for 64 of the longest requests."""
CAPACITY_LEVEL_S = 6.0
WARM_UP_REQUESTS = 6
SOCKETS_MAX = 512


@dataclass(frozen=True, slots=True)
class Setting:
    """A way to run the server: its name in the figures, and what it is started with."""

    name: str
    flags: tuple[str, ...]

    @classmethod
    def static(cls, text: str) -> Setting:
        """From ``MAX_RUNNINGxMAX_STEP_TOKENS``. Raises ValueError."""
        max_running, times, max_step_tokens = text.partition("x")
        if not (times and max_running.isdigit() and max_step_tokens.isdigit()):
            raise ValueError(f"a static setting is MAX_RUNNINGxMAX_STEP_TOKENS, such as 16x64, not {text!r}")
        flags = ("--policy", "static", "--max-running", max_running, "--max-step-tokens", max_step_tokens)
        return cls(f"static_{text}", flags)


@dataclass(frozen=True, slots=True)
class Point:
    """One place on the load axis."""

    process: str
    load: float

    def __str__(self) -> str:
        return f"{self.process}_{self.load:g}x"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", default="random:smollm2-135m", help="a directory, a hub id, random:SHAPE or bundled")
    parser.add_argument(
        "--grid", default="4x64,16x64,16x256,64x256", help="static settings: MAX_RUNNINGxMAX_STEP_TOKENS"
    )
    parser.add_argument("--loads", default="0.5,1,2", help="offered load, in units of the capacity")
    parser.add_argument("--arrivals", default=",".join(ARRIVALS), help="arrival processes")
    parser.add_argument("--capacity", type=float, help="requests a second; found in closed loop if not given")
    parser.add_argument("--ttft-ms", type=float, help="promise another TTFT than the conversational class does")
    parser.add_argument("--itl-ms", type=float, help="promise another ITL")
    parser.add_argument("--seconds", type=float, default=12.0, help="of load at each point")
    parser.add_argument("--drain", type=float, default=10.0, help="seconds to wait after the last arrival, at most")
    parser.add_argument("--rounds", type=int, default=1, help="times that every point is measured, with other seeds")
    parser.add_argument("--threads", type=int, default=2, help="threads of each engine")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--model-file", type=Path, help="a step-time model to predict from, in place of the server's")


def run(arguments: argparse.Namespace) -> dict[str, float | int | str | None]:
    with tempfile.TemporaryDirectory() as folder:
        return _run(arguments, Path(folder) / "step_times.json")


def _run(arguments: argparse.Namespace, learned: Path) -> dict[str, float | int | str | None]:
    """``learned``: where the adaptive server leaves its step-time model when it ends."""
    adaptive = Setting(ADAPTIVE, ("--policy", "headway", "--step-times", str(learned)))
    settings = [adaptive, *(Setting.static(each) for each in _list(arguments.grid))]
    points = [Point(each, float(load)) for each in _list(arguments.arrivals) for load in _list(arguments.loads)]
    objective, headers = _promise(arguments.ttft_ms, arguments.itl_ms)
    vocab_size = resolve(_model(arguments)).config.vocab_size
    traffic = Traffic(vocab_size=vocab_size, tier=TIER, headers=headers)
    with contextlib.ExitStack() as stack:
        servers: dict[Setting, RunningServer] = {}
        for setting in settings:
            servers[setting] = stack.enter_context(_server(arguments, setting))
            print(f"  {setting.name}: ready after {servers[setting].ready_s:.1f} s", file=sys.stderr)
        measurement = Measurement(traffic, objective, servers, arguments)
        capacity = uvloop.run(measurement.prepare(arguments.capacity))
        uvloop.run(measurement.measure(points, capacity))
    model = read_step_times(arguments.model_file or learned).model
    return {
        "model": arguments.model,
        "threads": arguments.threads,
        "seed": arguments.seed,
        "rounds": arguments.rounds,
        "seconds_a_point": arguments.seconds,
        "promise_ttft_ms": 1000 * (objective.ttft_s or 0.0),
        "promise_itl_ms": 1000 * (objective.itl_s or 0.0),
        "prompt_tokens": str(PROMPT),
        "output_tokens": str(OUTPUT),
        "capacity_requests_s": round(capacity, 2),
        **measurement.figures(points),
        **compare(
            measurement.adaptive_runs, objective, model.to_json(), kv_tokens=KV_TOKENS, seconds=arguments.seconds
        ),
    }


class Measurement:
    """All that was measured, by point and setting, over all rounds."""

    def __init__(
        self,
        traffic: Traffic,
        objective: Objective,
        servers: dict[Setting, RunningServer],
        arguments: argparse.Namespace,
    ) -> None:
        self._traffic = traffic
        self._objective = objective
        self._servers = servers
        self._arguments = arguments
        self._records: dict[tuple[Point, Setting], list[Record]] = {}
        self.adaptive_runs: list[AdaptiveRun] = []
        self._slip_s = self._cpu_s = self._elapsed_s = 0.0
        self._tokens = self._seen = self._asked = 0

    async def prepare(self, capacity: float | None) -> float:
        """Warm all servers up; then the capacity, unless it is given: that of the last setting, which never refuses."""
        rng = random.Random(self._arguments.seed)

        typical = iter(lambda: self._traffic.call(rng), None)
        warm_up = ClosedLoop(concurrency=2, seconds=SECONDS_MAX, ramp_s=0.0)
        for server in self._servers.values():
            calls = [replace(next(typical), tier=BATCH.tiers[0]) for _ in range(WARM_UP_REQUESTS)]
            await self._run(server, calls, warm_up)  # nothing is promised to these, so none is refused
        if capacity is not None:
            return capacity
        return await find_capacity(
            _target(list(self._servers.values())[-1]),
            typical,
            self._objective,
            seconds=CAPACITY_LEVEL_S,
            dialect=PLAIN,
            on_level=_say_level,
        )

    async def measure(self, points: list[Point], capacity: float) -> None:
        settings = list(self._servers)
        for turn in range(self._arguments.rounds):
            for place, point in enumerate(points):
                seed = self._arguments.seed + 1000 * (turn + 1) + place
                first = (turn + place) % len(settings)
                calls = self._traffic.schedule(point.process, point.load * capacity, self._arguments.seconds, seed)
                for setting in settings[first:] + settings[:first]:
                    verdict = await self._offer(point, setting, calls)
                    if setting.name == ADAPTIVE:
                        name = f"{point}_round_{turn + 1}"
                        self.adaptive_runs.append(AdaptiveRun(name, calls, verdict, seed))

    async def _offer(self, point: Point, setting: Setting, calls: list[Call]) -> Verdict:
        load = OpenLoop(rate=0.0, seconds=self._arguments.seconds, arrivals="trace", in_flight_max=SOCKETS_MAX)
        records, stats = await self._run(self._servers[setting], calls, load)
        self._records.setdefault((point, setting), []).extend(records)
        self._note_client(records, stats)
        verdict = judge(records, self._objective, self._arguments.seconds)
        print(f"  {point!s:14} {setting.name:14} {_line(verdict)}", file=sys.stderr)
        return verdict

    async def _run(self, server: RunningServer, calls: list[Call], load: Load) -> tuple[list[Record], LoadStats]:
        records: list[Record] = []
        options = Options(dialect=PLAIN, drain_s=self._arguments.drain)
        stats = await run_load(
            _target(server), iter(calls), load, on_record=records.append, stop=asyncio.Event(), options=options
        )
        return records, stats

    def _note_client(self, records: list[Record], stats: LoadStats) -> None:
        self._slip_s = max(self._slip_s, nearest_rank(sorted([0.0, *(each.slip_s for each in records)]), 0.99))
        self._cpu_s += stats.cpu_s
        self._elapsed_s += stats.elapsed_s
        self._tokens += stats.tokens
        whole = [each for each in records if each.is_ok]
        self._seen += sum(each.tokens for each in whole)
        self._asked += sum(each.max_tokens for each in whole)

    def figures(self, points: list[Point]) -> dict[str, float | int | str | None]:
        """Every setting at every point; then the adaptive one against the best static one of that point."""
        seconds = self._arguments.seconds * self._arguments.rounds
        figures: dict[str, float | int | str | None] = {
            "client_cpu_share_of_one_core": round(self._cpu_s / self._elapsed_s, 3),
            "client_cpu_us_per_token": round(1e6 * self._cpu_s / max(1, self._tokens), 1),
            "client_tokens_seen_share": _ratio(self._seen, self._asked),
            "client_slip_p99_worst_ms": round(1000 * self._slip_s, 1),
        }
        for point in points:
            verdicts = {each: judge(self._records[point, each], self._objective, seconds) for each in self._servers}
            for setting, verdict in verdicts.items():
                figures |= {f"{setting.name}_{point}_{key}": value for key, value in _figures(verdict).items()}
            adaptive = next(verdict for each, verdict in verdicts.items() if each.name == ADAPTIVE)
            static = {each.name: verdict for each, verdict in verdicts.items() if each.name != ADAPTIVE}
            if static:
                best = max(static, key=lambda name: static[name].goodput)
                figures[f"best_static_{point}"] = best
                figures[f"adaptive_over_best_static_{point}"] = _ratio(adaptive.goodput, static[best].goodput)
        return figures


def _target(server: RunningServer) -> Target:
    return Target(host=HOST, port=server.port, api="completions", model=NAME)


def _figures(verdict: Verdict) -> dict[str, float | int]:
    return {
        "offered": verdict.offered,
        "refused": verdict.refused,
        "refused_late": verdict.refused_late,
        "failed": verdict.failed,
        "output_tokens": verdict.output_tokens,
        "goodput_requests_s": round(verdict.goodput, 3),
        "attainment": round(verdict.attainment, 3),
        "attainment_admitted": round(verdict.attainment_admitted, 3),
        "ttft_p50_ms": round(1000 * verdict.ttft.p50_s, 1),
        "ttft_p95_ms": round(1000 * verdict.ttft.p95_s, 1),
        "itl_p50_ms": round(1000 * verdict.itl.p50_s, 1),
        "itl_p95_ms": round(1000 * verdict.itl.p95_s, 1),
    }


def _line(verdict: Verdict) -> str:
    return (
        f"{verdict.offered:4} offered {verdict.refused:4} refused  goodput {verdict.goodput:5.2f}/s  "
        f"in SLO {100 * verdict.attainment:3.0f} % of all, {100 * verdict.attainment_admitted:3.0f} % of admitted  "
        f"p95 TTFT {1000 * verdict.ttft.p95_s:5.0f} ms ITL {1000 * verdict.itl.p95_s:4.0f} ms"
    )


def _say_level(level: Level) -> None:
    print(
        f"  {level.streams:3} streams: {level.requests_per_s:.2f} requests/s, "
        f"p95 TTFT {1000 * level.ttft_p95_s:.0f} ms ITL {1000 * level.itl_p95_s:.0f} ms",
        file=sys.stderr,
    )


def _ratio(value: float, against: float) -> float | None:
    """None where there is nothing to compare with."""
    return round(value / against, 3) if against else None


def _promise(ttft_ms: float | None, itl_ms: float | None) -> tuple[Objective, dict[str, str]]:
    """The promise of the tier, or what the flags make of it; and the headers that ask for it."""
    objective = CONVERSATIONAL.objective
    headers: dict[str, str] = {}
    if ttft_ms is not None:
        headers["x-slo-ttft-ms"] = f"{ttft_ms:g}"
    if itl_ms is not None:
        headers["x-slo-itl-ms"] = f"{itl_ms:g}"
    ttft_s = objective.ttft_s if ttft_ms is None else ttft_ms / 1000
    itl_s = objective.itl_s if itl_ms is None else itl_ms / 1000
    return Objective(ttft_s=ttft_s, itl_s=itl_s), headers


@contextlib.contextmanager
def _server(arguments: argparse.Namespace, setting: Setting) -> Iterator[RunningServer]:
    shared = ["--name", NAME, "--kv-tokens", str(KV_TOKENS), "--threads", str(arguments.threads), "--quiet"]
    model = _model(arguments)
    with headway_server(*([] if model is None else [model]), *shared, *setting.flags) as server:
        yield server


def _model(arguments: argparse.Namespace) -> str | None:
    return None if arguments.model == BUNDLED else arguments.model


def _list(text: str) -> list[str]:
    return [each.strip() for each in text.split(",") if each.strip()]
