"""Traces of real traffic, replayed at any rate by scaling time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from random import Random

from headway.sim.workload import Size
from headway.traces.packaged import packaged


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

    @property
    def shares_prefixes(self) -> bool:
        return any(row.size.prefix for row in self.rows)

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
    """A packaged trace, by its name in ``headway.traces.packaged.TRACES``."""
    trace = packaged(name)
    rows = (Row(row.arrived_s, Size(row.prompt_tokens, row.output_tokens, row.blocks)) for row in trace.rows)
    return Replay(tuple(rows), trace.bucket_s)
