"""The machine: what it is, and the limits that everything else is measured against."""

from __future__ import annotations

import contextlib
import os
import platform
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

READ_BYTES = 640 * 1024 * 1024
"""Far more than any cache holds, so that a read of it is a read of memory."""


def describe() -> dict[str, str | int]:
    """When, on what, with which versions."""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "cpu": _cpu_name(),
        "cores": os.cpu_count() or 1,
        "python": platform.python_version(),
        **{name.replace("-", "_"): _version(name) for name in ("headway", "torch", "uvicorn")},
    }


def limits(threads: int) -> dict[str, float]:
    """Memory read bandwidth (GB/s) and the rate of a large matrix product (GFLOP/s) in fp32 and bf16, best of several.

    The rates are what torch's own kernels reach on a 2048-cube, which is what the engine can hope for.
    """
    import torch

    torch.set_num_threads(threads)
    read_s = _best(torch.ones(READ_BYTES // 4).sum, repeats=5)
    figures = {"limit_read_gb_s": round(READ_BYTES / read_s / 1e9, 1)}
    for name, dtype, size in (("fp32", torch.float32, 2048), ("bf16", torch.bfloat16, 1024)):
        left, right = torch.randn(size, size).to(dtype), torch.randn(size, size).to(dtype)
        seconds = _best(lambda left=left, right=right: left @ right, repeats=3)  # type: ignore[misc]
        figures[f"limit_gemm_{name}_gflop_s"] = round(2 * size**3 / seconds / 1e9, 1)
    return figures


def memory_mb(process_id: int) -> dict[str, float]:
    """Resident memory of a process and all below it: RSS counts shared pages in each of them, PSS splits them."""
    import psutil

    process = psutil.Process(process_id)
    infos = [each.memory_full_info() for each in (process, *process.children(recursive=True))]
    return {
        "rss_mb": round(sum(each.rss for each in infos) / 1e6, 1),
        "pss_mb": round(sum(each.pss for each in infos) / 1e6, 1),
    }


def cpu_s(process_id: int) -> float:
    """Processor time so far of a process and all below it that still run; 0 if it doesn't."""
    import psutil

    total_s = 0.0
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(process_id)
        for each in (process, *process.children(recursive=True)):
            with contextlib.suppress(psutil.Error):  # it has ended since
                total_s += sum(each.cpu_times()[:2])
    return total_s


def others_s(process_id: int) -> float:
    """Processor time so far of all that the machine did, less that of a process and all below it, and that of this one:
    other processes of this one's count."""
    import psutil

    times = psutil.cpu_times()
    busy_s = sum(times) - times.idle - getattr(times, "iowait", 0.0) - getattr(times, "guest", 0.0)
    return float(busy_s) - cpu_s(process_id) - time.process_time()


def _best(work: Callable[[], object], repeats: int) -> float:
    work()
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - start)
    return best


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown"
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    values = {key.strip(): value.strip() for key, value in fields.items()}
    known = [
        flag for flag in ("avx2", "avx512_bf16", "avx512_vnni", "amx_bf16") if flag in values.get("flags", "").split()
    ]
    return " ".join([values.get("model name", "unknown"), *known])


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
