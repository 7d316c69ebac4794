"""How many replicas of one machine a load takes, and the largest load that each of them keeps: by simulation."""

from __future__ import annotations

import math
from dataclasses import dataclass

from headway.plan.bounds import USABLE, Bounds
from headway.plan.forecast import Forecaster
from headway.plan.outcome import Figure, Forecast
from headway.sim.capacity import capacity

NEAR = 0.05
"""With an attainment so far below the target on one replica, two or more behind a router may still keep it: they even
out each other's bursts."""
TRIED = 3
"""Counts of replicas, from the one that single replicas suggest on, before a machine is given up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizing:
    """One machine under a load of ``rate`` requests a second in all. ``bounds``: what no scheduler can do better on a
    replica. ``most``: replicas that there may be. ``tolerance``: relative, of capacities."""

    forecaster: Forecaster
    bounds: Bounds
    rate: float
    target: float
    most: int
    tolerance: float

    def replicas(self) -> int | None:
        """Told from one replica with its share of the load; None where no number up to ``most`` keeps it."""
        attained, rate, most = self.forecaster.attainment, self.rate, self.most
        replicas, failed = self.bounds.replicas_at_least(rate), 0
        while replicas <= most:
            share = attained(rate / replicas)
            if share >= self.target or (replicas > 1 and share >= self.target - NEAR):
                break
            failed = replicas
            replicas = max(replicas + 1, math.ceil(replicas * min(1.5, self.target / max(share, 0.1)) * 0.95))
        if replicas > most and failed < most:
            replicas = most if attained(rate / most) >= self.target - NEAR else most + 1
        if replicas > most:
            return None
        while replicas - failed > 1:
            middle = (replicas + failed) // 2
            if attained(rate / middle) >= self.target:
                replicas = middle
            else:
                failed = middle
        return replicas

    def together(self, first: int) -> Forecast | None:
        """Replicas behind their router: the fewest from ``first`` on that keep the load; None where they don't."""
        for replicas in range(first, min(self.most, first + TRIED - 1) + 1):
            forecast = self.forecaster.forecast(self.rate, replicas)
            if forecast.keeps:
                return forecast
        return None

    def capacity(self, least: float) -> Figure:
        """Requests a second that one replica keeps, from ``least`` on, which it is known to, up to the closed bound: a
        run at a higher rate may end before its queue has grown, and says nothing."""
        most = max(USABLE * self.bounds.rate_max, least * (1.0 + self.tolerance))

        def attained(rate: float) -> float:
            return 1.0 if rate <= least else 0.0 if rate >= most else self.forecaster.attainment(rate)

        found = capacity(attained, least, most, target=self.target, tolerance=self.tolerance)
        tried = self.forecaster.tried
        surely = [point.rate for point, figure in tried if figure.low is None or figure.low >= self.target]
        broken = [point.rate for point, figure in tried if figure.high is not None and figure.high < self.target]
        value = max(found.rate, least)
        return Figure(
            value,
            min(value, max(surely, default=0.0)) or None,
            max(value, min(broken)) if broken else None,
        )
