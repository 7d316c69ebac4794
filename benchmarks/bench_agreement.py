"""``headway bench`` beside vLLM's, GuideLLM's and AIPerf's load generators, against one running server: do they agree?

The clients take turns, in rounds, each with the same number of requests of the same lengths, at once or at the same
rate; the order changes from round to round. For each figure of the others there are three values: what they say, what
their definition makes of our records, and ours by our own definition. Each is the median of the rounds, with the least
and the most: a difference within that spread is noise.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.definitions import AS
from benchmarks.peers import HEADWAY, STATISTICS, Client, ClientError, Figures, Job, clients, read_cores, run_client
from benchmarks.peers import add_arguments as add_peers
from headway.bench.launch import HOST, headway_server
from headway.bench.store import Store
from headway.bench.target import Api

Figure = float | int | str

OURS = {"ttft": "ttft", "itl": "itl", "icl": "chunk_gap", "tpot": "tpot", "e2e": "e2e", "throughput": "throughput"}
OURS_BY_CLIENT = {"vllm": OURS, "guidellm": {**OURS, "itl": "tpot", "tpot": ""}, "aiperf": {**OURS, "itl": "tpot"}}
"""Which of our figures means the same as one of theirs; empty: none."""
SEEDS = 100
"""Of one round: no client may find another's prompts in the server's cache."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_peers(parser)
    parser.add_argument(
        "--model", default="random:smollm2-135m", help="what our server serves: also bundled, or sim:MACHINE"
    )
    parser.add_argument("--url", help="a server that is running already, in place of our own; --model is its name then")
    parser.add_argument("--api", choices=("completions", "chat"), default="completions")
    parser.add_argument("--concurrency", type=int, default=4, help="closed loop: requests at once")
    parser.add_argument("--rate", type=float, default=0.5, help="open loop: requests a second, Poisson")
    parser.add_argument("--requests", type=int, default=40, help="requests of each client in each round and loop")
    parser.add_argument("--request-seconds", type=float, default=3.0, help="closed loop: about how long one takes")
    parser.add_argument("--input", type=int, default=96, help="tokens of a prompt")
    parser.add_argument("--output", type=int, default=64, help="tokens of an answer")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cores", help="the server's core and the clients', so that they don't disturb each other")


def run(arguments: argparse.Namespace) -> dict[str, Figure]:
    measured = list(clients(arguments))
    figures: dict[str, Figure] = {f"{each.name}_version": each.version() for each in measured}
    server_core, client_core = read_cores(arguments.cores) if arguments.cores else (None, None)
    with _server(arguments, server_core) as (url, model):
        for loop in ("closed", "open"):
            found = _rounds(measured, arguments, url, model, loop, client_core)
            figures |= {f"{loop}_{name}": value for name, value in found.items()}
    return figures


@contextlib.contextmanager
def _server(arguments: argparse.Namespace, core: int | None) -> Iterator[tuple[str, str]]:
    """Its address and the model's name. It sheds nothing."""
    if arguments.url:
        yield arguments.url, arguments.model
        return
    model = ["--engine"] if arguments.model.startswith("sim:") else []
    model += [] if arguments.model == "bundled" else [arguments.model]
    threads = [] if core is None else ["--threads", "1"]
    with _on(core), headway_server(*model, "--name", "bench", "--never-shed", *threads, "--quiet") as server:
        yield f"http://{HOST}:{server.port}", "bench"


@contextlib.contextmanager
def _on(core: int | None) -> Iterator[None]:
    """This process, and those that it starts, on one core."""
    there = os.sched_getaffinity(0)
    os.sched_setaffinity(0, there if core is None else {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, there)


def _rounds(
    measured: list[Client], arguments: argparse.Namespace, url: str, model: str, loop: str, core: int | None
) -> dict[str, Figure]:
    said: dict[str, list[Figures]] = {each.name: [] for each in measured}
    converted: dict[str, list[Figures]] = {name: [] for name in AS}
    for number in range(arguments.rounds):
        turn = number % len(measured)
        for place, client in enumerate(measured[turn:] + measured[:turn]):
            seed = 1 + SEEDS * number + 10 * place + (loop == "open")
            with tempfile.TemporaryDirectory() as name:
                folder = Path(name)
                try:
                    run_client(client, _job(arguments, url, model, loop, seed), folder, core=core)
                except ClientError as error:
                    print(error, file=sys.stderr)
                    continue
                said[client.name].append(client.read(folder))
                if client.name == HEADWAY:
                    _convert(folder, converted)
            latest = said[client.name][-1]
            print(
                f"{loop}, round {number + 1}, {client.name}: TTFT {1000 * latest['ttft_p50']:.1f} ms,"
                f" {latest['throughput']:.1f} tokens/s",
                file=sys.stderr,
            )
    return _table(said, converted)


def _job(arguments: argparse.Namespace, url: str, model: str, loop: str, seed: int) -> Job:
    api: Api = arguments.api
    is_open = loop == "open"
    waves = arguments.requests / arguments.concurrency
    return Job(
        url=url,
        model=model,
        api=api,
        concurrency=None if is_open else arguments.concurrency,
        rate=arguments.rate if is_open else None,
        requests=arguments.requests,
        seconds=arguments.requests / arguments.rate if is_open else waves * arguments.request_seconds,
        prompt_tokens=arguments.input,
        output_tokens=arguments.output,
        seed=seed,
    )


def _convert(folder: Path, converted: dict[str, list[Figures]]) -> None:
    with Store(folder / "runs.sqlite") as store:
        (run,) = store.list()
        (records,) = store.records(run.id)
    for name, convert in AS.items():
        converted[name].append(convert(records))


def _table(said: dict[str, list[Figures]], converted: dict[str, list[Figures]]) -> dict[str, Figure]:
    """Milliseconds; throughput in tokens a second."""
    figures: dict[str, Figure] = {}
    for client in (each for each in AS if said.get(each)):
        for name in said[client][0]:
            metric, _, statistic = name.partition("_")
            if metric not in OURS or (statistic and statistic not in STATISTICS):
                continue
            unit = 1.0 if metric == "throughput" else 1000.0
            ours = OURS_BY_CLIENT[client][metric]
            key = f"{client}_{name}"
            figures |= _spread(key, [unit * each[name] for each in said[client]])
            figures |= _spread(f"{key}_converted", [unit * each[name] for each in converted[client]])
            same = "_".join(filter(None, (ours, statistic)))
            figures |= _spread(f"{key}_ours", [unit * each[same] for each in said[HEADWAY] if same in each])
    return figures


def _spread(name: str, values: list[float]) -> dict[str, Figure]:
    if not values:
        return {}
    return {
        name: round(statistics.median(values), 2),
        f"{name}_min": round(min(values), 2),
        f"{name}_max": round(max(values), 2),
    }
