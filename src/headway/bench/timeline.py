"""What came when: the axis on which a run is drawn."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import pairwise

from headway.bench.figures import Second
from headway.bench.judge import GOOD, Judge, token_weights
from headway.bench.metrics import is_counted
from headway.bench.record import Outcome, Record
from headway.bench.statistics import P95, nearest_rank
from headway.policy.slo import NO_PROMISE, Objective

STEP_S = 1.0
POINTS_MAX = 3600
"""A longer run has longer steps."""


def timeline(
    records: Sequence[Record],
    window_s: tuple[float, float],
    elapsed_s: float,
    objectives: Mapping[str, Objective],
    default: Objective = NO_PROMISE,
    *,
    step_s: float = STEP_S,
) -> list[Second]:
    """From 0 to ``elapsed_s``, in steps of about ``step_s`` (see ``step_s`` of each).

    No step lies across an edge of the window, and tokens are counted where they came: so the mean rate of the window is
    a mean over its steps, and never above the highest of them.
    """
    edges = _edges(window_s, elapsed_s, step_s)
    if len(edges) < 2:
        return []
    points = [Second(at_s=low, step_s=high - low) for low, high in pairwise(edges)]
    _count(points, edges, records, Judge(objectives, default))
    first_tokens: list[list[float]] = [[] for _ in points]
    gaps: list[list[float]] = [[] for _ in points]
    has_itl = is_counted(records)
    for record in records:
        for index, (at_s, tokens) in enumerate(zip(record.chunk_s, token_weights(record), strict=True)):
            place = _place(edges, at_s)
            points[place].tokens += tokens
            if index == 0:
                first_tokens[place].append(at_s - record.intended_s)
            elif has_itl and (count := record.chunk_tokens[index]):
                gaps[place] += [(at_s - record.chunk_s[index - 1]) / count] * count
    for point, ttfts_s, gaps_s in zip(points, first_tokens, gaps, strict=True):
        point.ttft_p95_s = nearest_rank(sorted(ttfts_s), P95) if ttfts_s else None
        point.itl_p95_s = nearest_rank(sorted(gaps_s), P95) if gaps_s else None
    return points


def _count(points: list[Second], edges: list[float], records: Sequence[Record], judge: Judge) -> None:
    """``in_flight``: at the end of each step."""
    for record in records:
        if record.sent_s is not None:
            points[_place(edges, record.sent_s)].sent += 1
        end = points[_place(edges, record.ended_s)]
        end.ended += 1
        end.good += judge(record) == GOOD
        end.refused += record.outcome is Outcome.REFUSED
        end.failed += record.outcome not in (Outcome.OK, Outcome.REFUSED, Outcome.CUT)
        if record.sent_s is None:  # never under way
            end.in_flight += 1
    in_flight = 0
    for point in points:
        in_flight += point.sent - point.ended + point.in_flight
        point.in_flight = in_flight


def _place(edges: list[float], at_s: float) -> int:
    """Which step it falls in; what is outside counts with the nearest."""
    return min(max(bisect_right(edges, at_s) - 1, 0), len(edges) - 2)


def _edges(window_s: tuple[float, float], elapsed_s: float, step_s: float) -> list[float]:
    """Where the steps begin, and where the last one ends."""
    end_s = max(elapsed_s, 0.0)
    step_s = max(step_s, end_s / POINTS_MAX)
    fixed = sorted({0.0, *(at_s for at_s in window_s if 0.0 < at_s < end_s), end_s})
    edges = fixed[:1]
    for low_s, high_s in pairwise(fixed):
        steps = max(1, math.floor((high_s - low_s) / step_s + 0.5))
        edges += [low_s + (high_s - low_s) * step / steps for step in range(1, steps)] + [high_s]
    return edges
