"""How long a run of ``benchmarks.cpu`` will take, roughly, from what servers usually reach of the machine's limits."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.cpu_figures import Work
from benchmarks.cpu_load import Point
from benchmarks.cpu_peers import Entry
from benchmarks.cpu_probe import Speeds

READ_SHARE, PRODUCTS_SHARE = 0.6, 0.4
"""Of memory's bandwidth, and of the rate of dot products."""
PROBE_S = 0.6
START_S, SLOW_START_S = 4.0, 95.0
SLOW_START = "vllm"
WINDOW_SHARE = 0.8
"""Of a window's time, as many end early."""
DRAIN_S = 3.0
RECHECKED = 1.8
"""Windows in each later round."""


def point_s(point: Point, work: Work, speeds: Speeds) -> float:
    products = 1e9 * PRODUCTS_SHARE * speeds.of(work.precision)
    prefill_s = work.operations(point.prompt_tokens, 1) / products
    decode = point.streams * 2.0 * work.weights / products
    step_s = max(work.read_s(speeds) / READ_SHARE, decode)
    return point.requests * (prefill_s + point.output_tokens * step_s / point.streams)


def shape_s(
    works: Sequence[tuple[Entry, Work]],
    points: Sequence[Point],
    speeds: Speeds,
    *,
    rounds: int,
    windows: int,
    seconds: float,
) -> float:
    """Of all servers on one shape. ``windows``: of a search, 0 if none is made."""
    total = 0.0
    for entry, work in works:
        offers = windows + RECHECKED * (rounds - 1) if windows else 0.0
        total += SLOW_START_S if entry.name.startswith(SLOW_START) else START_S
        total += rounds * sum(PROBE_S + point_s(each, work, speeds) for each in points)
        total += offers * (PROBE_S + WINDOW_SHARE * seconds + DRAIN_S)
    return total
