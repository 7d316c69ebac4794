"""Quantiles of any number of values in little memory: counts in buckets that grow by a constant factor.

A quantile is off by less than ``ERROR`` of itself, whatever the values are (the idea of DDSketch, Masson, Rim and Lee,
VLDB 2019), for values from ``LEAST`` to ``MOST``; others count as these.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import ceil, exp, log

ERROR = 0.005
LEAST, MOST = 1e-6, 1e5
_WIDTH = log((1.0 + ERROR) / (1.0 - ERROR))
_PER_WIDTH = 1.0 / _WIDTH
BUCKETS_MAX = ceil(log(MOST / LEAST) * _PER_WIDTH) + 2


def _bucket_of(value: float) -> int:
    return ceil(log(min(max(value, LEAST), MOST)) * _PER_WIDTH)


class Sketch:
    def __init__(self) -> None:
        self.n = 0
        self._counts: Counter[int] = Counter()

    def add(self, value: float) -> None:
        self.n += 1
        self._counts[_bucket_of(value)] += 1

    def add_all(self, values: Sequence[float]) -> None:
        self.n += len(values)
        self._counts.update(map(_bucket_of, values))

    def quantile(self, share: float) -> float:
        """By nearest rank; there must be a value."""
        rank = max(1, ceil(self.n * share - 1e-9))
        for bucket in sorted(self._counts):
            rank -= self._counts[bucket]
            if rank <= 0:
                return 2.0 * exp(bucket * _WIDTH) / (1.0 + exp(_WIDTH))
        raise ValueError("a quantile of no values")
