"""Serving on a CPU: Headway beside other servers, on the same checkpoint, with the same requests, in one run.

Every server of a shape is started once and stays up, idle but for the one that is measured; each measurement is made of
all of them in turns, in an order that rotates, for several rounds. Latency: one stream, 128 and 512 tokens in. Closed
loop: 4, 16 and 64 streams, 128 in, 64 out, a request each. Capacity: the largest rate of conversations, Poisson
arrivals, of which 95 % keep the conversational promise (first token in 300 ms, gaps of 100 ms), by bisection with short
windows; later rounds check it with other requests. Headway is asked for that promise, and may refuse; a refusal is a
miss. Its goodput is the most requests in SLO a second in any window. Shares are of the machine's own limits: a read of
all weights, and torch's matrix products in that precision, scaled by the speed of the machine around each measurement.

Other servers are given by --peer NAME=COMMAND, or a file of such lines (--peers); NAME ends in -bf16, -int8 or -q8_0.
COMMAND has {port} in it, and may have {checkpoint}, {shape} and {threads}. docs/cpu.md has a line for each.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.cpu_estimate import shape_s
from benchmarks.cpu_figures import Figures, Work
from benchmarks.cpu_load import OUTPUT, PROMPT, Point
from benchmarks.cpu_peers import DTYPES, EXPECTED, Entry, Model, entries, running
from benchmarks.cpu_probe import Probe, Speeds
from benchmarks.cpu_servers import Comparison, TimeIsUp
from headway.bench.launch import LaunchError, RunningServer
from headway.models.errors import ModelError
from headway.models.source import resolve
from headway.policy.slo import CONVERSATIONAL, Objective

SHAPES = "smollm2-135m,llama-320m"
PHASES = ("latency", "closed", "capacity")
PROBES = 3
"""At the start, for the estimate."""
PROMPT_TOKENS, LONG_PROMPT_TOKENS, OUTPUT_TOKENS = 128, 512, 64
KV_TOKENS = 40_960
"""Room for 64 of the longest sequences: each 640 tokens."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=COMMAND", help="another server")
    parser.add_argument("--peers", type=Path, metavar="FILE", help="a file with a NAME=COMMAND a line")
    parser.add_argument("--checkpoint", action="append", default=[], metavar="SHAPE=FOLDER", help="weights of a shape")
    parser.add_argument("--shapes", default=SHAPES, help="of random weights, where there is no --checkpoint")
    parser.add_argument("--dtype", default=",".join(DTYPES), help="Headway's")
    parser.add_argument("--servers", default="", help="only these, by name")
    parser.add_argument("--phases", default=",".join(PHASES), help="any of latency, closed, capacity")
    parser.add_argument("--streams", default="4,16,64", help="of the closed loop; the latency phase is that of one")
    parser.add_argument("--rounds", default="3,1", help="of each shape in order; the last holds for those that follow")
    parser.add_argument("--singles", type=int, default=2, help="requests of the latency phase, in each round")
    parser.add_argument("--windows", type=int, default=4, help="of the search for a capacity, at most")
    parser.add_argument("--seconds", type=float, default=10.0, help="of a window")
    parser.add_argument("--rate", type=float, default=4.0, help="where to look for capacities without a closed loop")
    parser.add_argument("--ttft-ms", type=float, help="promise another TTFT than the conversational class does")
    parser.add_argument("--itl-ms", type=float, help="promise another ITL")
    parser.add_argument("--kv-tokens", type=int, default=KV_TOKENS, help="of Headway's KV pool")
    parser.add_argument("--threads", type=int, default=2, help="of every server")
    parser.add_argument("--minutes", type=float, default=35.0, help="no measurement begins after so many")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="the first shape, one round, few requests, short windows")


def run(arguments: argparse.Namespace) -> Figures:
    if arguments.quick:
        _hurry(arguments)
    if arguments.threads < 1:
        raise SystemExit(f"--threads: a server needs at least one, not {arguments.threads}")
    until_s = time.monotonic() + 60.0 * arguments.minutes
    models, known, points = _models(arguments), entries(arguments), _points(arguments)
    rounds = [int(each) for each in arguments.rounds.split(",")]
    rounds += [rounds[-1]] * (len(models) - len(rounds))
    probe = Probe(arguments.threads)
    probe.measure_products()
    speeds = max((probe.speeds() for _ in range(PROBES)), key=lambda each: each.bf16)
    _say_estimate(arguments, list(zip(models, rounds, strict=False)), known, points, speeds)
    figures = _settings(arguments, probe)
    for name in sorted(set(EXPECTED) - {each.name for each in known}):
        figures[f"{name}_left_out"] = f"not given, or not among --servers: --peer {name}=COMMAND"
    for model, turns in zip(models, rounds, strict=False):
        with contextlib.ExitStack() as stack:
            servers = start(stack, known, model, arguments, figures)
            comparison = Comparison(model, servers, probe, _objective(arguments), arguments, until_s)
            try:
                comparison.measure(points, turns)
            except (TimeIsUp, KeyboardInterrupt) as error:
                why = f"after {arguments.minutes:g} minutes" if isinstance(error, TimeIsUp) else "by interrupt"
                figures["ended"] = f"{why}, on {model.name}"
            probe.measure_products()
            figures |= comparison.figures(probe.reached())
        if "ended" in figures:
            break
    return figures | {f"limit_gemm_{each}_gop_s": round(value, 1) for each, value in probe.products.items()}


def start(
    stack: contextlib.ExitStack,
    known: Sequence[Entry],
    model: Model,
    arguments: argparse.Namespace,
    figures: Figures,
) -> dict[Entry, RunningServer]:
    """One after the other, each with the machine for itself. Why one is left out goes into the figures."""
    logs = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    servers = {}
    for entry in known:
        server = running(entry, model, threads=arguments.threads, kv_tokens=arguments.kv_tokens, logs=logs)
        try:
            servers[entry] = stack.enter_context(server)
        except LaunchError as error:
            figures[f"{model.name}_{entry.name}_left_out"] = str(error)
            print(f"  {model.name} {entry.name} is left out: {error}", file=sys.stderr)
        else:
            print(f"  {model.name} {entry.name}: ready after {servers[entry].ready_s:.1f} s", file=sys.stderr)
    return servers


def _models(arguments: argparse.Namespace) -> list[Model]:
    folders = {}
    for text in arguments.checkpoint:
        shape, equals, folder = text.partition("=")
        if not (equals and folder):
            raise SystemExit(f"--checkpoint is SHAPE=FOLDER, not {text!r}")
        folders[shape] = Path(folder).absolute()
    models = []
    for shape in arguments.shapes.split(","):
        argument = str(folders[shape]) if shape in folders else f"random:{shape}"
        try:
            models.append(Model(shape, argument, folders.get(shape), resolve(argument).config))
        except ModelError as error:
            raise SystemExit(str(error)) from None
    return models


def _points(arguments: argparse.Namespace) -> list[Point]:
    points, phases = [], arguments.phases.split(",")
    if strange := sorted(set(phases) - set(PHASES)):
        raise SystemExit(f"--phases: there is no {', '.join(strange)}; there are {', '.join(PHASES)}")
    if "latency" in phases:
        for prompt, output in ((PROMPT_TOKENS, OUTPUT_TOKENS), (LONG_PROMPT_TOKENS, OUTPUT_TOKENS // 2)):
            points.append(Point(streams=1, prompt_tokens=prompt, output_tokens=output, requests=arguments.singles))
    if "closed" in phases:
        for streams in map(int, arguments.streams.split(",")):
            points.append(
                Point(streams=streams, prompt_tokens=PROMPT_TOKENS, output_tokens=OUTPUT_TOKENS, requests=streams)
            )
    return points


def _objective(arguments: argparse.Namespace) -> Objective:
    usual = CONVERSATIONAL.objective
    ttft_s = usual.ttft_s if arguments.ttft_ms is None else arguments.ttft_ms / 1000
    itl_s = usual.itl_s if arguments.itl_ms is None else arguments.itl_ms / 1000
    return Objective(ttft_s=ttft_s, itl_s=itl_s)


def _hurry(arguments: argparse.Namespace) -> None:
    arguments.shapes = arguments.shapes.split(",")[0]
    arguments.rounds = "1"
    arguments.streams = "16"
    arguments.singles, arguments.windows, arguments.seconds = 1, 3, 8.0


def _settings(arguments: argparse.Namespace, probe: Probe) -> Figures:
    objective = _objective(arguments)
    return {
        "shapes": arguments.shapes,
        "rounds": arguments.rounds,
        "threads": arguments.threads,
        "seed": arguments.seed,
        "kv_tokens": arguments.kv_tokens,
        "probe": probe.name,
        "promise_ttft_ms": 1000 * (objective.ttft_s or 0.0),
        "promise_itl_ms": 1000 * (objective.itl_s or 0.0),
        "conversation_prompt_tokens": str(PROMPT),
        "conversation_output_tokens": str(OUTPUT),
        "window_s": arguments.seconds,
    }


def _say_estimate(
    arguments: argparse.Namespace,
    models: Sequence[tuple[Model, int]],
    known: Sequence[Entry],
    points: Sequence[Point],
    speeds: Speeds,
) -> None:
    windows = arguments.windows if "capacity" in arguments.phases.split(",") else 0
    total = 0.0
    for model, rounds in models:
        works = [(entry, Work.of(model.config, entry.precision)) for entry in known]
        total += shape_s(works, points, speeds, rounds=rounds, windows=windows, seconds=arguments.seconds)
    names = ", ".join(each.name for each in known)
    print(f"  {names}: about {total / 60:.0f} minutes; this machine: {speeds}", file=sys.stderr)
