"""A quick look at how much a server can carry within a promise: closed loop, doubling the number of streams."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from headway.bench.body import Dialect
from headway.bench.call import Call
from headway.bench.generate import Options, run_load
from headway.bench.loads import ClosedLoop
from headway.bench.metrics import tokens_between
from headway.bench.record import Record
from headway.bench.target import Target
from headway.bench.verdict import Quantiles
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


class CapacityError(Exception):
    """The server refused or failed a request, so that nothing can be told. One line."""


async def find_capacity(
    target: Target,
    calls: Iterator[Call],
    objective: Objective,
    *,
    seconds: float,
    first_streams: int = 1,
    dialect: Dialect | None = None,
    on_level: Callable[[Level], None] = lambda level: None,
) -> float:
    """Requests a second at the best level that keeps to TTFT and ITL; at the first level if none does.

    Each level takes ``seconds``. It is an estimate to scale loads by, good to 10 or 20 %. Raises ``CapacityError``.
    """
    streams, best = first_streams, 0.0
    options = Options(dialect=dialect or Dialect())
    while streams <= STREAMS_MAX:
        level = await _measure(target, calls, ClosedLoop(concurrency=streams, seconds=seconds, ramp_s=0.0), options)
        on_level(level)
        if best > 0.0 and not (level.keeps(objective) and level.requests_per_s > best):
            break
        best = level.requests_per_s
        streams *= 2
    return best


async def _measure(target: Target, calls: Iterator[Call], load: ClosedLoop, options: Options) -> Level:
    records: list[Record] = []
    await run_load(target, calls, load, on_record=records.append, stop=asyncio.Event(), options=options)
    for each in records:
        if not each.is_ok:
            raise CapacityError(f"a request failed ({each.outcome.value}): {each.error}")
    from_s, to_s = RAMP_SHARE * load.seconds, load.seconds
    # Tokens rather than requests are counted: streams that started together end together, in waves.
    tokens = sum(tokens_between(each, from_s, to_s) for each in records)
    tokens_a_request = sum(sum(each.chunk_tokens) for each in records) / len(records)
    later = [each for each in records if each.intended_s >= from_s] or records
    return Level(
        streams=load.concurrency,
        requests_per_s=tokens / (to_s - from_s) / tokens_a_request,
        ttft_p95_s=Quantiles.of([each.ttft_s for each in later if each.ttft_s is not None]).p95_s,
        itl_p95_s=Quantiles.of([gap_s for each in records for gap_s in each.gaps_s()]).p95_s,
    )
