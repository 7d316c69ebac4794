"""What the rows of one source measure beyond what their columns say, each with the reason for reading them so."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.plan_point import Load, Metric


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """``load``: of rows whose columns and notes don't tell. ``lengths``: share of the stated lengths that requests had
    on average. ``burst``: see ``Point``. ``is_bare``: no server was around the engine. ``kv_follows``: a KV cache in
    fp8 wherever weights are in 8 or 4 bits. ``kv_fp8_on``: only on GPUs whose name starts so. ``metrics``: what a
    metric's name means here, where that is not what it usually means. ``skip``: all rows, and why."""

    load: Load | None = None
    lengths: float = 1.0
    burst: float | None = None
    is_bare: bool = False
    kv_follows: bool = False
    kv_fp8_on: tuple[str, ...] = ()
    metrics: tuple[tuple[str, Metric], ...] = ()
    skip: str = ""
    why: str


SOURCES: dict[str, Reading] = {
    "AMD ROCm/vllm docs": Reading(
        is_bare=True,
        kv_follows=True,
        why="vLLM's offline latency and throughput scripts; the checkpoints are AMD's FP8-KV",
    ),
    "Argonne LLM-Inference-Bench": Reading(
        load=Load.STATIC, is_bare=True, why="offline batches; end to end in seconds of the whole batch"
    ),
    "BLIS sim-to-real measured runs": Reading(
        load=Load.OPEN, why="open loop in stages, over HTTP; means over all stages together"
    ),
    "Databricks/MosaicML": Reading(
        load=Load.STATIC, why="static batches; req/s of table 2 times 64 output tokens is throughput"
    ),
    "GPU-Benchmarks-on-LLM-Inference": Reading(
        load=Load.STATIC, is_bare=True, why="llama.cpp, batch 1, layers split over GPUs: no tensor parallelism"
    ),
    "IBM LLM-Pilot": Reading(
        load=Load.CLOSED,
        metrics=(("itl_ms_median", Metric.GAP),),
        why="closed loop of a mix of lengths; the median of all gaps; most gaps have no prompt in them",
    ),
    "InferenceX/InferenceMAX": Reading(
        load=Load.CLOSED,
        lengths=0.9,
        burst=0.1,
        kv_fp8_on=("B200", "GB200", "B300", "GB300"),
        why="its client draws each length evenly from 0.8 to 1.0 of the stated one, sends 10 requests per user with no "
        "rate limit, so that a tenth of them arrive at once; vLLM on Blackwell was started with an fp8 KV cache, on "
        "Hopper without; TensorRT-LLM takes the fp8 KV cache of NVIDIA's checkpoints",
    ),
    "LLMServingSim": Reading(load=Load.OPEN, why="300 requests at 10 a second, far over capacity"),
    "MLPerf": Reading(
        load=Load.MAXIMUM,
        skip="MLPerf: neither prompt lengths nor tensor parallelism are stated",
        why="and the weights' format is that of the checkpoint before it was quantised: fp16 70B can't fit one H200",
    ),
    "NVIDIA FasterTransformer": Reading(load=Load.STATIC, is_bare=True, why="static batches"),
    "NVIDIA NIM": Reading(
        load=Load.CLOSED, kv_follows=True, why="closed loop; ITL is (end to end - TTFT) / (n - 1), that is TPOT"
    ),
    "NVIDIA measured run": Reading(load=Load.CLOSED, why="closed loop over HTTP; how many requests is not stated"),
    "Splitwise": Reading(
        load=Load.STATIC, is_bare=True, why="static batches: seconds of the prompt step and of a token step"
    ),
    "TensorRT-LLM docs": Reading(
        load=Load.STATIC,
        is_bare=True,
        kv_follows=True,
        why="0.5 and 0.9: static batches of gptSessionBenchmark, throughput over the whole run; 0.14 and 1.0: all "
        "requests at once in flight; fp8 weights imply an fp8 KV cache, as its notes say, and so do NVIDIA's fp4 ones",
    ),
    "dstack": Reading(
        load=Load.STATIC,
        is_bare=True,
        why="static batches of vLLM's latency script; its serving runs offer 16 a second or more, over capacity",
    ),
    "mlc-ai": Reading(load=Load.STATIC, is_bare=True, why="batch 1"),
    "ninehills": Reading(load=Load.CLOSED, why="so many users at once"),
    "vLLM blog": Reading(
        load=Load.CLOSED,
        metrics=(("itl_ms_median", Metric.GAP),),
        why="closed loop at concurrency 8; the median of all gaps",
    ),
    "vLLM performance benchmark": Reading(load=Load.STATIC, is_bare=True, why="its offline latency script"),
}
"""By how a source's name begins."""

UNKNOWN = Reading(why="nothing is known of this source: its columns and notes are taken at their word")


def reading(source: str) -> Reading:
    for start, known in SOURCES.items():
        if source.startswith(start):
            return known
    return UNKNOWN


ODD_ROWS: tuple[tuple[str, str, str], ...] = (
    ("dstack", "2FP8-amd", "dstack 2FP8: the values of its 4-GPU series again, not tensor parallelism over 8"),
)
"""Rows that are not what their columns say: start of the source, part of the notes, the reason to skip them."""
