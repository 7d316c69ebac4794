"""Sources of simulated calls that a plan needs beside those of the simulator: drawn as ``headway bench`` draws them,
listed without times, and with lengths changed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import accumulate
from random import Random

from headway.bench.drawn import Kind
from headway.bench.lengths import draw_tokens
from headway.sim.arrivals import Process
from headway.sim.lengths import scale
from headway.sim.traces import Row
from headway.sim.workload import Size, Source

PREFIX_LABELS = 1 << 20
"""Shared prefixes of kind number k are labelled from k times this on."""


@dataclass(frozen=True, slots=True)
class DrawnSource:
    """Calls of one kind of a drawn workload, of one turn each. ``number``: of the kind in its workload."""

    kind: Kind
    process: Process
    number: int = 0

    @property
    def longest_output(self) -> int:
        return round(self.kind.output.high)

    def draws(self, seed: str) -> Iterator[tuple[float, Size]]:
        sizes, kind, now = Random(f"{seed} sizes"), self.kind, 0.0
        ranks = range(kind.prefixes)
        weights = tuple(accumulate((rank + 1) ** -kind.zipf for rank in ranks))
        for gap in self.process.gaps(Random(f"{seed} gaps")):
            now += gap
            prompt, output = draw_tokens(kind.input, sizes), draw_tokens(kind.output, sizes)
            if not ranks:
                yield now, Size(prompt, output)
                continue
            which = sizes.choices(ranks, cum_weights=weights)[0]
            shared = draw_tokens(kind.prefix, Random(f"{seed} prefix {which}"))
            yield now, Size(shared + prompt, output, (self.number * PREFIX_LABELS + which,), shared)

    def scaled(self, factor: float) -> DrawnSource:
        return replace(self, kind=self.kind.scaled(factor))


@dataclass(frozen=True, slots=True)
class CallSource:
    """Sizes from a list, in another order for each seed and pass, at the times of a process."""

    sizes: tuple[Size, ...]
    process: Process

    @property
    def longest_output(self) -> int:
        return max(size.output_tokens for size in self.sizes)

    def draws(self, seed: str) -> Iterator[tuple[float, Size]]:
        random, order, now = Random(f"{seed} order"), list(self.sizes), 0.0
        gaps = self.process.gaps(Random(f"{seed} gaps"))
        while True:
            random.shuffle(order)
            for size, gap in zip(order, gaps, strict=False):
                now += gap
                yield now, size

    def scaled(self, factor: float) -> CallSource:
        return replace(self, sizes=tuple(size.scaled(factor) for size in self.sizes))


BLOCK_ROWS = 100
STRATA = 6
"""A run of 600 requests has a stretch from every sixth of its trace."""


@dataclass(frozen=True, slots=True)
class Blocks:
    """A trace in stretches of ``BLOCK_ROWS`` rows, one from each of ``STRATA`` equal parts in turn: a block bootstrap.

    What comes together stays together, and a short run is like the whole trace, which a piece of a trace that drifts
    is not. Peaks that last longer than a stretch are cut to its length.
    """

    rows: tuple[Row, ...]

    @property
    def longest_output(self) -> int:
        return max(row.size.output_tokens for row in self.rows)

    def draws(self, seed: str) -> Iterator[tuple[float, Size]]:
        random, rows = Random(f"{seed} blocks"), self.rows
        gap_s = (rows[-1].arrived_s - rows[0].arrived_s) / (len(rows) - 1)
        part = len(rows) // STRATA
        order, now = list(range(STRATA)), 0.0
        while True:
            random.shuffle(order)
            for stratum in order:
                first = 1 + stratum * part + random.randrange(max(1, part - BLOCK_ROWS))
                for at in range(first, min(first + BLOCK_ROWS, len(rows))):
                    now += (rows[at].arrived_s - rows[at - 1].arrived_s) / gap_s
                    yield now, rows[at].size

    def scaled(self, factor: float) -> Blocks:
        return Blocks(tuple(Row(row.arrived_s, row.size.scaled(factor)) for row in self.rows))


@dataclass(frozen=True, slots=True)
class Stretched:
    """Another source with its prompts and its answers times a factor each."""

    source: Source
    prompt: float = 1.0
    output: float = 1.0

    @property
    def longest_output(self) -> int:
        return scale(self.source.longest_output, self.output)

    def draws(self, seed: str) -> Iterator[tuple[float, Size]]:
        for at, size in self.source.draws(seed):
            prompt, output = scale(size.prompt_tokens, self.prompt), scale(size.output_tokens, self.output)
            yield at, Size(prompt, output, size.prefix, scale(size.prefix_block, self.prompt))

    def scaled(self, factor: float) -> Stretched:
        return replace(self, source=self.source.scaled(factor))
