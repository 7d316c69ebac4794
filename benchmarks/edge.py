"""The HTTP edge and the policy over an engine that costs nothing: CPU time per streamed token, worst loop stall.

The server is a process of its own with the real driver, scheduler, text path and protocol; only the engine is fake: it
answers every step after a fixed time with a token for each request. CPU time is the server process's own, of all its
threads, over a window in which every stream is running. Clients run in this process. All streams start at once, so the
worst stall of the event loop is usually that of the start. Beside it stands how late an idle process of the same
machine was woken at worst: on a busy machine the loop can't do better.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import os
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from headway.bench.body import PLAIN
from headway.bench.call import Call
from headway.bench.launch import end
from headway.bench.record import Record
from headway.bench.sender import Sender
from headway.bench.statistics import nearest_rank
from headway.bench.target import Target

HOST = "127.0.0.1"
START_TIMEOUT_S = 60.0
TIMEOUT_S = 3600.0
SETTLE_S = 2.0
"""After all streams have started, before the window begins."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--streams", type=int, default=256, help="streams at once")
    parser.add_argument("--rate", type=float, default=20.0, help="tokens a second of each stream")
    parser.add_argument("--seconds", type=float, default=10.0, help="length of the measured window")


PROBE = """
import select, sys, time
worst = 0.0
while True:
    due = time.monotonic() + 0.02
    if select.select([sys.stdin], [], [], 0.02)[0]:
        break
    worst = max(worst, time.monotonic() - due)
print(worst)
"""
"""An idle process that notes how late it is woken, until its input ends."""


@dataclass(frozen=True, slots=True)
class Sample:
    """The server at one moment. ``stall_s``: the event loop's worst so far."""

    at_s: float
    cpu_s: float
    tokens: float
    stall_s: float
    rss_mb: float


def run(arguments: argparse.Namespace) -> dict[str, float | int | str]:
    with _server(arguments.rate) as (process, port):
        probe = subprocess.Popen(
            [sys.executable, "-c", PROBE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        figures = asyncio.run(_measure(process.pid, port, arguments))
        late_s = float(probe.communicate(timeout=START_TIMEOUT_S)[0])
    return {**figures, "idle_process_late_max_ms": round(1000 * late_s, 1)}


async def _measure(process_id: int, port: int, arguments: argparse.Namespace) -> dict[str, float | int | str]:
    length_s = arguments.seconds + 2 * SETTLE_S + arguments.streams / 100
    call = Call(
        prompt="Tell me about the weather in the valley.",
        max_tokens=int(length_s * arguments.rate),
        extra={"ignore_eos": True},
    )
    # All times are those of the clock, as in the samples.
    async with Sender(Target(host=HOST, port=port, model="bench"), PLAIN, start_s=0.0, timeout_s=TIMEOUT_S) as sender:
        running = [asyncio.create_task(sender.ask(call)) for _ in range(arguments.streams)]
        await asyncio.sleep(SETTLE_S + arguments.streams / 200)
        before = await asyncio.to_thread(_sample, process_id, port)
        await asyncio.sleep(arguments.seconds)
        after = await asyncio.to_thread(_sample, process_id, port)
        records = await asyncio.gather(*running)
    end = await asyncio.to_thread(_sample, process_id, port)
    tokens = after.tokens - before.tokens
    window_s = after.at_s - before.at_s
    gaps_ms = sorted(1000 * gap for each in records for gap in _gaps_between(each, before.at_s, after.at_s))
    return {
        "streams": arguments.streams,
        "tokens_per_s_a_stream": arguments.rate,
        "window_s": round(window_s, 2),
        "tokens": int(tokens),
        "tokens_per_s": round(tokens / window_s, 1),
        "cpu_us_per_token": round(1e6 * (after.cpu_s - before.cpu_s) / tokens, 1),
        "cpu_share_of_one_core": round((after.cpu_s - before.cpu_s) / window_s, 3),
        "event_loop_stall_max_ms": round(1000 * end.stall_s, 1),
        "event_loop_stall_max_at_the_start_ms": round(1000 * before.stall_s, 1),
        "client_gap_p50_ms": round(nearest_rank(gaps_ms, 0.5), 2),
        "client_gap_p99_ms": round(nearest_rank(gaps_ms, 0.99), 2),
        "client_gap_max_ms": round(gaps_ms[-1], 2),
        "client_ttft_max_ms": round(max(1000 * (each.ttft_s or 0.0) for each in records), 1),
        "rss_mb": after.rss_mb,
    }


def _gaps_between(record: Record, start_s: float, end_s: float) -> list[float]:
    times = [each for each in record.chunk_s if start_s <= each <= end_s]
    return [later - earlier for earlier, later in itertools.pairwise(times)]


def _sample(process_id: int, port: int) -> Sample:
    metrics = _scrape(port)
    tokens = _metric(metrics, "headway_output_tokens_total")
    stall_s = _metric(metrics, "headway_event_loop_lag_max_seconds")
    # Fields as in proc(5), from the third on: the second is a name that may hold spaces.
    fields = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()
    user, system, rss_pages = int(fields[11]), int(fields[12]), int(fields[21])
    cpu_s = (user + system) / os.sysconf("SC_CLK_TCK")
    rss_mb = round(rss_pages * os.sysconf("SC_PAGE_SIZE") / 1e6, 1)
    return Sample(time.perf_counter(), cpu_s, tokens, stall_s, rss_mb)


def _scrape(port: int) -> str:
    with urllib.request.urlopen(f"http://{HOST}:{port}/metrics", timeout=10.0) as reply:
        return str(reply.read().decode())


def _metric(text: str, name: str) -> float:
    found = re.search(rf"^{name} (\S+)$", text, re.MULTILINE)
    if found is None:
        raise ValueError(f"the server has no metric {name}")
    return float(found.group(1))


@contextlib.contextmanager
def _server(rate: float) -> Iterator[tuple[subprocess.Popen[str], int]]:
    command = [sys.executable, "-m", "benchmarks.edge_server", str(1.0 / rate)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process, int(process.stdout.readline())
    finally:
        end(process)
