"""When requests arrive: renewal processes with a given rate and burstiness, the same for the same seed."""

from __future__ import annotations

import random

ARRIVALS_MAX = 1_000_000


def arrivals(rate: float, seconds: float, *, seed: int, cv: float = 1.0) -> list[float]:
    """Times from 0 up to ``seconds``, ascending; ``rate`` a second on average, which a short run may miss by far.

    The gaps between arrivals follow a gamma distribution whose standard deviation is ``cv`` times its mean: 1 is a
    Poisson process, above it arrivals come in bursts. Raises ValueError for what can't be meant.
    """
    if not (rate > 0.0 and seconds > 0.0 and cv > 0.0):
        raise ValueError(f"rate, seconds and cv must be above 0, not {rate}, {seconds} and {cv}")
    if rate * seconds > ARRIVALS_MAX:
        raise ValueError(f"{rate:g} a second for {seconds:g} s are more than {ARRIVALS_MAX} arrivals")
    rng = random.Random(seed)
    shape = 1.0 / (cv * cv)
    times: list[float] = []
    now_s = rng.gammavariate(shape, 1.0 / (rate * shape))
    while now_s < seconds:
        times.append(now_s)
        now_s += rng.gammavariate(shape, 1.0 / (rate * shape))
    return times
