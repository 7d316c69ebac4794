"""Latencies as plain data: bucket counts for Prometheus, and exact percentiles of the last moments for people."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Sequence
from itertools import repeat

RECENT_MAX = 8192
"""Values kept for exact percentiles."""


class Histogram:
    """Counts of values at or below each bound. One thread writes; reading from another is safe, at most one off."""

    __slots__ = ("bounds", "counts", "recent", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        assert list(bounds) == sorted(set(bounds)), bounds
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        self.total = 0.0
        self.recent: deque[float] = deque(maxlen=RECENT_MAX)

    def observe(self, value: float, times: int = 1) -> None:
        self.counts[bisect_left(self.bounds, value)] += times
        self.total += value * times
        self.recent.extend(repeat(value, min(times, RECENT_MAX)))

    def cumulative(self) -> list[tuple[str, float]]:
        """(upper bound, count of values up to it), as Prometheus wants them."""
        running = 0
        buckets = []
        for bound, count in zip((*self.bounds, float("inf")), list(self.counts), strict=True):
            running += count
            buckets.append(("+Inf" if bound == float("inf") else repr(bound), float(running)))
        return buckets

    def take_recent(self) -> list[float]:
        """The values since the last call (the last ``RECENT_MAX`` of them), in rising order."""
        values = sorted(self.recent)
        self.recent.clear()
        return values


def quantile(ordered: Sequence[float], share: float) -> float | None:
    """The smallest value that at least ``share`` of the values don't exceed (nearest rank); None without values."""
    if not ordered:
        return None
    rank = max(1, -(-len(ordered) * share // 1))
    return ordered[min(len(ordered), int(rank)) - 1]
