"""Where a measured curve crosses its target: values only grow with load, each is known to within its own noise."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

NEAR = 1.35
"""Points within this factor of the crossing are close enough for a straight line (of logarithms) to go through them."""
NEAR_LEAST = 3
EXCESS_MAX = 8.0
"""Values further beyond the target say no more about where it was crossed."""
SLACK_MIN = 0.02
"""Nor do values further below it."""


@dataclass(frozen=True, slots=True)
class Point:
    """``deviation``: relative standard deviation of ``value``."""

    load: float
    value: float
    deviation: float


def isotonic(values: Sequence[float], weights: Sequence[float]) -> list[float]:
    """The non-decreasing sequence nearest to ``values`` (weighted least squares, pool adjacent violators)."""
    pools: list[tuple[float, float, int]] = []  # value, weight, how many
    for value, weight in zip(values, weights, strict=True):
        pools.append((value, weight, 1))
        while len(pools) > 1 and pools[-2][0] > pools[-1][0]:
            (before, before_weight, before_count), (last, last_weight, last_count) = pools[-2:]
            both = before_weight + last_weight
            merged = (before * before_weight + last * last_weight) / both
            pools[-2:] = [(merged, both, before_count + last_count)]
    return [value for value, _, count in pools for _ in range(count)]


def crossing(points: Sequence[Point], target: float) -> float | None:
    """The load at which the value reaches ``target``: between two points, never beyond them. None: it isn't crossed.

    A monotone fit of the logarithms, interpolated; and where at least three points lie close to that, the line through
    those, which has less noise than any two of them.
    """
    known = sorted(points, key=lambda each: each.load)
    logs = [math.log(min(max(each.value / target, SLACK_MIN), EXCESS_MAX)) for each in known]
    weights = [each.deviation**-2 for each in known]
    fitted = isotonic(logs, weights)
    above = next((index for index, value in enumerate(fitted) if value > 0.0), None)
    if above is None or above == 0:
        return None
    low, high = known[above - 1].load, known[above].load
    share = -fitted[above - 1] / (fitted[above] - fitted[above - 1])
    found = low + share * (high - low)
    near = [index for index, each in enumerate(known) if found / NEAR <= each.load <= found * NEAR]
    return found if len(near) < NEAR_LEAST else _through(known, logs, weights, near, found)


def _through(
    known: Sequence[Point], logs: Sequence[float], weights: Sequence[float], near: Sequence[int], found: float
) -> float:
    """Where the weighted line through the points ``near`` crosses 0, if that is among them; else ``found``."""
    total = sum(weights[index] for index in near)
    at = {index: math.log(known[index].load) for index in near}
    mean_x = sum(weights[index] * at[index] for index in near) / total
    mean_y = sum(weights[index] * logs[index] for index in near) / total
    spread = sum(weights[index] * (at[index] - mean_x) ** 2 for index in near)
    slope = sum(weights[index] * (at[index] - mean_x) * (logs[index] - mean_y) for index in near) / spread
    if slope <= 0.0:
        return found
    line = math.exp(min(max(mean_x - mean_y / slope, -700.0), 700.0))
    return line if known[near[0]].load <= line <= known[near[-1]].load else found
