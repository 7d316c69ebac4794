"""An HTTP server on the test's own event loop that answers exactly what a test says, and notes when it did."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

HOST = "127.0.0.1"

STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
DONE = b"data: [DONE]\n\n"
LAST_CHUNK = b"0\r\n\r\n"


@dataclass(frozen=True)
class Asked:
    """A request as it came in, whole at ``at_s``. ``send`` writes raw bytes at once, and returns when it did."""

    headers: dict[str, str]
    body: dict[str, Any]
    send: Callable[[bytes], Awaitable[float]]
    path: str = "/"
    at_s: float = field(default_factory=time.perf_counter)


@dataclass
class ScriptedServer:
    port: int = 0
    open: int = 0
    open_max: int = 0
    connections: int = 0
    closed: asyncio.Event = field(default_factory=asyncio.Event)
    """Set whenever a connection has been closed."""


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def token(text: str, **fields: object) -> bytes:
    return b"data: " + json.dumps({"choices": [{"index": 0, "text": text}], **fields}).encode() + b"\n\n"


def said(delta: dict[str, object] | None = None, **fields: object) -> bytes:
    """An event of a chat."""
    choices = (
        [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": fields.pop("finish_reason", None)}]
    )
    return b"data: " + json.dumps({"object": "chat.completion.chunk", "choices": choices, **fields}).encode() + b"\n\n"


def usage(prompt: int, completion: int) -> dict[str, object]:
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def whole(*texts: str) -> bytes:
    """A complete reply with a token for each text."""
    return STREAM_HEAD + b"".join(chunk(token(text)) for text in texts) + chunk(DONE) + LAST_CHUNK


def error(status: int, message: str, *headers: str, code: str = "overloaded") -> bytes:
    body = json.dumps({"error": {"message": message, "type": "an_error", "param": None, "code": code}}).encode()
    lines = "".join(f"{each}\r\n" for each in (f"HTTP/1.1 {status} No", f"content-length: {len(body)}", *headers))
    return lines.encode() + b"\r\n" + body


@contextlib.asynccontextmanager
async def scripted_server(
    answer: Callable[[Asked], Awaitable[None]], *, requests_a_connection: int = 1, tls: ssl.SSLContext | None = None
) -> AsyncIterator[ScriptedServer]:
    """Runs ``answer`` for each request, and closes a connection after so many of them, or once the client has left."""
    state = ScriptedServer()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        state.connections += 1
        state.open += 1
        state.open_max = max(state.open_max, state.open)
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                for _ in range(requests_a_connection):
                    if not await _one(reader, writer, answer):
                        break
        finally:
            state.open -= 1
            state.closed.set()
            writer.close()

    server = await asyncio.start_server(serve, HOST, 0, ssl=tls, backlog=1024)
    async with server:
        state.port = server.sockets[0].getsockname()[1]
        yield state


async def _one(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answer: Callable[[Asked], Awaitable[None]]
) -> bool:
    """False once the client has left, or ``answer`` has raised to hang up."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in head[1:] if line)
    body = json.loads(await reader.readexactly(int(headers["content-length"])))

    async def send(data: bytes) -> float:
        at_s = time.perf_counter()
        writer.write(data)
        await writer.drain()
        return at_s

    answering = asyncio.ensure_future(answer(Asked(headers, body, send, path=head[0].split()[1])))
    leaving = asyncio.ensure_future(_left(reader))
    try:
        await asyncio.wait({answering, leaving}, return_when=asyncio.FIRST_COMPLETED)
        return answering.done() and answering.exception() is None
    finally:
        leaving.cancel()
        answering.cancel()
        await asyncio.gather(answering, leaving, return_exceptions=True)


async def _left(reader: asyncio.StreamReader) -> None:
    """Returns when the client closes its side; it sends nothing while it waits for an answer."""
    while True:
        await asyncio.sleep(0.005)  # reading would take the next request from a connection that is kept
        if reader.at_eof():
            return
