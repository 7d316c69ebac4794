"""Does ``headway tune`` find the operating point that is there? On modelled machines whose truth is known, and here.

Modelled: each case is a drawn machine behind a real server (``headway serve --engine sim:FILE``, static policy), a
workload and a promise. Its true point comes from long runs of the same scheduler in virtual time (``tune_truth``).
``headway tune`` then searches it over HTTP like any other server. The figures are the error of the batch and of the
rate, and the probes that each took. Several cases run at once: servers mostly sleep. A machine that is busy with other
work wakes them late, which looks like a slower model: see ``lag``.

Real (``--real N``): the built-in engine on random weights, tuned N times; the figures are how far the points lie apart.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.policy.pool import Pool
from benchmarks.tune_cases import Case, draw_case
from benchmarks.tune_truth import POLICY, Truth, find_truth
from headway.bench.launch import HOST, headway_server

CASES, QUICK_CASES = 30, 6
NEAR = 0.05
PROBES = 12
CLASS = "conversational"
TRUTH_REQUESTS = 3000
TUNE_TIMEOUT_S = 1800.0
REAL_MODEL = "random:smollm2-135m"
REAL_WORKLOAD = "synthetic:in=uniform(16,64),out=uniform(8,24)"
REAL_SLO = "ttft=1500,itl=250,e2e=none"
REAL_NEAR = 0.10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_CASES} cases instead of {CASES}")
    parser.add_argument("--jobs", type=int, default=2 * (os.cpu_count() or 1), help="cases at once")
    parser.add_argument("--first", type=int, default=0, help="seed of the first case; the others follow")
    parser.add_argument("--cases", type=int, help="how many, whatever --quick says; 0 for none")
    parser.add_argument("--no-rate", action="store_true", help="find batches alone")
    parser.add_argument("--real", type=int, default=0, metavar="N", help="tune the real engine so many times too")


@dataclass(frozen=True, slots=True)
class Answer:
    """``load`` is None where tune says that there is none. ``found``: its own word for how sure it is."""

    found: str
    load: float | None
    probes: int

    @classmethod
    def of(cls, answer: dict[str, Any] | None) -> Answer:
        if answer is None:
            return cls("missing", None, 0)
        return cls(answer["found"], answer["load"], answer["probes"])

    def error(self, true: float) -> float:
        """Relative; 1 where it has no load and there is one."""
        if not true:
            return 0.0 if not self.load else 1.0
        return 1.0 if self.load is None else abs(self.load / true - 1.0)


@dataclass(frozen=True, slots=True)
class Tuned:
    """``void``: probes that say nothing, such as those of a client that was held up. ``lag_s``: how late the client's
    event loop woke up at the worst probe (p99)."""

    batch: Answer
    rate: Answer
    void: int
    lag_s: float

    @classmethod
    def read(cls, path: Path) -> Tuned:
        """What ``headway tune --json`` has written."""
        written = json.loads(path.read_text())
        lags = [level["client"]["lag_p99_s"] for level in written["run"]["levels"] if level.get("client")]
        return cls(
            Answer.of(written.get("batch")),
            Answer.of(written.get("rate")),
            sum(step["verdict"] == "void" for step in written["steps"]),
            max(lags, default=0.0),
        )


@dataclass(frozen=True, slots=True)
class Outcome:
    case: Case
    truth: Truth
    tuned: Tuned


def run(arguments: argparse.Namespace) -> dict[str, float | int | str | None]:
    count = (QUICK_CASES if arguments.quick else CASES) if arguments.cases is None else arguments.cases
    with_rate = not arguments.no_rate
    figures: dict[str, float | int | str | None] = {}
    if count:
        seeds = range(arguments.first, arguments.first + count)
        # All truths before the first server: computing beside one would wake it late.
        known = Pool(os.cpu_count() or 1).map(know, [("truth", seed, with_rate) for seed in seeds])
        tuned = Pool(arguments.jobs).map(try_case, [("tune", case.seed, case, with_rate) for case, _ in known])
        outcomes = [Outcome(case, truth, found) for (case, truth), found in zip(known, tuned, strict=True)]
        figures |= summary(outcomes, with_rate=with_rate)
        for outcome in outcomes:
            figures |= row(outcome, with_rate=with_rate)
    if arguments.real:
        figures |= repeated([tune_real(with_rate) for _ in range(arguments.real)], with_rate=with_rate)
    return figures


# ---- modelled machines -----------------------------------------------------------------------------------------------


def know(_what: str, seed: int, with_rate: bool) -> tuple[Case, Truth]:
    case = draw_case(seed)
    return case, find_truth(case.hardware, case.sizes, case.objective, requests=TRUTH_REQUESTS, with_rate=with_rate)


def try_case(_what: str, seed: int, case: Case, with_rate: bool) -> Tuned:
    with tempfile.TemporaryDirectory(prefix="headway-tune-") as folder:
        record = Path(folder) / "machine.toml"
        record.write_text(case.record())
        engine = f"sim:{record},noise={case.noise},seed={seed}"
        served = ["--engine", engine, "--policy", POLICY]
        return tune(Path(folder), served, str(case.sizes), case.slo, with_rate=with_rate)


def summary(outcomes: Sequence[Outcome], *, with_rate: bool) -> dict[str, float | int | str | None]:
    batch_errors = [each.tuned.batch.error(each.truth.concurrency) for each in outcomes]
    probes = [each.tuned.batch.probes for each in outcomes]
    good = sum(error <= NEAR and used <= PROBES for error, used in zip(batch_errors, probes, strict=True))
    figures: dict[str, float | int | str | None] = {
        "cases": len(outcomes),
        "batch_within_5_percent_in_12_probes": good,
        "batch_within_5_percent": sum(error <= NEAR for error in batch_errors),
        "batch_within_10_percent": sum(error <= 2 * NEAR for error in batch_errors),
        "batch_error_median": round(median(batch_errors), 4),
        "batch_error_max": round(max(batch_errors), 4),
        "batch_probes_median": median(probes),
        "batch_probes_max": max(probes),
        "probes_void": sum(each.tuned.void for each in outcomes),
        "lag_ms_median": round(1000 * median(each.tuned.lag_s for each in outcomes), 1),
        "lag_ms_max": round(1000 * max(each.tuned.lag_s for each in outcomes), 1),
    }
    if with_rate:
        rate_errors = [each.tuned.rate.error(each.truth.rate) for each in outcomes]
        figures |= {
            "rate_within_5_percent": sum(error <= NEAR for error in rate_errors),
            "rate_within_10_percent": sum(error <= 2 * NEAR for error in rate_errors),
            "rate_error_median": round(median(rate_errors), 4),
            "rate_error_max": round(max(rate_errors), 4),
            "rate_probes_max": max(each.tuned.rate.probes for each in outcomes),
        }
    return figures


def row(outcome: Outcome, *, with_rate: bool) -> dict[str, float | int | str | None]:
    case, truth, tuned = outcome.case, outcome.truth, outcome.tuned
    key = f"case_{case.seed:02d}"
    figures: dict[str, float | int | str | None] = {
        f"{key}_slo": case.slo,
        f"{key}_binds": case.binding,
        f"{key}_workload": str(case.sizes),
        f"{key}_step_ms": round(1000 * truth.level.tails.itl_s, 1),
        f"{key}_batch_true": truth.concurrency,
        f"{key}_batch": tuned.batch.load,
        f"{key}_batch_error": round(tuned.batch.error(truth.concurrency), 4),
        f"{key}_batch_found": tuned.batch.found,
        f"{key}_batch_probes": tuned.batch.probes,
        f"{key}_lag_ms": round(1000 * tuned.lag_s, 1),
    }
    if with_rate:
        figures |= {
            f"{key}_rate_true": round(truth.rate, 3),
            f"{key}_rate": None if tuned.rate.load is None else round(tuned.rate.load, 3),
            f"{key}_rate_error": round(tuned.rate.error(truth.rate), 4),
            f"{key}_rate_found": tuned.rate.found,
            f"{key}_rate_probes": tuned.rate.probes,
        }
    return figures


# ---- the real engine -------------------------------------------------------------------------------------------------


def tune_real(with_rate: bool) -> Tuned:
    with tempfile.TemporaryDirectory(prefix="headway-tune-") as folder:
        return tune(Path(folder), [REAL_MODEL, "--policy", POLICY], REAL_WORKLOAD, REAL_SLO, with_rate=with_rate)


def repeated(times: Sequence[Tuned], *, with_rate: bool) -> dict[str, float | int | str | None]:
    """``spread``: from the least to the most, over the median."""
    figures: dict[str, float | int | str | None] = {"real_model": REAL_MODEL, "real_slo": REAL_SLO}
    for name in ("batch", "rate") if with_rate else ("batch",):
        answers: list[Answer] = [getattr(each, name) for each in times]
        loads = [0.0 if each.load is None else each.load for each in answers]
        middle = median(loads)
        spread = (max(loads) - min(loads)) / middle if middle else None
        figures |= {
            f"real_{name}": " ".join(f"{load:.4g}" for load in loads),
            f"real_{name}_found": " ".join(each.found for each in answers),
            f"real_{name}_probes": " ".join(str(each.probes) for each in answers),
            f"real_{name}_spread": None if spread is None else round(spread, 4),
            f"real_{name}_within_10_percent": int(spread is not None and spread <= REAL_NEAR),
        }
    return figures


# ---- headway tune ----------------------------------------------------------------------------------------------------


def tune(folder: Path, served: Sequence[str], workload: str, slo: str, *, with_rate: bool) -> Tuned:
    """A server of its own, tuned through its admin port. Raises RuntimeError with what tune said if it failed."""
    key_file, written = folder / "admin-key", folder / "tuned.json"
    key_file.write_text(secrets.token_hex(16))
    admin_port = _free_port()
    caps = ["--admin-port", str(admin_port), "--admin-key-file", str(key_file), "--quiet"]
    with headway_server(*served, *caps) as server:
        command = [sys.executable, "-m", "headway.cli", "tune", f"http://{HOST}:{server.port}"]
        command += ["--api", "completions", "--workload", workload, "--class", CLASS, "--slo", f"{CLASS}:{slo}"]
        command += ["--admin-url", f"http://{HOST}:{admin_port}", "--admin-key-file", str(key_file)]
        command += ["--probes", str(PROBES), "--no-compare", *([] if with_rate else ["--no-rate"])]
        command += ["--processes", "1", "--store", "none", "--json", str(written)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=TUNE_TIMEOUT_S, check=False)
    if not written.exists():
        raise RuntimeError(f"headway tune ended with status {done.returncode}: {done.stderr.strip()[-500:]}")
    return Tuned.read(written)


def _free_port() -> int:
    with socket.create_server((HOST, 0)) as probe:
        return int(probe.getsockname()[1])
