"""Latencies as bucket counts, for Prometheus."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence


class Histogram:
    """Counts of values at or below each bound. One thread writes; reading from another is safe, at most one off."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        assert list(bounds) == sorted(set(bounds)), bounds
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        self.total = 0.0

    @classmethod
    def sum_of(cls, histograms: Iterable[Histogram]) -> Histogram:
        """All their values in one. There is at least one, and all have the same bounds."""
        first, *others = histograms
        result = cls(first.bounds)
        result.counts = [sum(counts) for counts in zip(first.counts, *(each.counts for each in others), strict=True)]
        result.total = first.total + sum(each.total for each in others)
        return result

    def observe(self, value: float, times: int = 1) -> None:
        self.counts[bisect_left(self.bounds, value)] += times
        self.total += value * times

    def cumulative(self) -> list[tuple[str, float]]:
        """(upper bound, count of values up to it), as Prometheus wants them."""
        running = 0
        buckets = []
        for bound, count in zip((*self.bounds, float("inf")), list(self.counts), strict=True):
            running += count
            buckets.append(("+Inf" if bound == float("inf") else repr(bound), float(running)))
        return buckets
