"""The capacity found is that of the best level that kept the promise."""

from __future__ import annotations

import asyncio

from headway.bench.capacity import Level, find_capacity
from headway.policy.slo import Objective
from tests.fakes import ScriptedExecutor
from tests.http_client import COMPLETIONS, completion
from tests.running_server import HOST, running_server


def levels_of(objective: Objective, seconds: float) -> tuple[list[Level], float]:
    levels: list[Level] = []
    with running_server(ScriptedExecutor(step_s=0.005)) as server:
        body = completion(max_tokens=8, ignore_eos=True)
        call = find_capacity(
            HOST, server.port, COMPLETIONS, lambda number: body, objective, seconds=seconds, on_level=levels.append
        )
        best = asyncio.run(call)
    return levels, best


def test_it_grows_while_it_pays() -> None:
    levels, best = levels_of(Objective(ttft_s=10.0, itl_s=10.0), seconds=0.15)
    assert [level.streams for level in levels] == [2**power for power in range(len(levels))]
    assert len(levels) >= 2
    assert best == max(level.requests_per_s for level in levels) > levels[0].requests_per_s


def test_it_stops_at_the_promise() -> None:
    levels, best = levels_of(Objective(itl_s=1e-6), seconds=0.1)
    assert [level.streams for level in levels] == [1, 2]
    assert best == levels[0].requests_per_s > 0.0
