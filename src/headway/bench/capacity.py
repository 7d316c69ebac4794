"""A quick look at how much a server can carry within a promise: closed loop, doubling the number of streams."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from headway.bench.client import Timing, percentile, stream
from headway.policy.slo import Objective

STREAMS_MAX = 128
RAMP_SHARE = 0.3
"""Of each level's time: all streams start at once, and what comes of that start is not counted."""


@dataclass(frozen=True, slots=True)
class Level:
    """What ``streams`` at once gave, once under way: requests ended a second, and p95s in seconds."""

    streams: int
    requests_per_s: float
    ttft_p95_s: float
    itl_p95_s: float

    def keeps(self, objective: Objective) -> bool:
        return (objective.ttft_s is None or self.ttft_p95_s <= objective.ttft_s) and (
            objective.itl_s is None or self.itl_p95_s <= objective.itl_s
        )


async def find_capacity(
    host: str,
    port: int,
    path: str,
    body: Callable[[int], Mapping[str, object]],
    objective: Objective,
    *,
    seconds: float,
    first_streams: int = 1,
    on_level: Callable[[Level], None] = lambda level: None,
) -> float:
    """Requests a second at the best level that keeps to TTFT and ITL; at the first level if none does.

    Each level takes ``seconds``; ``body(i)`` is the request number ``i``. It is an estimate to scale loads by, good to
    10 or 20 %. The server must not refuse requests: raises ``StreamError``, in an exception group, if one fails.
    """
    bodies = (body(number) for number in itertools.count())
    streams, best = first_streams, 0.0
    while streams <= STREAMS_MAX:
        level = await _measure(host, port, path, bodies, streams, seconds)
        on_level(level)
        if best > 0.0 and not (level.keeps(objective) and level.requests_per_s > best):
            break
        best = level.requests_per_s
        streams *= 2
    return best


async def _measure(
    host: str, port: int, path: str, bodies: Iterator[Mapping[str, object]], streams: int, seconds: float
) -> Level:
    start_s = time.perf_counter()
    from_s, to_s = start_s + RAMP_SHARE * seconds, start_s + seconds
    timings: list[Timing] = []

    async def slot() -> None:
        while time.perf_counter() < to_s:
            timings.append(await stream(host, port, path, next(bodies)))

    async with asyncio.TaskGroup() as group:
        for _ in range(streams):
            group.create_task(slot())
    # Tokens rather than requests are counted: streams that started together end together, in waves.
    tokens = sum(from_s <= at_s < to_s for each in timings for at_s in each.tokens_s)
    tokens_a_request = sum(len(each.tokens_s) for each in timings) / len(timings)
    later = [each for each in timings if each.sent_s >= from_s] or timings
    return Level(
        streams=streams,
        requests_per_s=tokens / (to_s - from_s) / tokens_a_request,
        ttft_p95_s=percentile([each.ttft_s for each in later], 0.95),
        itl_p95_s=percentile([gap_s for each in timings for gap_s in each.gaps_s] or [0.0], 0.95),
    )
