"""Rows of a table become points in the planner's terms, or are skipped with a reason: nothing in a row is an error."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from benchmarks.plan_names import engine_profile, engine_year
from benchmarks.plan_point import Load, Metric, Point, Skipped
from benchmarks.plan_rows import COLUMNS, TableError, read_points
from headway.plan.precision import Precision

PLAIN = {
    "source": "Somebody's runs",
    "date": "2025-03",
    "engine": "vllm",
    "engine_version": "0.8.0",
    "model": "meta-llama/Llama-3.1-8B",
    "gpu": "H100 SXM 80GB",
    "num_gpus": "1",
    "tp": "1",
    "precision": "bf16",
    "isl": "1024",
    "osl": "128",
    "concurrency_or_batch": "16",
    "request_rate": "closed loop",
    "metric": "tpot_ms",
    "value": "12.5",
    "unit": "ms",
    "notes": "",
}


def read(tmp_path: Path, *rows: dict[str, str]) -> tuple[list[Point], list[Skipped]]:
    path = tmp_path / "points.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows({**PLAIN, **row} for row in rows)
    return read_points(path)


def only(tmp_path: Path, **changed: str) -> Point:
    points, skipped = read(tmp_path, changed)
    assert not skipped
    return points[0]


def reason(tmp_path: Path, **changed: str) -> str:
    points, skipped = read(tmp_path, changed)
    assert not points
    return skipped[0].reason


def test_a_plain_row(tmp_path: Path) -> None:
    point = only(tmp_path)
    assert (point.metric, point.load, point.batch) == (Metric.TPOT, Load.CLOSED, 16)
    assert point.value == pytest.approx(0.0125)
    assert (point.isl, point.osl) == (1024.0, 128.0)
    assert point.is_modern
    assert point.line == 2


def test_throughput_is_of_all_gpus(tmp_path: Path) -> None:
    changed = {"num_gpus": "4", "tp": "4", "metric": "output_tok_s_per_gpu", "value": "100", "unit": "tok/s/GPU"}
    assert only(tmp_path, **changed).value == 400.0


def test_requests_a_second_are_tokens(tmp_path: Path) -> None:
    assert only(tmp_path, metric="req_s", value="2", unit="req/s").value == 256.0


def test_seconds_are_seconds(tmp_path: Path) -> None:
    assert only(tmp_path, metric="e2e_latency_s", value="3", unit="s").value == 3.0
    assert only(tmp_path, metric="e2e_latency_ms", value="3", unit="ms").value == pytest.approx(0.003)


def test_a_source_is_read_as_it_is_known(tmp_path: Path) -> None:
    source = "InferenceX/InferenceMAX result as recorded in aiconfigurator"
    point = only(tmp_path, source=source, gpu="B200 SXM 180GB", precision="fp8")
    assert point.isl == pytest.approx(0.9 * 1024)
    assert point.kv_precision is Precision.FP8
    assert point.burst == 0.1
    assert only(tmp_path, source=source, precision="fp8").kv_precision is Precision.BF16


def test_the_cache_may_have_its_own_format(tmp_path: Path) -> None:
    point = only(tmp_path, precision="bf16, KV fp8")
    assert (point.precision, point.kv_precision) == (Precision.BF16, Precision.FP8)
    point = only(tmp_path, precision="KV bf16", model="gpt-oss-20b")
    assert (point.precision, point.kv_precision) == (Precision.FP4, Precision.BF16)


def test_stages_of_an_open_loop(tmp_path: Path) -> None:
    point = only(tmp_path, request_rate="2.5/s for 600 s; 6/s for 600 s", concurrency_or_batch="max_num_seqs 128")
    assert point.load is Load.OPEN
    assert point.rates == ((2.5, 600.0), (6.0, 600.0))
    assert point.batch == 128


def test_a_shared_prompt_is_computed_once(tmp_path: Path) -> None:
    assert only(tmp_path, notes="open loop; shared system prompt 100 tokens over 9 prompts").isl == 924.0


def test_lengths_may_be_means_or_totals(tmp_path: Path) -> None:
    assert only(tmp_path, isl="mix mean 120", osl="mix mean 18.8").osl == 18.8
    point = only(tmp_path, isl="mean 215", osl="mean 121-181", notes="1000 prompts, 215000 in / 122000 out tokens")
    assert (point.isl, point.osl) == (215.0, 122.0)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"engine": "llama.cpp"}, "without a profile"),
        ({"engine": "something new"}, "without a profile"),
        ({"metric": "watts", "unit": "W"}, "metric not known"),
        ({"metric": "ttft_ms_p99"}, "percentile"),
        ({"unit": "furlongs"}, "unit not known"),
        ({"value": "?"}, "no number"),
        ({"value": "nan"}, "not above 0"),
        ({"value": "-1"}, "not above 0"),
        ({"num_gpus": "0"}, "number of GPUs"),
        ({"tp": "layer split"}, "tensor parallelism"),
        ({"tp": ""}, "not stated"),
        ({"tp": "72", "num_gpus": "72"}, "more than one server"),
        ({"precision": "Q4_K_M"}, "number format"),
        ({"isl": "ShareGPT"}, "lengths"),
        ({"osl": ""}, "lengths"),
        ({"isl": "."}, "lengths"),
        ({"isl": "999999999"}, "lengths"),
        ({"request_rate": "0/s for 10 s"}, "no length"),
        ({"source": "BLIS sim-to-real measured runs", "request_rate": ""}, "without a rate"),
        ({"concurrency_or_batch": ""}, "batch or concurrency"),
        ({"concurrency_or_batch": "0"}, "batch or concurrency"),
        ({"request_rate": "32"}, "simulated queue"),
        ({"request_rate": "inf", "metric": "ttft_ms"}, "simulated queue"),
        ({"source": "MLPerf Inference v5.1"}, "MLPerf"),
        ({"gpu": "H100 SXM 80GB power-capped"}, "power-capped"),
        ({"source": "dstack benchmark", "notes": 'series "8xMi300x 2FP8-amd"; static batch'}, "2FP8"),
    ],
)
def test_skipped_with_a_reason(tmp_path: Path, changed: dict[str, str], says: str) -> None:
    assert says in reason(tmp_path, **changed)


def test_empty_rows_are_rows(tmp_path: Path) -> None:
    points, skipped = read(tmp_path, dict.fromkeys(COLUMNS, ""))
    assert not points
    assert len(skipped) == 1


def test_no_table(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="can't be read"):
        read_points(tmp_path / "none.csv")
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(TableError, match="no column source"):
        read_points(tmp_path / "other.csv")


@pytest.mark.parametrize(
    ("engine", "date", "year"),
    [
        ("vLLM (2023, eager)", "2024-04", 2023),
        ("FasterTransformer", "2024-10", 2023),
        ("IBM TGIS (TGI fork)", "2024-10", 2023),
        ("vllm", "2025-10-29", 2025),
        ("vllm", "", None),
    ],
)
def test_the_year_of_an_engine(engine: str, date: str, year: int | None) -> None:
    assert engine_year(engine, date) == year


@pytest.mark.parametrize(
    ("engine", "year", "profile"),
    [
        ("vLLM", 2023, "eager-2023"),
        ("vLLM (ROCm 6.4.1)", 2025, "vllm"),
        ("NIM (TensorRT-LLM)", 2025, "trtllm"),
        ("FasterTransformer-based", 2023, "fastertransformer"),
        ("vLLM vs HF TGI", 2023, None),
    ],
)
def test_the_profile_of_an_engine(engine: str, year: int, profile: str | None) -> None:
    assert engine_profile(engine, year) == profile
