"""The largest load that a policy keeps its promise at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from headway.policy.slo import TARGET_ATTAINMENT

WIDENINGS_MAX = 12
"""How often either bound is doubled or halved before the search gives up on it."""


@dataclass(frozen=True, slots=True)
class Capacity:
    """``rate``: the largest one tried that was kept, 0 if none was. ``tried``: rates and their attainment, in order."""

    rate: float
    attainment: float
    tried: tuple[tuple[float, float], ...]


def capacity(
    attainment_at: Callable[[float], float],
    low: float,
    high: float,
    *,
    target: float = TARGET_ATTAINMENT,
    tolerance: float = 0.02,
) -> Capacity:
    """Search the largest rate whose attainment is at least ``target``, to a relative ``tolerance``.

    Attainment is taken to fall as the rate grows, nearly; use the same seeds at every rate, so that two rates differ in
    nothing else. Where ``low`` fails or ``high`` holds, the bounds are moved first.
    """
    if not 0.0 < low < high:
        raise ValueError(f"the bounds must be above 0 and in order, not {low} and {high}")
    tried: list[tuple[float, float]] = []

    def holds(rate: float) -> bool:
        tried.append((rate, attainment_at(rate)))
        return tried[-1][1] >= target

    low, high = _bracket(holds, low, high)
    while low > 0.0 and high > low * (1.0 + tolerance):
        middle = (low * high) ** 0.5
        if holds(middle):
            low = middle
        else:
            high = middle
    return Capacity(low, dict(tried).get(low, 0.0), tuple(tried))


def _bracket(holds: Callable[[float], bool], low: float, high: float) -> tuple[float, float]:
    """A rate that holds (0 if none was found) and one that does not (the same twice if all hold)."""
    if holds(low):
        for _ in range(WIDENINGS_MAX):
            if not holds(high):
                return low, high
            low, high = high, 2.0 * high
        return low, low
    for _ in range(WIDENINGS_MAX):
        low, high = low / 2.0, low
        if holds(low):
            return low, high
    return 0.0, high
