"""Exact percentiles of the last minute, in bounded memory."""

from __future__ import annotations

from array import array
from collections.abc import Sequence

WINDOW_S = 60.0
WINDOW_MAX = 16_384
"""Values kept; with more in a minute the window is shorter. Sorting them holds Python for 2 ms."""


class Window:
    """The values of the last ``WINDOW_S``, the latest ``WINDOW_MAX`` of them.

    One thread writes; reading from another is safe, at most one value off.
    """

    __slots__ = ("_next", "_times_s", "_values")

    def __init__(self) -> None:
        self._times_s = array("d")
        self._values = array("d")
        self._next = 0

    def add(self, now: float, value: float, times: int = 1) -> None:
        for _ in range(min(times, WINDOW_MAX)):
            if len(self._values) < WINDOW_MAX:
                self._values.append(value)
                self._times_s.append(now)
            else:
                self._values[self._next] = value
                self._times_s[self._next] = now
                self._next = (self._next + 1) % WINDOW_MAX

    def values(self, now: float) -> list[float]:
        """In rising order."""
        since_s = now - WINDOW_S
        pairs = zip(self._times_s, self._values, strict=False)
        return sorted(value for at_s, value in pairs if at_s >= since_s)


class Rate:
    """A count a second, over the last ``Rate.SECONDS`` whole ones. One thread writes."""

    SECONDS = 10

    __slots__ = ("_counts", "_seconds")

    def __init__(self) -> None:
        self._seconds = [-1] * (self.SECONDS + 1)
        self._counts = [0] * (self.SECONDS + 1)

    def add(self, now: float, count: int) -> None:
        second = int(now)
        at = second % len(self._counts)
        if self._seconds[at] != second:
            self._seconds[at], self._counts[at] = second, 0
        self._counts[at] += count

    def per_s(self, now: float) -> float:
        """The second that is not over yet doesn't count."""
        pairs = zip(self._seconds, self._counts, strict=True)
        return sum(count for second, count in pairs if int(now) - self.SECONDS <= second < int(now)) / self.SECONDS


def quantile(ordered: Sequence[float], share: float) -> float | None:
    """The smallest value that at least ``share`` of the values don't exceed (nearest rank); None without values."""
    if not ordered:
        return None
    rank = max(1, -(-len(ordered) * share // 1))
    return ordered[min(len(ordered), int(rank)) - 1]
