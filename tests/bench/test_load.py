"""Open loop: nobody waits for anybody, and a late client does not look like a fast server."""

from __future__ import annotations

import asyncio

import pytest

from headway.bench.load import LoadRun, TimedRequest, open_loop
from tests.bench.scripted_server import HOST, Asked, ScriptedServer, error, scripted_server, whole
from tests.fakes import ScriptedExecutor
from tests.http_client import COMPLETIONS, completion
from tests.running_server import running_server

WAIT_S = 20.0


def at(*times_s: float) -> list[TimedRequest]:
    return [TimedRequest(at_s, {"number": number}) for number, at_s in enumerate(times_s)]


async def load(server: ScriptedServer, requests: list[TimedRequest], **options: float) -> LoadRun:
    return await asyncio.wait_for(open_loop(HOST, server.port, "/", requests, **options), WAIT_S)  # type: ignore[arg-type]


def test_a_request_does_not_wait_for_the_one_before() -> None:
    async def run() -> LoadRun:
        last_came = asyncio.Event()

        async def answer(asked: Asked) -> None:
            if asked.body["number"] == 2:
                last_came.set()
            await last_came.wait()  # in closed loop nobody would ever be answered
            await asked.send(whole("a", "b"))

        async with scripted_server(answer) as server:
            return await load(server, at(0.02, 0.0, 0.01))

    run_ = asyncio.run(run())
    assert [outcome.request.at_s for outcome in run_.outcomes] == [0.0, 0.01, 0.02]
    assert [outcome.reply.error for outcome in run_.outcomes] == [None] * 3
    assert run_.tokens == 6
    assert run_.cpu_s > 0.0


def test_times_count_from_when_it_was_meant_to_be_sent() -> None:
    """With one connection for four requests, the later ones are late, and their times say so."""

    async def run() -> tuple[LoadRun, ScriptedServer]:
        async def answer(asked: Asked) -> None:
            await asked.send(whole("a"))

        async with scripted_server(answer) as server:
            return await load(server, at(0.0, 0.0, 0.0, 0.0), sockets_max=1), server

    run_, server = asyncio.run(run())
    assert server.open_max == 1
    for outcome in run_.outcomes:
        assert outcome.ttft_s is not None
        assert outcome.ttft_s == pytest.approx(outcome.slip_s + outcome.reply.timing.ttft_s)
        assert outcome.e2e_s == outcome.waited_s == outcome.ttft_s
    slips = [outcome.slip_s for outcome in run_.outcomes]
    assert slips == sorted(slips)
    assert run_.slip_s(1.0) == slips[-1] > slips[0] >= 0.0


def test_refused_and_broken_are_told_apart() -> None:
    async def run() -> LoadRun:
        async def answer(asked: Asked) -> None:
            never = error(400, "too long for its promise", code="objective_impossible")
            replies = (whole("a"), error(429, "busy", "retry-after: 1"), error(503, "starting"), b"", never)
            await asked.send(replies[asked.body["number"]])

        async with scripted_server(answer) as server:
            return await load(server, at(0.0, 0.0, 0.0, 0.0, 0.0))

    outcomes = asyncio.run(run()).outcomes
    assert [outcome.refused for outcome in outcomes] == [False, True, False, False, True]
    assert [outcome.reply.status for outcome in outcomes] == [200, 429, 503, None, 400]
    assert outcomes[1].reply.retry_after_s == 1.0
    assert outcomes[3].ttft_s is outcomes[3].e2e_s is None


def test_what_is_not_answered_in_the_end_is_hung_up_on() -> None:
    async def run() -> LoadRun:
        async def answer(asked: Asked) -> None:
            await asyncio.Event().wait()

        async with scripted_server(answer) as server:
            result = await load(server, at(0.0, 0.01), drain_s=0.05)
            while server.open:
                server.closed.clear()
                await asyncio.wait_for(server.closed.wait(), WAIT_S)
            return result

    for outcome in asyncio.run(run()).outcomes:
        assert "given up" in (outcome.reply.error or "")
        assert outcome.ttft_s is None
        assert outcome.waited_s >= 0.05


def test_no_load_at_all() -> None:
    async def answer(asked: Asked) -> None:
        raise AssertionError

    async def run() -> LoadRun:
        async with scripted_server(answer) as server:
            return await load(server, [])

    run_ = asyncio.run(run())
    assert run_.outcomes == ()
    assert run_.slip_s(0.99) == 0.0


def test_a_real_server() -> None:
    body = completion(max_tokens=8, service_tier="default")
    with running_server(ScriptedExecutor(step_s=0.001)) as server:
        requests = [TimedRequest(0.002 * number, body) for number in range(20)]
        run_ = asyncio.run(open_loop(HOST, server.port, COMPLETIONS, requests))
    assert [outcome.reply.error for outcome in run_.outcomes] == [None] * 20
    assert run_.tokens == 160
    assert {outcome.reply.service_tier for outcome in run_.outcomes} == {"default"}
