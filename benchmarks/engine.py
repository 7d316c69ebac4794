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
import time

from benchmarks.machine import limits, memory_mb
from headway.bench.client import Timing, closed_loop, percentile
from headway.bench.launch import HOST, RunningServer, headway_server
from headway.engine.kv_cache import kv_bytes_per_token
from headway.engine.linear import choose_kernel
from headway.models.source import resolve

PATH = "/v1/completions"
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
    kernel = choose_kernel("float32" if arguments.dtype == "float32" else "bfloat16")
    kv_mb = KV_TOKENS * kv_bytes_per_token(config, config.kv_heads, kernel.compute) / 1e6
    return {
        "model": arguments.model,
        "dtype": arguments.dtype,
        "kernel": kernel.name,
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


async def _measure(server: RunningServer, rng: random.Random, vocab_size: int, waves: int) -> dict[str, float]:
    def bodies(count: int) -> list[dict[str, object]]:
        return [
            {
                "model": NAME,
                "prompt": [rng.randrange(vocab_size) for _ in range(PROMPT_TOKENS)],
                "max_tokens": OUTPUT_TOKENS,
                "temperature": 0,
                "ignore_eos": True,
            }
            for _ in range(count)
        ]

    await closed_loop(HOST, server.port, PATH, bodies(4), 2)  # warm-up: first steps allocate
    figures: dict[str, float] = {}
    for concurrency in CONCURRENCY:
        requests = bodies(max(waves * concurrency, 8))
        start_s = time.perf_counter()
        timings = await closed_loop(HOST, server.port, PATH, requests, concurrency)
        elapsed_s = time.perf_counter() - start_s
        figures |= _summary(timings, elapsed_s, concurrency)
        print(f"  {concurrency:3} streams: {figures[f'output_tok_s_{concurrency}']:.1f} tok/s", file=sys.stderr)
    return figures


def _summary(timings: list[Timing], elapsed_s: float, concurrency: int) -> dict[str, float]:
    gaps_ms = [1000 * gap for each in timings for gap in each.gaps_s]
    ttft_ms = [1000 * each.ttft_s for each in timings]
    return {
        f"requests_{concurrency}": len(timings),
        f"output_tok_s_{concurrency}": round(len(timings) * OUTPUT_TOKENS / elapsed_s, 1),
        f"ttft_p50_ms_{concurrency}": round(percentile(ttft_ms, 0.5), 1),
        f"ttft_p95_ms_{concurrency}": round(percentile(ttft_ms, 0.95), 1),
        f"itl_p50_ms_{concurrency}": round(percentile(gaps_ms, 0.5), 2),
        f"itl_p95_ms_{concurrency}": round(percentile(gaps_ms, 0.95), 2),
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
