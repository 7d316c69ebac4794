"""The slow loop: what was observed moves a margin, because every model errs somewhere.

Prediction does the work; this corrects its bias. So it waits for enough requests to judge by, moves in small steps up
and smaller ones down, stays within bounds, and does not learn from times in which the limit did not matter: a margin
that nobody leans on must not drift.
"""

from __future__ import annotations

from headway.policy.slo import TARGET_ATTAINMENT

JUDGED_MIN = 40
"""Requests, and"""
PERIOD_S = 2.0
"""seconds between two moves."""
WIDEN = 1.1
NARROW = 0.8
"""What is left of a margin's excess after a move down."""
GOOD = 0.98
"""From this share kept on, the margin may be narrower. Between it and the target nothing moves."""
MARGIN_MAX = 1.6


class Margin:
    """A factor on predicted times, from ``least`` to ``MARGIN_MAX``, for one kind of promise. It begins with
    ``first``."""

    def __init__(self, least: float = 1.0, first: float | None = None) -> None:
        self._least = least
        self.value = least if first is None else first
        self._kept = 0
        self._judged = 0
        self._binding = False
        self._since_s: float | None = None

    def lean(self) -> None:
        """The limit that the margin moves has just mattered."""
        self._binding = True

    def judge(self, now: float, kept: bool) -> None:
        """A request has ended for which the promise was kept, or not."""
        self._judged += 1
        self._kept += kept
        if self._since_s is None:
            self._since_s = now
        if self._judged < JUDGED_MIN or now - self._since_s < PERIOD_S:
            return
        share = self._kept / self._judged
        if share < TARGET_ATTAINMENT and self._binding:
            self.value = min(self.value * WIDEN, MARGIN_MAX)
        elif share >= GOOD and self._binding:
            self.value = self._least + (self.value - self._least) * NARROW
        self._kept = self._judged = 0
        self._binding = False
        self._since_s = now
