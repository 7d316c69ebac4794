"""The adaptive policy beside static batches: which batches, and what each setting did in the same stretch of time."""

from __future__ import annotations

import math
from collections.abc import Sequence

from headway.bench.metrics import measure
from headway.tune.observe import Measurement, Promise
from headway.tune.result import Compared

STATIC_MAX = 4
"""Static points that are compared with the adaptive policy."""
STATIC_APART = 1.25
"""Times that one is the other, at least."""
COMPARED_RATES = (1.0, 1.25)
"""Of the largest that a static point holds: there, and beyond it."""
FILLING_SHARE_MAX = 0.25
"""Of the time of a level: that much of its beginning is left out at most."""


def spread(batch: int, measured: Sequence[int]) -> list[int]:
    """The batch and those measured around it, the nearest first, but none so near to another that it tells no more."""
    found = [batch]
    for load in sorted(measured, key=lambda load: abs(math.log(load / batch))):
        if len(found) < STATIC_MAX and all(abs(math.log(load / each)) >= math.log(STATIC_APART) for each in found):
            found.append(load)
    return sorted(found)


def common_window(seconds: float, life_s: float) -> tuple[float, float]:
    """Of an open loop of ``seconds``: from one life on, when it has filled up, until the last request is due.

    A level's own steady window depends on how long its requests live. Where they queue up it is all of the level, with
    the time after the load in which the queue drains: a setting would be divided by its own lateness.
    """
    return min(life_s, FILLING_SHARE_MAX * seconds), seconds


def setting_name(batch: int | None) -> str:
    """None: adaptive."""
    return "adaptive" if batch is None else f"static, batch {batch}"


def compared(
    batch: int | None,
    rate: float,
    measurement: Measurement,
    promise: Promise,
    *,
    window_s: tuple[float, float],
    level: int,
) -> Compared:
    """``level``: the number of the measurement's level, which must not be void."""
    figures = measure(measurement.records, window_s, promise.objectives, promise.default)[0]
    ttft, itl = figures.latencies.get("ttft"), figures.latencies.get("itl")
    return Compared(
        setting=setting_name(batch),
        is_adaptive=batch is None,
        rate=rate,
        level=level,
        window_s=window_s,
        attainment=figures.attainment,
        attainment_low=figures.attainment_low,
        attainment_high=figures.attainment_high,
        goodput=figures.goodput,
        throughput=figures.throughput,
        ttft_p95_s=None if ttft is None else ttft.p95,
        itl_p95_s=None if itl is None else itl.p95,
    )
