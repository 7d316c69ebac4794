"""The load generators that ``headway bench`` is held against: how each is run, and where its own figures are.

None is part of this project. Each is a program given by its path; one that is not given is left out. All get the same
load, offline: prompts and answers of fixed lengths, the bundled tokenizer, usage from the server.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headway.bench.launch import end
from headway.bench.target import PATHS, Api
from headway.models.source import BUNDLED_DIRECTORY

TIMEOUT_S = 900.0
LOG_LINES = 12
OFFLINE = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "TOKENIZERS_PARALLELISM": "false"}

Figures = dict[str, float]
"""By the client's own name of a metric and statistic (``tpot_p95``), in seconds; ``throughput`` in tokens a second."""

STATISTICS = ("mean", "p50", "p95")


class ClientError(Exception):
    """A client ended with an error, or not in time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """``concurrency`` at once, or Poisson arrivals at ``rate`` a second: ``requests`` of them, which take about
    ``seconds``."""

    url: str
    model: str
    api: Api
    concurrency: int | None = None
    rate: float | None = None
    requests: int
    seconds: float
    prompt_tokens: int
    output_tokens: int
    seed: int

    @property
    def path(self) -> str:
        return "/v1" + PATHS[self.api]


@dataclass(frozen=True, slots=True)
class Client:
    """``command(program, job, folder)``; ``read(folder)`` after it has ended. ``package``: whose version it has."""

    name: str
    package: str
    program: Path
    command: Callable[[Path, Job, Path], list[str]]
    read: Callable[[Path], Figures]

    def version(self) -> str:
        code = f"from importlib.metadata import version; print(version({self.package!r}))"
        python = self.program if self.name == HEADWAY else self.program.parent / "python"
        return subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


@dataclass(frozen=True, slots=True)
class Spent:
    """``cpu_s``: of the process and of all its children that it waited for."""

    cpu_s: float
    wall_s: float


HEADWAY, VLLM, GUIDELLM, AIPERF = "headway", "vllm", "guidellm", "aiperf"
CLIENT_CPU = "client_cpu_us_per_token"
EXIT_CLIENT_BOUND = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    for name, what in ((VLLM, "vllm"), (GUIDELLM, "guidellm"), (AIPERF, "aiperf")):
        parser.add_argument(
            f"--{name}",
            metavar="PROGRAM",
            type=Path,
            default=os.environ.get(f"{name.upper()}_PROGRAM"),
            help=f"the {what} program, in an environment of its own (or {name.upper()}_PROGRAM); left out if not given",
        )


def clients(arguments: argparse.Namespace) -> Iterator[Client]:
    """Ours and those that are given. Raises SystemExit for one that isn't there."""
    yield Client(HEADWAY, "headway", Path(sys.executable), _headway, _read_headway)
    peers: tuple[tuple[str, Callable[[Path, Job, Path], list[str]], Callable[[Path], Figures]], ...] = (
        (VLLM, _vllm, _read_vllm),
        (GUIDELLM, _guidellm, _read_guidellm),
        (AIPERF, _aiperf, _read_aiperf),
    )
    for name, command, read in peers:
        program = getattr(arguments, name)
        if program is None:
            print(f"{name} is left out: --{name} PROGRAM says where it is.", file=sys.stderr)
        elif not Path(program).is_file():
            raise SystemExit(f"--{name} {program}: there is no such file")
        else:
            yield Client(name, name, Path(program).absolute(), command, read)


def read_cores(text: str) -> tuple[int, int]:
    """The server's core and the client's. Raises SystemExit if they can't be had."""
    if shutil.which("taskset") is None:
        raise SystemExit("--cores needs the taskset program (util-linux)")
    there = os.sched_getaffinity(0)
    try:
        server, client = (int(each) for each in text.split(","))
    except ValueError:
        raise SystemExit(f"--cores {text}: write two numbers, the server's core and the client's, as in 0,1") from None
    if not {server, client} <= there or server == client:
        raise SystemExit(f"--cores {text}: two different ones of {', '.join(map(str, sorted(there)))}")
    return server, client


def run_client(client: Client, job: Job, folder: Path, *, core: int | None = None) -> Spent:
    """Runs it to its end; what it says goes to a log in ``folder``. Raises ``ClientError``."""
    folder.mkdir(parents=True, exist_ok=True)
    pinned = [] if core is None else ["taskset", "-c", str(core)]
    command = pinned + client.command(client.program, job, folder)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HEADWAY_")}
    environment = kept | OFFLINE | {"HF_HOME": str(_hub_cache(folder))}
    started_s = time.monotonic()
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=folder)
        try:
            while not (ended := os.wait4(process.pid, os.WNOHANG))[0]:
                if time.monotonic() - started_s > TIMEOUT_S:
                    process.kill()
                time.sleep(0.02)
            _, status, usage = ended
            process.returncode = os.waitstatus_to_exitcode(status)
        finally:
            if process.returncode is None:
                end(process)
    accepted = (0, EXIT_CLIENT_BOUND) if client.name == HEADWAY else (0,)
    if process.returncode not in accepted:
        tail = "\n".join((folder / "log").read_text(errors="replace").splitlines()[-LOG_LINES:])
        raise ClientError(f"{client.name} ended with status {process.returncode}:\n{tail}")
    return Spent(usage.ru_utime + usage.ru_stime, time.monotonic() - started_s)


def _headway(program: Path, job: Job, folder: Path) -> list[str]:
    load = ["--rate", str(job.rate)] if job.rate else ["--concurrency", str(job.concurrency)]
    return [
        *(str(program), "-m", "headway.cli", "bench", job.url, "--model", job.model, "--api", job.api),
        *(*load, "--seconds", str(job.seconds), "--processes", "1", "--seed", str(job.seed)),
        *("--workload", f"synthetic:in={job.prompt_tokens},out={job.output_tokens}", "--tokenizer", "bundled"),
        *("--json", str(folder / "run.json"), "--store", str(folder / "runs.sqlite"), "--no-scrape", "--quiet"),
    ]


def _read_headway(folder: Path) -> Figures:
    level = json.loads((folder / "run.json").read_text())["levels"][0]
    whole = level["classes"][0]
    figures = {"throughput": whole["throughput"], CLIENT_CPU: level["client"]["cpu_us_per_token"]}
    for name in ("ttft", "itl", "chunk_gap", "tpot", "e2e"):
        for each in STATISTICS:
            figures[f"{name}_{each}"] = whole["latencies"][name][each]
    return figures


def _vllm(program: Path, job: Job, folder: Path) -> list[str]:
    load = ["--request-rate", str(job.rate)] if job.rate else ["--max-concurrency", str(job.concurrency)]
    return [
        *(str(program), "bench", "serve", "--backend", "openai-chat" if job.api == "chat" else "openai"),
        *("--base-url", job.url, "--endpoint", job.path, "--model", job.model, "--tokenizer", str(BUNDLED_DIRECTORY)),
        *("--dataset-name", "random", "--random-input-len", str(job.prompt_tokens), "--random-range-ratio", "0"),
        *("--random-output-len", str(job.output_tokens), "--num-prompts", str(job.requests), *load, "--ignore-eos"),
        *("--seed", str(job.seed), "--percentile-metrics", "ttft,tpot,itl,e2el", "--metric-percentiles", "50,95"),
        *("--save-result", "--result-dir", str(folder), "--result-filename", "vllm.json", "--disable-tqdm"),
    ]


def _read_vllm(folder: Path) -> Figures:
    found = json.loads((folder / "vllm.json").read_text())
    figures = {"throughput": found["output_throughput"], "failed": found["failed"]}
    for name in ("ttft", "tpot", "itl", "e2e"):
        for each in STATISTICS:
            figures[f"{name}_{each}"] = found[f"{each}_{'e2el' if name == 'e2e' else name}_ms"] / 1000
    return figures


def _guidellm(program: Path, job: Job, folder: Path) -> list[str]:
    profile = f"kind=poisson,rate={job.rate}" if job.rate else f"kind=concurrent,streams={job.concurrency}"
    return [
        *(str(program), "run", "--profile", profile, "--constraint", f"kind=max_requests,count={job.requests}"),
        *("--backend", f"kind=openai_http,target={job.url},model={job.model},request_format={job.path}"),
        *("--tokenizer", f"kind=hf_auto,model={BUNDLED_DIRECTORY}", "--seed", f"kind=static,value={job.seed}"),
        *("--data", f"kind=synthetic_text,prompt_tokens={job.prompt_tokens},output_tokens={job.output_tokens}"),
        *("--output", f"kind=json,path={folder / 'guidellm.json'}", "--disable-console"),
    ]


def _read_guidellm(folder: Path) -> Figures:
    metrics = json.loads((folder / "guidellm.json").read_text())["benchmarks"][0]["metrics"]
    names = {
        "ttft": ("time_to_first_token_ms", 0.001),
        "itl": ("inter_token_latency_ms", 0.001),
        "tpot": ("time_per_output_token_ms", 0.001),
        "e2e": ("request_latency", 1.0),
    }
    figures = {"throughput": metrics["output_tokens_per_second"]["successful"]["mean"]}
    for name, (theirs, unit_s) in names.items():
        found = metrics[theirs]["successful"]
        values = {"mean": found["mean"], **found["percentiles"]}
        figures |= {f"{name}_{each}": values[each] * unit_s for each in STATISTICS}
    return figures


def _aiperf(program: Path, job: Job, folder: Path) -> list[str]:
    load = ["--request-rate", str(job.rate)] if job.rate else ["--concurrency", str(job.concurrency)]
    return [
        *(str(program), "profile", "--url", job.url, "--model", job.model, "--endpoint-type", job.api, "--streaming"),
        *("--tokenizer", TOKENIZER, *load, "--request-count", str(job.requests), "--isl", str(job.prompt_tokens)),
        *("--osl", str(job.output_tokens), "--extra-inputs", "ignore_eos:true", "--use-server-token-count"),
        *("--random-seed", str(job.seed), "--ui", "none", "--artifact-dir", str(folder / "aiperf")),
    ]


def _read_aiperf(folder: Path) -> Figures:
    found: dict[str, Any] = json.loads((folder / "aiperf" / "profile_export_aiperf.json").read_text())
    names = {
        "ttft": "time_to_first_token",
        "itl": "inter_token_latency",
        "icl": "inter_chunk_latency",
        "e2e": "request_latency",
    }
    figures = {"throughput": found["output_token_throughput"]["avg"]}
    for name, theirs in names.items():
        values = {**found[theirs], "mean": found[theirs]["avg"]}
        figures |= {f"{name}_{each}": values[each] / 1000 for each in STATISTICS}
    return figures


TOKENIZER = "headway/tokenizer"
_COMMIT = "0" * 40


def _hub_cache(folder: Path) -> Path:
    """A cache of the hub that has the bundled tokenizer as a model: offline, AIPerf takes no other name for one."""
    cache = folder / "cache"
    model = cache / "hub" / f"models--{TOKENIZER.replace('/', '--')}"
    snapshot = model / "snapshots" / _COMMIT
    if not snapshot.is_dir():
        snapshot.mkdir(parents=True)
        (model / "refs").mkdir()
        (model / "refs" / "main").write_text(_COMMIT)
        for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
            (snapshot / name).symlink_to(BUNDLED_DIRECTORY / name)
    return cache
