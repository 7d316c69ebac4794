"""The cost of a client that is known: it spins for so long at each token."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

from benchmarks.bench_cost import _Bench
from benchmarks.peers import Client, Figures, Job, read_cores

SPIN_US = 200
CODE = """
import json, sys, time, urllib.request
url, tokens, spin_s, start_s = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4])
def spin(seconds):
    until = time.process_time() + seconds
    while time.process_time() < until: pass
spin(start_s)
body = json.dumps({"stream": True, "max_tokens": tokens}).encode()
with urllib.request.urlopen(url + "/v1/chat/completions", body) as reply:
    for line in reply:
        if b'"content"' in line: spin(spin_s)
"""

pytestmark = pytest.mark.skipif(
    shutil.which("taskset") is None or len(os.sched_getaffinity(0)) < 2, reason="needs taskset and two cores"
)


def spinning() -> Client:
    def command(program: Path, job: Job, folder: Path) -> list[str]:
        return [str(program), "-c", CODE, job.url, str(job.output_tokens), str(SPIN_US / 1e6), "0.1"]

    def read(folder: Path) -> Figures:
        return {"itl_mean": 0.001, "throughput": 1.0}

    return Client("spinning", "headway", Path(sys.executable), command, read)


@pytest.mark.slow
def test_only_what_tokens_cost_is_counted() -> None:
    server, client = sorted(os.sched_getaffinity(0))[:2]
    bench = _Bench(streams=1, seconds=6.0, rounds=1, server_core=server, client_core=client, gap_s=0.001)
    figures = bench.cost(spinning())
    assert 0.9 * SPIN_US < float(figures["spinning_cpu_us_per_token"]) < 3 * SPIN_US


@pytest.mark.parametrize("text", ["0", "0,0", "0,99999", "a,b"])
def test_cores_must_be_two_that_are_there(text: str) -> None:
    with pytest.raises(SystemExit, match="--cores"):
        read_cores(text)
