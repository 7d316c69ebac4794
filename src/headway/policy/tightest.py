"""The tightest promises given in the last minute: somebody like that may come again at any moment."""

from __future__ import annotations

from math import inf

from headway.policy.slo import Objective

PERIOD_S = 30.0


class Tightest:
    """The smallest TTFT and ITL seen in this period of ``PERIOD_S`` and the one before; ``inf`` if none was."""

    def __init__(self) -> None:
        self._until_s = -inf
        self._before = (inf, inf)
        self._now = (inf, inf)

    def see(self, now: float, objective: Objective) -> None:
        self._turn(now)
        self._now = (min(self._now[0], objective.ttft_s or inf), min(self._now[1], objective.itl_s or inf))

    def ttft_s(self, now: float) -> float:
        self._turn(now)
        return min(self._now[0], self._before[0])

    def itl_s(self, now: float) -> float:
        self._turn(now)
        return min(self._now[1], self._before[1])

    def _turn(self, now: float) -> None:
        """Begin a new period if this one is over."""
        if now >= self._until_s:
            self._before = self._now if now < self._until_s + PERIOD_S else (inf, inf)
            self._now = (inf, inf)
            self._until_s = now + PERIOD_S
