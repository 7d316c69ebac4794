"""An HTTP server on the test's own event loop that answers exactly what a test says, one request a connection."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

HOST = "127.0.0.1"

STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
DONE = b"data: [DONE]\n\n"
LAST_CHUNK = b"0\r\n\r\n"


@dataclass(frozen=True)
class Asked:
    """A request as it came in. ``send`` writes raw bytes at once."""

    headers: dict[str, str]
    body: dict[str, Any]
    send: Callable[[bytes], Awaitable[None]]


@dataclass
class ScriptedServer:
    port: int = 0
    open: int = 0
    open_max: int = 0
    closed: asyncio.Event = field(default_factory=asyncio.Event)
    """Set whenever a connection has been closed."""


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def token(text: str, **fields: object) -> bytes:
    return b"data: " + json.dumps({"choices": [{"index": 0, "text": text}], **fields}).encode() + b"\n\n"


def whole(*texts: str) -> bytes:
    """A complete reply with a token for each text."""
    return STREAM_HEAD + b"".join(chunk(token(text)) for text in texts) + chunk(DONE) + LAST_CHUNK


def error(status: int, message: str, *headers: str, code: str = "overloaded") -> bytes:
    body = json.dumps({"error": {"message": message, "type": "an_error", "param": None, "code": code}}).encode()
    lines = "".join(f"{each}\r\n" for each in (f"HTTP/1.1 {status} No", f"content-length: {len(body)}", *headers))
    return lines.encode() + b"\r\n" + body


@contextlib.asynccontextmanager
async def scripted_server(answer: Callable[[Asked], Awaitable[None]]) -> AsyncIterator[ScriptedServer]:
    """Runs ``answer`` for each request, then closes its connection; also once the client has left."""
    state = ScriptedServer()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        state.open += 1
        state.open_max = max(state.open_max, state.open)
        try:
            with contextlib.suppress(ConnectionError):
                await _one(reader, writer, answer)
        finally:
            state.open -= 1
            state.closed.set()
            writer.close()

    server = await asyncio.start_server(serve, HOST, 0)
    async with server:
        state.port = server.sockets[0].getsockname()[1]
        yield state


async def _one(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answer: Callable[[Asked], Awaitable[None]]
) -> None:
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in head[1:] if line)
    body = json.loads(await reader.readexactly(int(headers["content-length"])))

    async def send(data: bytes) -> None:
        writer.write(data)
        await writer.drain()

    answering = asyncio.ensure_future(answer(Asked(headers, body, send)))
    leaving = asyncio.ensure_future(reader.read())
    try:
        await asyncio.wait({answering, leaving}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        leaving.cancel()
        answering.cancel()
        await asyncio.gather(answering, leaving, return_exceptions=True)
