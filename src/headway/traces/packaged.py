"""The packaged samples: when requests came, how long they were, and which of their blocks were equal. No text."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files

TRACES = ("azure_conv", "azure_code", "mooncake_conversation")

MOONCAKE_BUCKET_S = 3.0
"""Mooncake's arrival times are rounded down to this; spread them over it, else whole batches arrive at once."""
MOONCAKE_BLOCK_TOKENS = 512


@dataclass(frozen=True, slots=True)
class Row:
    """One request. ``blocks``: labels of its prompt's leading blocks of ``MOONCAKE_BLOCK_TOKENS`` tokens, the last of
    which may be cut; equal labels are equal tokens."""

    arrived_s: float
    prompt_tokens: int
    output_tokens: int
    blocks: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Trace:
    """Rows in order of time. ``bucket_s``: what their times were rounded down to."""

    rows: tuple[Row, ...]
    bucket_s: float = 0.0


def packaged(name: str) -> Trace:
    """A packaged trace, by its name in ``TRACES``."""
    text = files("headway.traces").joinpath("data", f"{name}.csv").read_text(encoding="utf-8")
    rows = tuple(_row(row) for row in csv.DictReader(text.splitlines()))
    return Trace(rows, MOONCAKE_BUCKET_S if name.startswith("mooncake") else 0.0)


def _row(row: dict[str, str]) -> Row:
    blocks = tuple(_labels(row.get("blocks", "")))
    return Row(float(row["arrived_s"]), int(row["prompt_tokens"]), int(row["output_tokens"]), blocks)


def _labels(runs: str) -> Iterator[int]:
    for run in runs.split():
        first, _, last = run.partition("-")
        yield from range(int(first), int(last or first) + 1)
