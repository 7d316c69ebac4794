"""Reads a table of published points. Whatever a row holds, it becomes a ``Point`` or is ``Skipped`` with a reason."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Mapping
from pathlib import Path

from benchmarks.plan_names import ODD_GPUS, engine_profile, engine_year
from benchmarks.plan_point import Load, Metric, Point, Skipped
from benchmarks.plan_sources import ODD_ROWS, Reading, reading
from headway.plan.precision import Precision

COLUMNS = (
    *("source", "date", "engine", "engine_version", "model", "gpu", "num_gpus", "tp", "precision", "isl", "osl"),
    *("concurrency_or_batch", "request_rate", "metric", "value", "unit", "notes"),
)
MODERN_SINCE = 2024
GPUS_OF_A_SERVER = 8
TOKENS_MAX = 10_000_000
"""Of a prompt or an answer."""
_METRICS = {
    "ttft": Metric.TTFT,
    "prefill": Metric.PREFILL,
    "tpot": Metric.TPOT,
    "itl": Metric.TPOT,
    "e2e": Metric.E2E,
    "e2e_latency": Metric.E2E,
    "itl_intercept": Metric.GAP,
    "output_tok_s": Metric.THROUGHPUT,
    "output_tok_s_per_gpu": Metric.THROUGHPUT,
    "req_s": Metric.THROUGHPUT,
}
_NOT_PREDICTED = {
    "duration_s": "seconds of a whole run: its throughput is another row",
    "itl_slope_ms_per_token": "a slope over context lengths",
    "tpot_ratio": "a ratio of two runs",
    "throughput_ratio_range": "a ratio of two runs",
    "mbu": "a share of the bandwidth, derived from TPOT",
}
_NUMBER = r"\d+(?:\.\d+)?"
_SCALES = {"ms": 1e-3, "s": 1.0, "tok/s": 1.0, "tok/s/GPU": 1.0, "req/s": 1.0}
_FORMATS = {
    "fp16": Precision.BF16,
    "bf16": Precision.BF16,
    "fp8": Precision.FP8,
    "int8": Precision.INT8,
    "int4": Precision.INT4,
    "fp4": Precision.FP4,
    "fp32": Precision.FP32,
    "not stated": Precision.BF16,  # its 32 GB models swap on one 80 GB GPU: 64 GB of weights, not 32
}


class TableError(Exception):
    """The file is no table of points. One line."""


class _Skip(Exception):
    """The reason."""


def read_points(path: Path) -> tuple[list[Point], list[Skipped]]:
    """Raises ``TableError`` if there is no such file or it lacks columns; never for what single rows hold."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = csv.DictReader(file)
            missing = [each for each in COLUMNS if each not in (rows.fieldnames or ())]
            if missing:
                raise TableError(f"{path} is no table of points: it has no column {', '.join(missing)}")
            lines = [
                (line, {column: (row[column] or "").strip() for column in COLUMNS}) for line, row in enumerate(rows, 2)
            ]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise TableError(f"{path} can't be read as a table of points: {error}") from None
    points, skipped = [], []
    for line, row in lines:
        try:
            points.append(_point(line, row))
        except _Skip as reason:
            skipped.append(Skipped(line, row["source"], str(reason)))
    return points, skipped


def _point(line: int, row: Mapping[str, str]) -> Point:
    read = reading(row["source"])
    if read.skip:
        raise _Skip(read.skip)
    for source, part, reason in ODD_ROWS:
        if row["source"].startswith(source) and part in row["notes"]:
            raise _Skip(reason)
    year = engine_year(row["engine"], row["date"])
    profile = engine_profile(row["engine"], year)
    if profile is None:
        raise _Skip(f"engine without a profile: {row['engine']}")
    for part, reason in ODD_GPUS.items():
        if part in row["gpu"]:
            raise _Skip(f"GPU {part}: {reason}")
    gpus, tp = _whole(row["num_gpus"], "number of GPUs"), _whole(row["tp"], "tensor parallelism")
    if tp > GPUS_OF_A_SERVER:
        raise _Skip(f"spread over more than one server of {GPUS_OF_A_SERVER}")
    metric, value = _metric(row, read, gpus)
    weights, kv = _formats(row, read)
    load, batch, rates = _load(row, read)
    isl, osl = _lengths(row, metric)
    shared = re.search(r"shared system prompt (\d+) tokens", row["notes"])  # which a prefix cache computes once
    isl -= float(shared.group(1)) if shared else 0.0
    step = re.search(r"max_num_batched_tokens[= ](\d+)", row["notes"])
    return Point(
        line=line,
        source=row["source"],
        engine=profile,
        version=row["engine_version"],
        model=row["model"],
        gpu=row["gpu"],
        gpus=gpus,
        tp=tp,
        precision=weights,
        kv_precision=kv,
        load=load,
        batch=batch,
        isl=max(1.0, isl * read.lengths),
        osl=max(1.0, osl * read.lengths),
        metric=metric,
        value=value * (osl if row["metric"] == "req_s" else 1.0),
        is_modern=year is not None and year >= MODERN_SINCE,
        is_bare=read.is_bare,
        burst=_burst(row, read, load, batch),
        rates=rates,
        max_step_tokens=int(step.group(1)) if step else None,
        note=row["notes"],
    )


def _whole(text: str, name: str) -> int:
    if not text:
        raise _Skip(f"{name} is not stated")
    if not text.isdecimal() or int(text) < 1:
        raise _Skip(f"{name} is {text!r}")
    return int(text)


def _metric(row: Mapping[str, str], read: Reading, gpus: int) -> tuple[Metric, float]:
    """In seconds, or tokens a second of all GPUs (``req_s``: requests a second)."""
    name = row["metric"]
    if name in _NOT_PREDICTED:
        raise _Skip(f"{name}: {_NOT_PREDICTED[name]}")
    if re.search(r"_p\d+$", name):
        raise _Skip("a percentile: needs a simulated queue")
    known = dict(read.metrics).get(name) or _METRICS.get(re.sub(r"_(ms|s)?(_mean|_median)?$", "", name) or name)
    known = known or _METRICS.get(name)
    if known is None:
        raise _Skip(f"metric not known: {name}")
    scale = _SCALES.get(row["unit"])
    if scale is None:
        raise _Skip(f"unit not known: {row['unit']}")
    try:
        value = float(row["value"]) * scale
    except ValueError:
        raise _Skip("value is no number") from None
    if not math.isfinite(value) or value <= 0.0:
        raise _Skip("value is not above 0")
    return known, value * gpus if row["unit"].endswith("/GPU") else value


def _formats(row: Mapping[str, str], read: Reading) -> tuple[Precision, Precision]:
    """Of the weights and of the KV cache. A table may say both, "bf16, KV fp8", or the cache alone."""
    text = row["precision"].lower()
    stated = re.search(r"kv (\w+)", text)
    plain = re.sub(r",? *kv \w+", "", text).strip()
    if not plain and stated:
        plain = "fp4" if "gpt-oss" in row["model"].lower() else "bf16"  # as those checkpoints are published
    weights = _FORMATS.get(plain)
    kv = _FORMATS.get(stated.group(1)) if stated else None
    if weights is None or (stated and kv is None):
        raise _Skip(f"number format not known: {row['precision']}")
    if kv is None:
        is_trt = engine_profile(row["engine"], None) == "trtllm"
        on_fp8 = row["gpu"].startswith(read.kv_fp8_on) if read.kv_fp8_on else False
        is_quantised = weights in (Precision.FP8, Precision.FP4)
        follows = is_quantised and (read.kv_follows or on_fp8 or (bool(read.kv_fp8_on) and is_trt))
        kv = Precision.FP8 if follows else Precision.BF16
    return weights, kv


def _load(row: Mapping[str, str], read: Reading) -> tuple[Load, int | None, tuple[tuple[float, float], ...]]:
    batch, rate, notes = row["concurrency_or_batch"], row["request_rate"], row["notes"]
    cap = re.search(r"max_num_seqs[= ](\d+)", f"{batch} {notes}")
    at_most = int(cap.group(1)) if cap else None
    stages = tuple((float(a), float(b)) for a, b in re.findall(rf"({_NUMBER})/s for ({_NUMBER}) s", rate))
    if stages:
        if not all(0.0 < each < math.inf for stage in stages for each in stage):
            raise _Skip("a rate or a time of no length")
        return Load.OPEN, at_most, stages
    if rate not in ("", "inf", "closed loop"):
        raise _Skip("arrivals at a rate over capacity, or bursts: needs a simulated queue")
    if rate == "inf":
        if row["metric"].startswith(("ttft", "tpot", "itl", "e2e")):
            raise _Skip("latency of requests that all came at once: needs a simulated queue")
        return Load.MAXIMUM, at_most, ()
    if not batch.isdecimal() or int(batch) < 1:
        raise _Skip(f"batch or concurrency is {batch!r}")
    load = Load.CLOSED if rate == "closed loop" else read.load
    if load is None:
        load = Load.CLOSED if "closed loop" in notes else Load.STATIC
    if load is Load.OPEN:
        raise _Skip("an open loop without a rate")
    return load, int(batch), ()


def _burst(row: Mapping[str, str], read: Reading, load: Load, batch: int | None) -> float | None:
    if load is not Load.CLOSED or batch is None or batch == 1:
        return 0.0
    requests = re.match(r"(\d+) requests", row["notes"])
    return min(1.0, batch / int(requests.group(1))) if requests else read.burst


def _lengths(row: Mapping[str, str], metric: Metric) -> tuple[float, float]:
    """Mean tokens of a prompt and of an answer."""
    totals = re.search(r"(\d+) prompts, (\d+) in / (\d+) out", row["notes"])
    if totals:
        requests, into, out = (int(each) for each in totals.groups())
        return into / requests, out / requests
    if row["metric"] == "itl_intercept_ms":
        return 1.0, 2.0
    isl = _length(row["isl"], "prompt")
    if metric in (Metric.TTFT, Metric.PREFILL) and not row["osl"]:
        return isl, 1.0
    return isl, _length(row["osl"], "answer")


def _length(text: str, name: str) -> float:
    if text == "short prompt":
        return 16.0
    found = re.fullmatch(rf"(?:mix )?(?:mean )?({_NUMBER})", text)
    if not found:
        raise _Skip(f"{name} lengths are not stated as a number")
    if float(found.group(1)) > TOKENS_MAX:
        raise _Skip(f"{name} lengths are over {TOKENS_MAX:,} tokens")
    return float(found.group(1))
