"""The largest rate of requests, coming whenever they come, at which the promise is kept to 95 % of them."""

from __future__ import annotations

from headway.policy.slo import TARGET_ATTAINMENT
from headway.tune.observation import MISSES
from headway.tune.probe import Limits
from headway.tune.scale import Scale
from headway.tune.search import Search

FIRST = 0.9
"""Of what the closed loop got done at its operating point: an open loop has bursts, and needs some slack."""
RUNGS = (FIRST, 1.0, 1.1, 1.25, 1.5, 2.0)
GRAIN = 0.01
"""Of the same: the smallest difference in rate that matters."""


def rate_search(closed_rate: float, *, probes: int, samples: int = 240, samples_max: int = 2400) -> Search:
    """``closed_rate``: requests a second that the closed loop got done at its operating point. The search may go from a
    small share of it to twice as much. Raises ValueError unless it is above 0."""
    if not 0.0 < closed_rate < float("inf"):
        raise ValueError(f"the rate to start from must be above 0, not {closed_rate}")
    rungs = [share * closed_rate for share in RUNGS]
    limits = Limits(probes=probes, most=rungs[-1], samples=samples, samples_max=samples_max)
    scale = Scale(grain=GRAIN * closed_rate, whole=False)
    return Search({MISSES: 1.0 - TARGET_ATTAINMENT}, limits, rungs, scale=scale)
