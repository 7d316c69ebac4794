"""The client sees what was said, whole or broken, and when."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable

import pytest

from headway.bench.client import Refused, Reply, StreamError, exchange, percentile, stream
from tests.bench.scripted_server import (
    DONE,
    HOST,
    LAST_CHUNK,
    STREAM_HEAD,
    Asked,
    chunk,
    error,
    scripted_server,
    token,
    whole,
)

GIVE_UP_S = 20.0


def ask(answer: Callable[[Asked], Awaitable[None]], **options: object) -> Reply:
    async def run() -> Reply:
        async with scripted_server(answer) as server:
            call = exchange(HOST, server.port, "/v1/completions", {"prompt": "hi"}, **options)  # type: ignore[arg-type]
            return await asyncio.wait_for(call, GIVE_UP_S)

    return asyncio.run(run())


def saying(data: bytes) -> Callable[[Asked], Awaitable[None]]:
    async def answer(asked: Asked) -> None:
        await asked.send(data)

    return answer


def test_a_whole_stream() -> None:
    seen: list[Asked] = []
    texts: list[str] = []

    async def answer(asked: Asked) -> None:
        seen.append(asked)
        first, second = chunk(token("a", service_tier="priority")), chunk(token("b", service_tier="priority"))
        await asked.send(STREAM_HEAD + first + second + chunk(DONE) + LAST_CHUNK)

    reply = ask(answer, headers={"x-slo-ttft-ms": "250"}, on_text=texts.append)
    assert (reply.status, reply.error, reply.service_tier) == (200, None, "priority")
    assert reply.headers["content-type"] == "text/event-stream"
    assert texts == ["a", "b"]
    assert reply.timing.sent_s <= reply.timing.tokens_s[0] <= reply.timing.tokens_s[1] <= reply.ended_s
    assert seen[0].headers["x-slo-ttft-ms"] == "250"
    assert seen[0].body == {"prompt": "hi", "stream": True}


def test_events_may_come_in_any_pieces() -> None:
    async def answer(asked: Asked) -> None:
        data = token("a") + b": ping\n\n" + token("b") + DONE
        await asked.send(STREAM_HEAD)
        for at in range(len(data)):
            await asked.send(chunk(data[at : at + 1]))
        await asked.send(LAST_CHUNK)

    reply = ask(answer)
    assert reply.error is None
    assert len(reply.timing.tokens_s) == 2


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        (("Retry-After: 2", "Retry-After-Ms: 1500"), 1.5),
        (("retry-after: 3",), 3.0),
        (("retry-after: Wed, 21 Oct 2026 07:28:00 GMT",), None),
        ((), None),
    ],
)
def test_a_refusal_tells_when_to_come_back(headers: tuple[str, ...], wait_s: float | None) -> None:
    reply = ask(saying(error(429, "too busy", *headers)))
    assert (reply.status, reply.error, reply.code, reply.retry_after_s) == (429, "too busy", "overloaded", wait_s)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (STREAM_HEAD + chunk(token("a")), "ended early"),  # cut off
        (STREAM_HEAD + chunk(token("a")) + LAST_CHUNK, "ended early"),  # an end without [DONE]
        (STREAM_HEAD + chunk(DONE) + LAST_CHUNK, "ended early"),  # no text
        (STREAM_HEAD + chunk(token("a") + b'data: {"error": {"message": "lost"}}\n\n'), "lost"),
        (STREAM_HEAD + chunk(token("a") + b"data: {\n\n"), "not an event"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "not HTTP"),
        (b"HTTP/1.1 502 Bad\r\ncontent-length: 3\r\n\r\nbad", "bad"),
        (b"", "ended early"),
    ],
)
def test_what_is_broken_says_so_and_keeps_what_came(data: bytes, words: str) -> None:
    reply = ask(saying(data))
    assert words in (reply.error or "")
    assert len(reply.timing.tokens_s) == data.count(b'"text"')


def test_it_hangs_up_when_it_is_to_give_up() -> None:
    async def answer(asked: Asked) -> None:
        await asked.send(STREAM_HEAD + chunk(token("a")))
        await asyncio.Event().wait()

    reply = ask(answer, give_up_s=0.0)
    assert "given up" in (reply.error or "")


def test_nobody_listens() -> None:
    with socket.create_server((HOST, 0)) as closed:
        port = closed.getsockname()[1]
    reply = asyncio.run(exchange(HOST, port, "/", {}))
    assert reply.status is None
    assert reply.error


def test_stream_raises_what_exchange_records() -> None:
    async def run(data: bytes) -> None:
        async with scripted_server(saying(data)) as server:
            await stream(HOST, server.port, "/", {})

    asyncio.run(run(whole("a")))
    with pytest.raises(Refused, match="status 429: too busy") as refusal:
        asyncio.run(run(error(429, "too busy", "retry-after: 3", "x-should-retry: true")))
    assert refusal.value.status == 429
    assert refusal.value.retry_after_s == 3.0
    assert refusal.value.headers["x-should-retry"] == "true"
    with pytest.raises(StreamError, match="ended early"):
        asyncio.run(run(STREAM_HEAD))


def test_percentiles_are_of_nearest_rank() -> None:
    values = [float(value) for value in range(1, 21)]
    assert [percentile(values, share) for share in (0.0, 0.5, 0.95, 1.0)] == [1.0, 10.0, 19.0, 20.0]
