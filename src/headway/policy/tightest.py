"""The tightest promises among the traffic of the last minute: somebody like that may come at any moment."""

from __future__ import annotations

from math import inf

from headway.policy.slo import Objective

PERIOD_S = 30.0


class Tightest:
    """``ttft_s`` and ``itl_s``: the smallest seen in this period and the one before; ``inf`` if none was."""

    def __init__(self) -> None:
        self._until_s = -inf
        self._before = (inf, inf)
        self._now = (inf, inf)

    def see(self, now: float, objective: Objective) -> None:
        if now >= self._until_s:
            self._before = self._now if now < self._until_s + PERIOD_S else (inf, inf)
            self._now = (inf, inf)
            self._until_s = now + PERIOD_S
        self._now = (min(self._now[0], objective.ttft_s or inf), min(self._now[1], objective.itl_s or inf))

    @property
    def ttft_s(self) -> float:
        return min(self._now[0], self._before[0])

    @property
    def itl_s(self) -> float:
        return min(self._now[1], self._before[1])
