"""A real server on random weights at a real shape, over HTTP: latency alone, throughput in company, memory.

With the static policy, so that it is the engine that is measured: promised nothing, nobody is refused or kept waiting.
Closed loop: each of N streams sends its next request when its last one has ended; every prompt is different. Beside
the figures stand the machine's limits, measured in the same run before and after, and how much of them was reached.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys

import torch

from benchmarks.machine import limits, memory_mb
from headway.bench.body import PLAIN
from headway.bench.call import Call
from headway.bench.generate import LoadStats, Options, run_load
from headway.bench.launch import HOST, RunningServer, headway_server
from headway.bench.loads import SECONDS_MAX, ClosedLoop
from headway.bench.record import Record
from headway.bench.sender import ReplyError
from headway.bench.statistics import nearest_rank
from headway.bench.target import Target
from headway.engine import native
from headway.engine.linear import choose_kernel
from headway.engine.loaded import kv_bytes_per_token
from headway.models.source import resolve

NAME = "bench"
PROMPT_TOKENS = 128
OUTPUT_TOKENS = 64
CONCURRENCY = (1, 4, 16, 64)
WAVES = 3
"""Requests per stream at each concurrency (more when few streams would make a short run)."""
KV_TOKENS = 16384
"""Room for 64 whole requests; the run fills it, so all of it is resident at the end."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", default="random:smollm2-135m", help="a directory, a hub id or random:SHAPE")
    parser.add_argument("--dtype", default="auto", help="as for headway serve")
    parser.add_argument("--threads", type=int, default=2, help="threads of the engine and of the machine's limits")
    parser.add_argument("--seed", type=int, default=1, help="seed of the prompts")
    parser.add_argument("--waves", type=int, default=WAVES, help="requests per stream")


def run(arguments: argparse.Namespace) -> dict[str, float | int | str]:
    config = resolve(arguments.model).config
    before = limits(arguments.threads)
    options = [
        "--dtype",
        arguments.dtype,
        "--kv-tokens",
        str(KV_TOKENS),
        "--threads",
        str(arguments.threads),
        "--name",
        NAME,
        "--policy",
        "static",
    ]
    with headway_server(arguments.model, *options) as server:
        figures = asyncio.run(_measure(server, random.Random(arguments.seed), config.vocab_size, arguments.waves))
        memory = memory_mb(server.process.pid)
    after = limits(arguments.threads)
    limit = {name: max(before[name], after[name]) for name in before}
    drift = {f"{name}_before_over_after": round(before[name] / after[name], 2) for name in before}
    kernel, kv_type = _kernel(arguments.dtype)
    kv_mb = KV_TOKENS * kv_bytes_per_token(config, config.kv_heads, kv_type.itemsize) / 1e6
    return {
        "model": arguments.model,
        "dtype": arguments.dtype,
        "kernel": kernel,
        "threads": arguments.threads,
        "seed": arguments.seed,
        "prompt_tokens": PROMPT_TOKENS,
        "output_tokens": OUTPUT_TOKENS,
        "start_to_ready_s": round(server.ready_s, 2),
        **figures,
        **memory,
        "kv_pool_mb": round(kv_mb, 1),
        "rss_besides_kv_mb": round(memory["rss_mb"] - kv_mb, 1),
        **limit,
        **drift,
        **_fractions(figures, limit, config.parameters, config.vocab_size * config.hidden_size),
    }


def _kernel(dtype: str) -> tuple[str, torch.dtype]:
    """What a server here computes with, in words, and the type of its KV cache."""
    if dtype != "fp32" and native.why_not() is None:
        return f"{native.choose()} (compiled)", torch.bfloat16
    kernel = choose_kernel("float32" if dtype == "fp32" else "bfloat16")
    return kernel.name, kernel.compute


async def _measure(server: RunningServer, rng: random.Random, vocab_size: int, waves: int) -> dict[str, float]:
    def calls(count: int) -> list[Call]:
        return [
            Call(
                prompt=tuple(rng.randrange(vocab_size) for _ in range(PROMPT_TOKENS)),
                prompt_tokens=PROMPT_TOKENS,
                max_tokens=OUTPUT_TOKENS,
                extra={"temperature": 0, "ignore_eos": True},
            )
            for _ in range(count)
        ]

    await _closed_loop(server, calls(4), 2)  # warm-up: first steps allocate
    figures: dict[str, float] = {}
    for concurrency in CONCURRENCY:
        records, stats = await _closed_loop(server, calls(max(waves * concurrency, 8)), concurrency)
        figures |= _summary(records, stats.elapsed_s, concurrency)
        print(f"  {concurrency:3} streams: {figures[f'output_tok_s_{concurrency}']:.1f} tok/s", file=sys.stderr)
    return figures


async def _closed_loop(server: RunningServer, calls: list[Call], concurrency: int) -> tuple[list[Record], LoadStats]:
    """All of them, all slots at once from the start. Raises ``ReplyError`` if one fails."""
    records: list[Record] = []
    stats = await run_load(
        Target(host=HOST, port=server.port, api="completions", model=NAME),
        iter(calls),
        ClosedLoop(concurrency=concurrency, seconds=SECONDS_MAX, ramp_s=0.0),
        on_record=records.append,
        stop=asyncio.Event(),
        options=Options(dialect=PLAIN, timeout_s=SECONDS_MAX),
    )
    for record in records:
        if not record.is_ok:
            raise ReplyError(record)
    return records, stats


def _summary(records: list[Record], elapsed_s: float, concurrency: int) -> dict[str, float]:
    gaps_ms = sorted(1000 * gap_s for each in records for gap_s in each.gaps_s())
    ttft_ms = sorted(1000 * (each.ttft_s or 0.0) for each in records)
    return {
        f"requests_{concurrency}": len(records),
        f"output_tok_s_{concurrency}": round(len(records) * OUTPUT_TOKENS / elapsed_s, 1),
        f"ttft_p50_ms_{concurrency}": round(nearest_rank(ttft_ms, 0.5), 1),
        f"ttft_p95_ms_{concurrency}": round(nearest_rank(ttft_ms, 0.95), 1),
        f"itl_p50_ms_{concurrency}": round(nearest_rank(gaps_ms, 0.5), 2),
        f"itl_p95_ms_{concurrency}": round(nearest_rank(gaps_ms, 0.95), 2),
    }


def _fractions(
    figures: dict[str, float], limit: dict[str, float], parameters: int, head_parameters: int
) -> dict[str, float]:
    """How much of the machine was used. A decode reads every weight once; a prefilled token skips the output head.

    The floor of ITL counts two bytes a weight; the ceiling of throughput takes the faster of the two GEMM rates.
    """
    floor_ms = 2 * parameters / (limit["limit_read_gb_s"] * 1e9) * 1000
    gemm = max(limit["limit_gemm_fp32_gflop_s"], limit["limit_gemm_bf16_gflop_s"]) * 1e9
    per_output = 2 * parameters + 2 * (parameters - head_parameters) * PROMPT_TOKENS / OUTPUT_TOKENS
    ceiling = gemm / per_output
    return {
        "itl_floor_ms_two_bytes_a_weight": round(floor_ms, 2),
        "itl_1_fraction_of_read_limit": round(floor_ms / figures["itl_p50_ms_1"], 3),
        "output_tok_s_ceiling": round(ceiling, 1),
        "output_tok_s_64_fraction_of_gemm_limit": round(figures["output_tok_s_64"] / ceiling, 3),
    }
