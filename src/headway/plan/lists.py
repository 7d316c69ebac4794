"""What there is to plan with: GPUs, models, workloads."""

from __future__ import annotations

from collections.abc import Mapping

from rich import box
from rich.console import Console
from rich.table import Table

from headway.bench.workload import options
from headway.plan.gpu import Gpu
from headway.plan.known_models import known_models
from headway.plan.load import workloads
from headway.plan.precision import Precision

WIDE = 110
"""Columns from which on the lists have what else there is to say."""


def show_gpus(catalogue: Mapping[str, Gpu], console: Console) -> None:
    is_wide = console.width >= WIDE
    table = _table("name", "GB", "TB/s", "bf16 TF", "fp8 TF", "link GB/s", "$/h")
    if is_wide:
        table.add_column("price from", overflow="fold")
    for gpu in catalogue.values():
        price = gpu.price
        origin = "" if price is None else f"{price.provider}, {price.date or 'no date'}"
        table.add_row(
            f"{gpu.name} *" if gpu.consumer else gpu.name,
            f"{gpu.memory_bytes / 1e9:.0f}",
            f"{gpu.bandwidth / 1e12:.2f}",
            _peak(gpu, Precision.BF16),
            _peak(gpu, Precision.FP8),
            f"{gpu.link.kind} {gpu.link.bandwidth / 1e9:.0f}" if gpu.link.most > 1 else "-",
            "-" if price is None else f"{price.usd_per_hour:.2f}",
            *([origin] if is_wide else []),
        )
    console.print(table)
    if any(gpu.consumer for gpu in catalogue.values()):
        console.print("* Consumer card: planned with only where it is named (--gpu) or has a price of yours.")
    console.print("GB that software can use; dense rates; links a GPU and direction. Change any: --gpus-file, --price.")


def _table(first: str, *numbers: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1), collapse_padding=True)
    table.add_column(first, no_wrap=True)
    for name in numbers:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _peak(gpu: Gpu, precision: Precision) -> str:
    return f"{gpu.peaks[precision] / 1e12:,.0f}" if precision in gpu.peaks else "-"


def show_models(console: Console) -> None:
    is_wide = console.width >= WIDE
    table = _table("name", "B", "active B", "KV kB/token", "context")
    if is_wide:
        table.add_column("other names", overflow="fold")
    for name, known in known_models().items():
        shape = known.shape
        table.add_row(
            name,
            f"{shape.parameters / 1e9:.3g}",
            f"{shape.active_parameters / 1e9:.3g}",
            f"{shape.kv_bytes(1, Precision.BF16) / 1e3:,.0f}",  # of a token within the windows
            f"{shape.context_tokens:,}",
            *([", ".join(known.aliases)] if is_wide else []),
        )
    console.print(table)
    console.print("Any other: give its config.json, or the directory that it is in.")


def show_workloads(console: Console) -> None:
    table = Table(box=box.SIMPLE, show_header=False, pad_edge=False)
    for name, text in workloads().items():
        table.add_row(f"[bold]{name}[/]", text)
    console.print(table)
    for family, keys in options().items():
        console.print(f"[bold]{family}[/]")
        for key, text in keys.items():
            console.print(f"  {key}: {text}", markup=False, soft_wrap=True)
