"""Percentiles and counts of the last minute, in bounded memory however much happens in it."""

from __future__ import annotations

import math

WINDOW_S = 60.0
SLICE_S = 2.0
"""What is older than ``WINDOW_S`` is forgotten so much at a time: a window holds 58 to 60 seconds."""
ERROR = 0.005
"""Most that a percentile is off, as a share of it."""
VALUE_MIN, VALUE_MAX = 1e-6, 1e5
"""Less counts as 0, and more as this: some 2,500 buckets a slice at most."""

_SLICES = round(WINDOW_S / SLICE_S)
_RATIO = (1.0 + ERROR) / (1.0 - ERROR)
"""Of one bucket's edge to the next, so that a value in the middle is off by ``ERROR`` from either."""
_LOG_RATIO = math.log(_RATIO)
_ZERO = math.floor(math.log(VALUE_MIN) / _LOG_RATIO) - 1


class Window:
    """The values of the last ``WINDOW_S``, each as one of a count of its like: a slice of time holds a histogram with
    buckets that widen by a ratio. Source: DDSketch (Masson, Rim and Lee, VLDB 2019).

    One thread writes; reading from another is safe, at most one value off.
    """

    __slots__ = ("_slices",)

    def __init__(self) -> None:
        self._slices: list[tuple[int, dict[int, int]]] = [(-1, {})] * _SLICES

    def add(self, now: float, value: float, times: int = 1) -> None:
        number = int(now / SLICE_S)
        at = number % _SLICES
        if self._slices[at][0] != number:
            self._slices[at] = number, {}
        counts = self._slices[at][1]
        bucket = _ZERO if value < VALUE_MIN else math.ceil(math.log(min(value, VALUE_MAX)) / _LOG_RATIO)
        counts[bucket] = counts.get(bucket, 0) + times

    def quantile(self, now: float, share: float) -> tuple[float | None, int]:
        """The smallest value that at least ``share`` of the values don't exceed (nearest rank), to within ``ERROR``;
        None without values. And of how many it is."""
        newest = int(now / SLICE_S)
        counts: dict[int, int] = {}
        for number, slice_counts in self._slices:
            if newest - _SLICES < number <= newest:
                for bucket, count in slice_counts.copy().items():  # a copy: the other thread may add a bucket
                    counts[bucket] = counts.get(bucket, 0) + count
        total = sum(counts.values())
        left = max(1, math.ceil(total * share - 1e-9))
        for bucket in sorted(counts):
            left -= counts[bucket]
            if left <= 0:
                return (0.0 if bucket == _ZERO else 2.0 * _RATIO**bucket / (_RATIO + 1.0)), total
        return None, 0


class Count:
    """How many of something came in each of the last ``seconds``. One thread writes."""

    __slots__ = ("_counts", "_numbers", "_seconds")

    def __init__(self, seconds: int) -> None:
        self._seconds = seconds
        self._numbers = [-1] * (seconds + 1)
        self._counts = [0] * (seconds + 1)

    def add(self, now: float, count: int = 1) -> None:
        second = int(now)
        at = second % len(self._counts)
        if self._numbers[at] != second:
            self._numbers[at], self._counts[at] = second, 0
        self._counts[at] += count

    def total(self, now: float) -> int:
        """Of the last ``seconds``, the one that is not over yet among them."""
        return self._between(int(now) - self._seconds + 1, int(now) + 1)

    def per_s(self, now: float) -> float:
        """Over the last ``seconds`` whole ones."""
        return self._between(int(now) - self._seconds, int(now)) / self._seconds

    def _between(self, first: int, end: int) -> int:
        pairs = zip(self._numbers, self._counts, strict=True)
        return sum(count for number, count in pairs if first <= number < end)
