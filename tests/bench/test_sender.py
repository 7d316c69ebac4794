"""One request over a real socket: what is sent, what is kept open, and how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import socket
import ssl
import struct
import subprocess
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
import uvloop

from headway.bench import wire
from headway.bench.body import PLAIN, Dialect, body_of, next_call
from headway.bench.call import Call, Turn
from headway.bench.record import Outcome, Record
from headway.bench.sender import ReplyError, Sender
from headway.bench.target import Target
from headway.bench.wire import READS_MAX
from tests.bench.scripted_server import (
    DONE,
    HOST,
    LAST_CHUNK,
    STREAM_HEAD,
    Asked,
    ScriptedServer,
    chunk,
    error,
    said,
    scripted_server,
    token,
    usage,
    whole,
)

WAIT_S = 20.0
CALL = Call(prompt="hi", prompt_tokens=1, max_tokens=4)


def target(port: int, **options: str) -> Target:
    return Target(host=HOST, port=port, **options)  # type: ignore[arg-type]


def saying(*replies: bytes) -> Callable[[Asked], Awaitable[None]]:
    turns = iter(replies)

    async def answer(asked: Asked) -> None:
        await asked.send(next(turns))

    return answer


def send(answer: Callable[[Asked], Awaitable[None]], *, timeout_s: float = WAIT_S) -> Record:
    async def run() -> Record:
        async with scripted_server(answer) as server, Sender(target(server.port), timeout_s=timeout_s) as sender:
            return await asyncio.wait_for(sender.send(CALL), WAIT_S)

    return asyncio.run(run())


# ---- what is sent ----------------------------------------------------------------------------------------------------


def test_what_is_sent() -> None:
    seen: list[Asked] = []

    async def answer(asked: Asked) -> None:
        seen.append(asked)
        await asked.send(whole("a"))

    async def run() -> Record:
        call = Call(prompt="hi", max_tokens=7, tier="flex", headers={"x-slo-ttft-ms": "250"}, extra={"seed": 3})
        async with scripted_server(answer) as server, Sender(target(server.port, model="m", key="secret")) as sender:
            return await sender.send(call, index=5)

    assert asyncio.run(run()).index == 5
    (asked,) = seen
    assert asked.path == "/v1/chat/completions"
    assert asked.headers["authorization"] == "Bearer secret"
    assert asked.headers["x-slo-ttft-ms"] == "250"
    assert asked.headers["accept"] == "text/event-stream"
    assert asked.body == {
        "model": "m",
        "messages": [{"role": "user", "content": "hi"}],
        "max_tokens": 7,
        "stream": True,
        "stream_options": {"include_usage": True, "continuous_usage_stats": True},
        "ignore_eos": True,
        "min_tokens": 7,
        "service_tier": "flex",
        "seed": 3,
    }


def test_a_body_may_be_plain_whole_or_of_token_ids() -> None:
    completions = Target(host=HOST, port=1, api="completions")
    ids = Call(prompt=(1, 2), max_tokens=3)
    assert body_of(ids, completions, PLAIN) == {"prompt": (1, 2), "max_tokens": 3, "stream": True}
    body = body_of(ids, completions, Dialect(is_streaming=False))
    assert body == {"prompt": (1, 2), "max_tokens": 3, "ignore_eos": True, "min_tokens": 3}
    with pytest.raises(ValueError, match="token ids are for the completions API"):
        body_of(ids, Target(host=HOST, port=1), PLAIN)
    with pytest.raises(ValueError, match="messages are for the chat API"):
        body_of(Call(messages=({"role": "user", "content": "hi"},)), completions, PLAIN)


def test_the_next_turn_has_all_that_was_said() -> None:
    turns = (Turn(text="and?", tokens=2, max_tokens=9), Turn(text="why?", tokens=3, max_tokens=5))
    second = next_call(Call(prompt="hi", prompt_tokens=1, max_tokens=4, turns=turns), "well", 4)
    third = next_call(second, "so", 1)
    assert (second.max_tokens, third.max_tokens, len(third.turns)) == (9, 5, 0)
    assert (second.prompt_tokens, third.prompt_tokens) == (7, 11)
    assert [each["content"] for each in third.messages] == ["hi", "well", "and?", "so", "why?"]
    assert [each["role"] for each in third.messages] == ["user", "assistant", "user", "assistant", "user"]


# ---- how it ends -----------------------------------------------------------------------------------------------------


BARE_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
FINISHED = said({}, finish_reason="length")


@pytest.mark.parametrize(
    ("data", "outcome", "words"),
    [
        (whole("a"), Outcome.OK, ""),
        (STREAM_HEAD + chunk(token("a")), Outcome.BROKEN, "ended early"),
        (STREAM_HEAD + chunk(token("a")) + chunk(FINISHED), Outcome.BROKEN, "ended early"),  # no last chunk
        (BARE_HEAD + token("a") + FINISHED, Outcome.OK, ""),  # neither [DONE] nor a length: closed where it ends
        (BARE_HEAD + token("a") + FINISHED[:-2], Outcome.OK, ""),
        (BARE_HEAD + token("a"), Outcome.BROKEN, "ended early"),
        (b"", Outcome.BROKEN, "ended early"),
        (b"HTTP/1.1 200 OK\r\ncontent-le", Outcome.BROKEN, "ended early"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", Outcome.MALFORMED, "not HTTP"),
        (b"HTTP/1.1 200 OK\r\nx: " + b"y" * 70_000 + b"\r\n\r\n", Outcome.MALFORMED, ""),
        (b"HTTP/1.1 502 Bad\r\ncontent-length: 3\r\n\r\nbad", Outcome.ERROR, "status 502: bad"),
        (b"HTTP/1.1 502 Bad\r\n\r\nbad", Outcome.ERROR, "status 502: bad"),
        (b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" + whole("a"), Outcome.OK, ""),
        (error(429, "too busy", "retry-after: 2"), Outcome.REFUSED, "status 429: too busy"),
    ],
)
def test_how_it_ends(data: bytes, outcome: Outcome, words: str) -> None:
    record = send(saying(data))
    assert (record.outcome, words in (record.error or "")) == (outcome, True), record.error
    assert len(record.chunk_s) == data.count(b'"text"')
    assert record.sent_s is not None
    assert 0.0 <= record.intended_s <= record.sent_s <= record.ended_s


def test_a_reply_that_takes_too_long_is_hung_up_on() -> None:
    async def answer(asked: Asked) -> None:
        await asked.send(STREAM_HEAD + chunk(token("a")))
        await asyncio.Event().wait()

    record = send(answer, timeout_s=0.3)
    assert (record.outcome, record.error, len(record.chunk_s)) == (Outcome.TIMEOUT, "not whole within 0.3 s", 1)
    assert record.ended_s >= 0.3


def test_nobody_listens() -> None:
    with socket.create_server((HOST, 0)) as closed:
        port = closed.getsockname()[1]

    async def run() -> Record:
        async with Sender(target(port)) as sender:
            return await sender.send(CALL)

    record = asyncio.run(run())
    assert (record.outcome, record.sent_s) == (Outcome.CONNECT, None)
    assert "no connection" in (record.error or "")


def test_a_server_that_accepts_late_counts_as_no_connection() -> None:
    """A full backlog: nobody says no, and nobody answers."""

    async def run() -> Record:
        with socket.create_server((HOST, 0), backlog=0) as deaf:
            address = deaf.getsockname()
            fillers = [socket.socket() for _ in range(4)]
            for each in fillers:
                each.setblocking(False)
                each.connect_ex(address)
            try:
                async with Sender(target(address[1]), timeout_s=0.2) as sender:
                    return await asyncio.wait_for(sender.send(CALL), WAIT_S)
            finally:
                for each in fillers:
                    each.close()

    record = asyncio.run(run())
    assert (record.outcome, record.error) == (Outcome.CONNECT, "no connection within 0.2 s")


def test_what_is_expected_to_succeed_raises() -> None:
    async def run(reply: bytes) -> Record:
        async with scripted_server(saying(reply)) as server, Sender(target(server.port)) as sender:
            return await sender.ask(CALL)

    assert asyncio.run(run(whole("a"))).is_ok
    with pytest.raises(ReplyError, match="refused: status 429: busy"):
        asyncio.run(run(error(429, "busy")))


def test_the_text_of_an_answer_is_that_which_is_visible() -> None:
    texts: list[str] = []
    events = (said({"role": "assistant", "content": ""}), said({"reasoning": "hm"}), said({"content": "a"}))
    reply = STREAM_HEAD + b"".join(chunk(each) for each in (*events, said({"content": "b"}), DONE)) + LAST_CHUNK

    async def run() -> Record:
        async with scripted_server(saying(reply)) as server, Sender(target(server.port)) as sender:
            return await sender.send(CALL, on_text=texts.append)

    assert asyncio.run(run()).is_ok
    assert texts == ["a", "b"]


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 6, 11])
def test_the_end_may_come_in_any_pieces(size: int) -> None:
    """What is kept to be parsed later must not keep the end from being seen."""

    async def answer(asked: Asked) -> None:
        await asked.send(STREAM_HEAD)
        end = chunk(DONE) + LAST_CHUNK
        for piece in (chunk(token("a")), chunk(token("b")), *(end[at : at + size] for at in range(0, len(end), size))):
            await asyncio.sleep(0.002)
            await asked.send(piece)

    record = send(answer, timeout_s=5.0)
    assert (record.outcome, len(record.chunk_s)) == (Outcome.OK, 2)
    assert record.chunk_s[0] < record.chunk_s[1] < record.ended_s


def test_more_events_than_are_kept_for_later_and_an_error_that_nothing_follows() -> None:
    """The error is what happened, and when, though the server says no more and the time runs out."""

    async def answer(asked: Asked) -> None:
        await asked.send(STREAM_HEAD)
        for _ in range(READS_MAX + 5):
            await asyncio.sleep(0.002)
            await asked.send(chunk(token("a")))
        await asked.send(chunk(b'data: {"error": {"message": "lost"}}\n\n'))
        await asyncio.Event().wait()

    record = send(answer, timeout_s=1.0)
    assert (record.outcome, record.error, len(record.chunk_s)) == (Outcome.ERROR, "lost", READS_MAX + 5)
    assert len(set(record.chunk_s)) > READS_MAX
    assert record.ended_s < 0.9


# ---- connections -----------------------------------------------------------------------------------------------------


def exchange_twice(answer: Callable[[Asked], Awaitable[None]], *, kept: int) -> tuple[list[Record], ScriptedServer]:
    async def run() -> tuple[list[Record], ScriptedServer]:
        serving = scripted_server(answer, requests_a_connection=kept)
        async with serving as server, Sender(target(server.port)) as sender:
            return [await asyncio.wait_for(sender.send(CALL), WAIT_S) for _ in range(2)], server

    return asyncio.run(run())


def test_a_connection_is_used_again() -> None:
    records, server = exchange_twice(saying(whole("a"), whole("b")), kept=9)
    assert [each.outcome for each in records] == [Outcome.OK] * 2
    assert server.connections == 1


def test_a_connection_that_was_closed_between_requests_is_no_failure() -> None:
    """The server hangs up on the second request without a word: it is sent again, once, on a new connection."""
    asked_for = 0

    async def answer(asked: Asked) -> None:
        nonlocal asked_for
        asked_for += 1
        if asked_for != 2:
            await asked.send(whole("a"))

    records, server = exchange_twice(answer, kept=2)
    assert [each.outcome for each in records] == [Outcome.OK] * 2
    assert (server.connections, asked_for) == (2, 3)


def test_a_request_is_sent_twice_at_most() -> None:
    asked_for = 0

    async def answer(asked: Asked) -> None:
        nonlocal asked_for
        asked_for += 1
        if asked_for > 1:
            raise ConnectionError("hang up")
        await asked.send(whole("a"))

    records, _ = exchange_twice(answer, kept=2)
    assert [each.outcome for each in records] == [Outcome.OK, Outcome.BROKEN]
    assert asked_for == 3


def test_a_request_that_a_server_drops_after_a_while_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """It had the request, and gave up on it: to ask again in silence would hide that."""
    monkeypatch.setattr(wire, "STALE_S", 0.01)
    asked_for = 0

    async def answer(asked: Asked) -> None:
        nonlocal asked_for
        asked_for += 1
        if asked_for == 1:
            await asked.send(whole("a"))
        else:
            await asyncio.sleep(0.1)

    records, _ = exchange_twice(answer, kept=2)
    assert [each.outcome for each in records] == [Outcome.OK, Outcome.BROKEN]
    assert asked_for == 2


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
@pytest.mark.parametrize("resets", [False, True])
def test_a_server_that_closes_what_it_has_just_accepted(
    new_loop: Callable[[], asyncio.AbstractEventLoop], resets: bool
) -> None:
    """As one does that is full or dying: the connection is gone before anything is sent on it. That is an outcome at
    once, neither the end of the load generator nor a wait until the time-out."""
    closed = threading.Event()

    def serve(listening: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listening.accept()
                if resets:
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                connection.close()
                closed.set()

    async def run(port: int) -> list[Record]:
        loop = asyncio.get_running_loop()

        def block(times: int) -> None:
            """Keeps the loop from running until it is closed, so that the news comes with that of the connection."""
            closed.wait(0.002)
            if times:
                loop.call_soon(block, times - 1)

        records = []
        async with Sender(target(port), timeout_s=WAIT_S) as sender:
            for _ in range(20):
                closed.clear()
                loop.call_soon(block, 4)
                records.append(await sender.send(CALL))
        return records

    with socket.create_server((HOST, 0)) as listening, asyncio.Runner(loop_factory=new_loop) as runner:
        thread = threading.Thread(target=serve, args=(listening,))
        thread.start()
        try:
            records = runner.run(run(listening.getsockname()[1]))
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()
    assert {each.outcome for each in records} <= {Outcome.BROKEN, Outcome.CONNECT}
    assert max(each.ended_s - each.intended_s for each in records) < WAIT_S / 2


def test_a_reply_that_has_begun_is_not_asked_for_again() -> None:
    replies = iter((whole("a"), STREAM_HEAD, whole("b")))

    async def answer(asked: Asked) -> None:
        await asked.send(next(replies))

    records, server = exchange_twice(answer, kept=2)
    assert [each.outcome for each in records] == [Outcome.OK, Outcome.BROKEN]
    assert server.connections == 1


def test_a_connection_that_the_server_wants_closed_is_not_kept() -> None:
    closing = whole("a").replace(b"transfer-encoding", b"connection: close\r\ntransfer-encoding", 1)
    records, server = exchange_twice(saying(closing, whole("b")), kept=9)
    assert [each.outcome for each in records] == [Outcome.OK] * 2
    assert server.connections == 2


def test_giving_up_ends_what_is_under_way_and_what_comes_after() -> None:
    async def run() -> list[Record]:
        begun = asyncio.Event()

        async def answer(asked: Asked) -> None:
            begun.set()
            await asyncio.Event().wait()

        async with scripted_server(answer) as server, Sender(target(server.port)) as sender:
            first = asyncio.ensure_future(sender.send(CALL))
            await asyncio.wait_for(begun.wait(), WAIT_S)
            sender.give_up(Outcome.CUT, "enough")
            return [await asyncio.wait_for(first, WAIT_S), await sender.send(CALL)]

    records = asyncio.run(run())
    assert [(each.outcome, each.error) for each in records] == [(Outcome.CUT, "enough")] * 2
    assert [each.sent_s is None for each in records] == [False, True]


def test_a_cancelled_request_closes_its_connection() -> None:
    async def run() -> None:
        begun = asyncio.Event()

        async def answer(asked: Asked) -> None:
            begun.set()
            await asyncio.Event().wait()

        async with scripted_server(answer) as server, Sender(target(server.port)) as sender:
            sending = asyncio.ensure_future(sender.send(CALL))
            await asyncio.wait_for(begun.wait(), WAIT_S)
            sending.cancel()
            with pytest.raises(asyncio.CancelledError):
                await sending
            await asyncio.wait_for(server.closed.wait(), WAIT_S)

    asyncio.run(run())


def test_https(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    options = f"req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN={HOST} -addext subjectAltName=IP:{HOST}"
    command = ["openssl", *options.split(), "-keyout", str(key), "-out", str(certificate)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("there is no openssl to make a certificate with")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    async def run() -> list[Record]:
        serving = scripted_server(saying(whole("a"), whole("b")), requests_a_connection=9, tls=context)
        async with serving as server, Sender(Target.at(f"https://{HOST}:{server.port}")) as sender:
            return [await asyncio.wait_for(sender.send(CALL), WAIT_S) for _ in range(2)]

    (refused, _) = asyncio.run(run())
    assert refused.outcome is Outcome.CONNECT
    assert "certificate" in (refused.error or "").lower()
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    assert [each.outcome for each in asyncio.run(run())] == [Outcome.OK] * 2


def test_usage_of_a_whole_reply() -> None:
    reply = STREAM_HEAD + b"".join(chunk(each) for each in (token("a"), said(usage=usage(3, 1)), DONE)) + LAST_CHUNK
    record = send(saying(reply))
    assert (record.usage_prompt, record.usage_completion, record.is_counted) == (3, 1, True)
    assert (record.prompt_tokens, record.max_tokens) == (1, 4)


def test_no_socket_left_on_this_machine_is_not_the_servers_fault() -> None:
    """It was told as "no connection", and after twenty of them as a server that went away."""

    async def run() -> Record:
        async with scripted_server(saying()) as server, Sender(target(server.port)) as sender:
            with no_descriptors_left():
                return await sender.send(CALL)

    assert asyncio.run(run()).outcome is Outcome.CLIENT


@contextlib.contextmanager
def no_descriptors_left() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    held: list[int] = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        with contextlib.suppress(OSError):
            while True:
                held.append(os.dup(0))
        yield
    finally:
        for each in held:
            os.close(each)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
