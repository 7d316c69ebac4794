"""What a load is: requests at given times whatever becomes of them (open), or so many at once (closed)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from headway.bench.arrivals import ARRIVALS_MAX

Arrivals = Literal["poisson", "constant", "gamma", "trace"]

RATE_MAX = 100_000.0
CONCURRENCY_MAX = 65_536
SECONDS_MAX = 86_400.0
IN_FLIGHT_MAX = 4096
"""Connections open at once in an open loop, if nobody says otherwise; a request that finds none is late, and counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenLoop:
    """``rate`` requests a second for ``seconds``. ``cv``: of the gaps between them, for ``gamma``; 1 is Poisson.

    ``trace``: at the times of the workload's calls, stretched so that they come at ``rate`` on average; 0: as they are.
    Raises ValueError for what can't be meant.
    """

    rate: float
    seconds: float
    arrivals: Arrivals = "poisson"
    cv: float = 1.0
    in_flight_max: int = IN_FLIGHT_MAX

    def __post_init__(self) -> None:
        least = 0.0 if self.arrivals == "trace" else math.ulp(0.0)
        _check("rate", self.rate, least, RATE_MAX, "requests a second")
        _check("seconds", self.seconds, math.ulp(0.0), SECONDS_MAX, "seconds")
        _check("cv", self.cv, 0.01, 100.0, "")
        if self.rate * self.seconds > ARRIVALS_MAX:
            raise ValueError(f"{self.rate:g} a second for {self.seconds:g} s are more than {ARRIVALS_MAX:,} requests")
        _check("in_flight_max", self.in_flight_max, 1, CONCURRENCY_MAX, "connections")

    @property
    def name(self) -> str:
        if self.arrivals == "trace" and not self.rate:
            return "as in the trace"
        kind = {"poisson": "Poisson", "gamma": f"bursts, CV {self.cv:g}"}.get(self.arrivals, self.arrivals)
        return f"{self.rate:g} requests/s, {kind}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClosedLoop:
    """``concurrency`` requests at once: where one ends the next begins. Started one after the other over ``ramp_s``;
    None: over about the life of one request, so that they don't all begin, and end, together."""

    concurrency: int
    seconds: float
    ramp_s: float | None = None

    def __post_init__(self) -> None:
        _check("concurrency", self.concurrency, 1, CONCURRENCY_MAX, "requests at once")
        _check("seconds", self.seconds, math.ulp(0.0), SECONDS_MAX, "seconds")

    @property
    def name(self) -> str:
        return f"{self.concurrency} at once"


Load = OpenLoop | ClosedLoop


def _check(name: str, value: float, least: float, most: float, unit: str) -> None:
    if not (math.isfinite(value) and least <= value <= most):
        said = "above 0" if 0.0 < least < 1e-300 else f"at least {least:g}"
        raise ValueError(f"{name} must be {said} and at most {most:g} {unit}".rstrip() + f", not {value:g}")
