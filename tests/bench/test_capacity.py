"""The capacity found is that of the best level that kept the promise."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from headway.bench.call import Call
from headway.bench.capacity import CapacityError, Level, find_capacity
from headway.bench.target import Target
from headway.policy.slo import Objective
from tests.bench.scripted_server import Asked, error, scripted_server
from tests.fakes import ScriptedExecutor
from tests.running_server import HOST, MODEL, running_server


def levels_of(objective: Objective, seconds: float) -> tuple[list[Level], float]:
    levels: list[Level] = []
    with running_server(ScriptedExecutor(step_s=0.005)) as server:
        target = Target(host=HOST, port=server.port, api="completions", model=MODEL)
        calls = itertools.repeat(Call(prompt="hello", max_tokens=8, tier="flex"))
        best = asyncio.run(find_capacity(target, calls, objective, seconds=seconds, on_level=levels.append))
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


def test_a_server_that_refuses_can_not_be_told() -> None:
    async def answer(asked: Asked) -> None:
        await asked.send(error(429, "busy"))

    async def run() -> None:
        async with scripted_server(answer) as server:
            target = Target(host=HOST, port=server.port)
            await find_capacity(target, itertools.repeat(Call(prompt="hi")), Objective(), seconds=0.05)

    with pytest.raises(CapacityError, match=r"failed \(refused\): status 429: busy"):
        asyncio.run(run())
