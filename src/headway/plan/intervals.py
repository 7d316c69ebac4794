"""How far a simulated value can be told from a few draws of the load: 90 % intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean, stdev

from headway.plan.outcome import Figure

_T = (6.314, 2.920, 2.353, 2.132, 2.015, 1.943, 1.895, 1.860, 1.833, 1.812, 1.796, 1.782, 1.771, 1.761, 1.753)
"""Student's t for 90 %, two-sided, by degrees of freedom from 1 on."""
_T_BEYOND = 1.74
_Z = 1.645


def over_seeds(values: Sequence[float], most: float = math.inf) -> Figure:
    """The mean of one value a seed, none of which can be below 0 or above ``most``."""
    mean = fmean(values)
    if len(values) == 1:
        return Figure(mean)
    freedom = len(values) - 1
    half = (_T[freedom - 1] if freedom <= len(_T) else _T_BEYOND) * stdev(values) / math.sqrt(len(values))
    return Figure(mean, max(0.0, mean - half), min(most, mean + half))


def share(good: int, of: int) -> Figure:
    """A share of independent requests (Wilson)."""
    if not of:
        return Figure(1.0)
    found, z2 = good / of, _Z * _Z
    centre = (found + z2 / (2 * of)) / (1 + z2 / of)
    half = _Z * math.sqrt(found * (1 - found) / of + z2 / (4 * of * of)) / (1 + z2 / of)
    return Figure(found, max(0.0, centre - half), min(1.0, centre + half))


def attainment(shares: Sequence[tuple[int, int]]) -> Figure:
    """Of requests in SLO and offered, one pair a seed. The wider of what requests and what seeds say: bursts make the
    requests of one seed hang together."""
    good, of = (sum(column) for column in zip(*shares, strict=True))
    pooled = share(good, of)
    if len(shares) == 1 or not of:
        return pooled
    seeds = over_seeds([one / all_ if all_ else 1.0 for one, all_ in shares], 1.0)
    lows = [each.low for each in (pooled, seeds) if each.low is not None]
    highs = [each.high for each in (pooled, seeds) if each.high is not None]
    return Figure(pooled.value, min(lows), max(highs))
