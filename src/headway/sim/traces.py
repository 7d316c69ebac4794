"""Traces of real traffic: packaged samples (see ``data/README.md``), replayed at any rate by scaling time."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from itertools import count
from random import Random

from headway.sim.workload import Size

TRACES = ("azure_conv", "azure_code", "mooncake_conversation")

MOONCAKE_BUCKET_S = 3.0
"""Mooncake's arrival times are rounded down to this; they are spread over it, else whole batches arrive at once."""


@dataclass(frozen=True, slots=True)
class Row:
    arrived_s: float
    size: Size


@dataclass(frozen=True, slots=True)
class Replay:
    """A trace over and over, from a row that the seed picks. ``bucket_s``: what its times were rounded down to.

    The rate is set by scaling time: gaps keep their pattern. Where the trace starts again, one mean gap is put in.
    """

    rows: tuple[Row, ...]
    bucket_s: float = 0.0

    @property
    def longest_output(self) -> int:
        return max(row.size.output_tokens for row in self.rows)

    def draws(self, seed: str) -> Iterator[tuple[float, Size]]:
        random = Random(f"{seed} replay")
        rows = sorted(
            ((row.arrived_s + random.random() * self.bucket_s, row.size) for row in self.rows), key=lambda row: row[0]
        )
        first = random.randrange(len(rows))
        mean_gap_s = (rows[-1][0] - rows[0][0]) / (len(rows) - 1)
        period_s = rows[-1][0] - rows[0][0] + mean_gap_s
        for position in count(first):
            at_s, size = rows[position % len(rows)]
            lap_s = period_s * (position // len(rows))
            yield (at_s + lap_s - rows[first][0]) / mean_gap_s + 1.0, size

    def scaled(self, factor: float) -> Replay:
        return Replay(tuple(Row(row.arrived_s, row.size.scaled(factor)) for row in self.rows), self.bucket_s)


def load(name: str) -> Replay:
    """A packaged trace, by its name in ``TRACES``."""
    text = files("headway.sim").joinpath("data", f"{name}.csv").read_text(encoding="utf-8")
    rows = tuple(_row(row) for row in csv.DictReader(text.splitlines()))
    return Replay(rows, MOONCAKE_BUCKET_S if name.startswith("mooncake") else 0.0)


def _row(row: dict[str, str]) -> Row:
    size = Size(int(row["prompt_tokens"]), int(row["output_tokens"]), tuple(_labels(row.get("blocks", ""))))
    return Row(float(row["arrived_s"]), size)


def _labels(runs: str) -> Iterator[int]:
    for run in runs.split():
        first, _, last = run.partition("-")
        yield from range(int(first), int(last or first) + 1)
