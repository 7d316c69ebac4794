"""The numbers of the article that this project was started from, and what the planner says of each: docs/article.md.

A claim holds if all its checks with a band do; absolute levels are checked as well as ratios, since a ratio can come
out right because two errors cancel. The profiles of 2023's engines are fitted to published points, some of which are
compared with here; "by hand" is the same with what was guessed before.
"""

from __future__ import annotations

import argparse
import sys

from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.article_batches import paging
from benchmarks.article_case import Check, Claim, Scope
from benchmarks.article_claims import batching, blackwell, links, more_gpus, new_gpu

CLAIMS = (
    Claim("batching", "batch 1 to 64 on an A100: 14 times the throughput, 4 times the latency", batching, of_2023=True),
    Claim("new_gpu", "A100 to H100: 35 to 45 % less time per token", new_gpu, of_2023=True),
    Claim(
        "more_gpus",
        "tensor parallelism 2 to 4: 12 % less latency at batch 1, 33 % at batch 16",
        more_gpus,
        of_2023=True,
    ),
    Claim("links", "NVLink cuts the overhead of communication by 20 to 30 %", links),
    Claim("paging", "PagedAttention: up to 24 times the throughput of older systems", paging, of_2023=True),
    Claim("blackwell", "Blackwell makes the trade-off nearly 30 % less severe", blackwell),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--claim", choices=[claim.name for claim in CLAIMS], help="this one only")
    parser.add_argument("--quick", action="store_true", help="fewer simulated requests: figures that are less exact")


def run(arguments: argparse.Namespace) -> dict[str, float | int | str | None]:
    console = Console(file=sys.stderr)
    figures: dict[str, float | int | str | None] = {}
    for claim in CLAIMS:
        if arguments.claim in (None, claim.name):
            for by_hand in (False, True) if claim.of_2023 else (False,):
                checks = claim.check(Scope(arguments.quick, by_hand))
                figures |= claim.figures(checks, "by_hand" if by_hand else "")
                _print(console, f"{claim.name}{' (by hand)' if by_hand else ''}: {claim.article}", checks)
    return figures


def _print(console: Console, title: str, checks: list[Check]) -> None:
    table = Table(box=box.SIMPLE, title=title, title_justify="left")
    table.add_column("")
    for column in ("predicted", "published", "band"):
        table.add_column(column, justify="right")
    table.add_column("holds")
    for each in checks:
        band = "" if each.holds is None else f"{_number(each.low)} .. {_number(each.high)}"
        holds = "" if each.holds is None else "yes" if each.holds else "NO"
        published = "" if each.published is None else _number(each.published)
        table.add_row(each.name, _number(each.predicted), published, band, holds)
    console.print(table)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
