"""Which rate to offer next, to find the largest one that is kept: one short window at a time, so that the windows of
several servers can take turns."""

from __future__ import annotations

import math

STEP = 1.2
"""Two rates that are no further apart than this factor count as the same: short windows can't tell more."""
BEYOND = 1.5
"""Where even the highest rate is kept: by how much to go on."""


class Bisection:
    """Of the logarithm, between a rate that is hoped to be kept and one that is thought not to be; neither is tried
    before it is the answer's turn. At most ``windows`` rates. ``kept``: the largest one that was, 0 so far."""

    def __init__(self, low: float, high: float, windows: int) -> None:
        if not 0.0 < low < high:
            raise ValueError(f"the bounds must be above 0 and in order, not {low} and {high}")
        self.kept = 0.0
        self._low = low
        self._high = high
        self._failed = math.inf
        self._left = windows

    def next_rate(self) -> float | None:
        """None: there is nothing more to find out."""
        low, high = self.kept or self._low, min(self._failed, self._high)
        if self._left == 0 or self._failed <= low * STEP:
            return None
        if high <= low * STEP:
            return low * BEYOND
        return math.sqrt(low * high)

    def note(self, rate: float, *, is_kept: bool) -> None:
        self._left -= 1
        if is_kept:
            self.kept = rate
        else:
            self._failed = rate


class Recheck:
    """With other requests: a step more than what was kept, then down from there until one is; at most ``windows``."""

    def __init__(self, before: float, low: float, windows: int) -> None:
        """``before``: what was kept, 0 if nothing was. ``low``: below it nothing is tried."""
        self.kept = 0.0
        self._next = before * STEP if before else low
        self._low = low
        self._left = windows

    def next_rate(self) -> float | None:
        return None if self.kept or self._left == 0 or self._next < self._low * 0.999 else self._next

    def note(self, rate: float, *, is_kept: bool) -> None:
        self._left -= 1
        if is_kept:
            self.kept = rate
        else:
            self._next = rate / STEP


Search = Bisection | Recheck
