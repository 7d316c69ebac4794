"""What load generators cost: processor time for each streamed token, and the most tokens a second from one core.

Server (``benchmarks.stream_server``) and client are processes of their own, on a core each. *Cost*: a short and a long
run, alike but for the length of the answers; what the long one takes more, over the tokens that it gets more, so that
starting, making prompts and closing up don't count. *Most*: the gaps between tokens are halved until the client reports
a longer time per token than the server gave, by more than ``TOLERANCE``; the last rate before that is what it keeps up
with. Processor time is comparable on a busy machine; what is kept up with is not.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.peers import CLIENT_CPU, HEADWAY, Client, ClientError, Job, Spent, clients, read_cores, run_client
from benchmarks.peers import add_arguments as add_peers
from benchmarks.stream_server import HOST, MODEL
from headway.bench.launch import end

FIRST_S = 0.05
PROMPT_TOKENS = 64
WAVES = 3
"""Answers that each stream gets one after the other."""
LADDER_GAP_S = 0.04
RUNGS_MAX = 8
TOLERANCE = 0.05
SERVER_LATE_MAX = 0.05
"""Share of its ticks that the server may miss: above, the server is measured."""

Figure = float | int | str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_peers(parser)
    parser.add_argument("--streams", type=int, default=64, help="streams at once")
    parser.add_argument("--gap-ms", type=float, default=10.0, help="cost: between the tokens of a stream")
    parser.add_argument("--seconds", type=float, default=30.0, help="length of the long run")
    parser.add_argument("--rounds", type=int, default=3, help="pairs of a short and a long run for each client")
    parser.add_argument("--cores", default="0,1", help="the server's core and the client's")
    parser.add_argument("--no-ladder", action="store_true", help="only the cost")
    parser.add_argument("--only", choices=(HEADWAY, "vllm", "guidellm", "aiperf"), help="only this client")


@dataclass(frozen=True, slots=True)
class Sent:
    """What the server says it has sent, and on how many of its ticks it was late."""

    tokens: int
    ticks: int
    late: int


@dataclass(frozen=True, slots=True)
class Server:
    port: int

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    def sent(self) -> Sent:
        with urllib.request.urlopen(f"{self.url}/sent", timeout=10.0) as reply:
            return Sent(**json.load(reply))


@contextlib.contextmanager
def paced_server(gap_s: float, core: int) -> Iterator[Server]:
    command = ["taskset", "-c", str(core), sys.executable, "-m", "benchmarks.stream_server"]
    process = subprocess.Popen(
        [*command, "--gap", str(gap_s), "--first", str(FIRST_S)], stdout=subprocess.PIPE, text=True
    )
    with process:
        try:
            assert process.stdout is not None
            yield Server(int(process.stdout.readline()))
        finally:
            end(process)


def run(arguments: argparse.Namespace) -> dict[str, Figure]:
    server_core, client_core = read_cores(arguments.cores)
    bench = _Bench(
        arguments.streams, arguments.seconds, arguments.rounds, server_core, client_core, arguments.gap_ms / 1000
    )
    figures: dict[str, Figure] = {"streams": arguments.streams, "gap_ms": arguments.gap_ms}
    for client in clients(arguments):
        if arguments.only in (None, client.name):
            figures[f"{client.name}_version"] = client.version()
            try:
                figures |= bench.cost(client)
                figures |= {} if arguments.no_ladder else bench.most(client)
            except ClientError as error:
                print(error, file=sys.stderr)
                figures[f"{client.name}_error"] = str(error).splitlines()[0]
    return figures


@dataclass(frozen=True, slots=True)
class _Bench:
    streams: int
    seconds: float
    rounds: int
    server_core: int
    client_core: int
    gap_s: float

    def cost(self, client: Client) -> dict[str, Figure]:
        """Microseconds of processor time a token: the median of the rounds, the least and the most. Beside it what the
        client says of its own load generators, without what it then makes of the results."""
        found, said = [], []
        for index in range(self.rounds):
            short, short_sent, _ = self._once(client, self.gap_s, self.seconds / 10, seed=2 * index)
            long, long_sent, reported = self._once(client, self.gap_s, self.seconds, seed=2 * index + 1)
            if long_sent.tokens <= short_sent.tokens:
                raise ClientError(f"{client.name} asked for no more tokens in the long run than in the short one")
            found.append(1e6 * (long.cpu_s - short.cpu_s) / (long_sent.tokens - short_sent.tokens))
            said += [reported[CLIENT_CPU]] if CLIENT_CPU in reported else []
            print(
                f"{client.name}: {found[-1]:.1f} us a token ({long_sent.tokens} tokens in {long.cpu_s:.2f} s of"
                f" processor time, {short_sent.tokens} in {short.cpu_s:.2f} s)",
                file=sys.stderr,
            )
        figures: dict[str, Figure] = {
            f"{client.name}_cpu_us_per_token": round(statistics.median(found), 1),
            f"{client.name}_cpu_us_per_token_min": round(min(found), 1),
            f"{client.name}_cpu_us_per_token_max": round(max(found), 1),
        }
        if said:
            figures[f"{client.name}_says_cpu_us_per_token"] = round(statistics.median(said), 1)
        return figures

    def most(self, client: Client) -> dict[str, Figure]:
        """The highest rate that it keeps up with, the one at which it no longer does, and what it took in then."""
        figures: dict[str, Figure] = {f"{client.name}_keeps_up_with_tokens_per_s": 0}
        taken = 0.0
        for rung in range(RUNGS_MAX):
            gap_s = LADDER_GAP_S / 2**rung
            rate = round(self.streams / gap_s)
            _, sent, reported = self._once(client, gap_s, self.seconds / 3, seed=100 + rung)
            per_token_s = reported["tpot_mean" if client.name in (HEADWAY, "vllm") else "itl_mean"]
            taken = max(taken, reported["throughput"])
            print(
                f"{client.name}: {rate} tokens/s: {1000 * per_token_s:.2f} ms a token of {1000 * gap_s:.2f},"
                f" server late on {sent.late} of {sent.ticks} ticks",
                file=sys.stderr,
            )
            if per_token_s > (1 + TOLERANCE) * gap_s:
                is_server = sent.late > SERVER_LATE_MAX * sent.ticks
                figures[f"{client.name}_falls_behind_at_tokens_per_s"] = rate
                figures[f"{client.name}_limited_by"] = "server" if is_server else "client"
                break
            figures[f"{client.name}_keeps_up_with_tokens_per_s"] = rate
        return figures | {f"{client.name}_most_tokens_per_s": round(taken)}

    def _once(self, client: Client, gap_s: float, seconds: float, *, seed: int) -> tuple[Spent, Sent, dict[str, float]]:
        tokens = max(2, round(seconds / WAVES / gap_s))
        with paced_server(gap_s, self.server_core) as server, tempfile.TemporaryDirectory() as folder:
            job = Job(
                url=server.url,
                model=MODEL,
                api="chat",
                concurrency=self.streams,
                requests=WAVES * self.streams,
                seconds=seconds,
                prompt_tokens=PROMPT_TOKENS,
                output_tokens=tokens,
                seed=seed,
            )
            spent = run_client(client, job, Path(folder), core=self.client_core)
            return spent, server.sent(), client.read(Path(folder))
