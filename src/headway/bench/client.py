"""A lean streaming client: one connection a request, times taken when the socket is read, before anything is parsed.

    exchange     one request, whatever comes of it: a ``Reply``, never an exception for what the server did
    stream       one request that is expected to succeed: raises ``Refused`` or ``StreamError`` if it doesn't
    closed_loop  many of those, a fixed number at a time

One event with text is counted as one token, which holds for Headway's own server: it sends one event a token. (A token
that ends in the middle of a character has no text of its own and is not seen.)
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import cast

import httptools
import msgspec

HTTP_OK = 200
HTTP_TOO_MANY_REQUESTS = 429
ERROR_BYTES_MAX = 64 * 1024
"""Most that is kept of a body that is not a stream, and of a line that does not end."""


@dataclass(slots=True)
class Timing:
    """One streamed request: when it was sent and when each token came (seconds, ``time.perf_counter``)."""

    sent_s: float
    tokens_s: list[float] = field(default_factory=list)

    @property
    def ttft_s(self) -> float:
        return self.tokens_s[0] - self.sent_s

    @property
    def gaps_s(self) -> list[float]:
        return [later - earlier for earlier, later in zip(self.tokens_s, self.tokens_s[1:], strict=False)]


@dataclass(slots=True)
class Reply:
    """What came of one request. ``error`` says why it is not whole; None: it is. ``code`` is the server's word for it.

    ``status`` is None if no reply began. Names of ``headers`` are in lower case. ``service_tier`` is the one served.
    """

    timing: Timing
    ended_s: float = 0.0
    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    service_tier: str | None = None
    error: str | None = None
    code: str | None = None

    @property
    def retry_after_s(self) -> float | None:
        """When the server would have the request again, in seconds from its answer; None if it doesn't say."""
        for name, unit_s in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
            try:
                return float(self.headers[name]) * unit_s
            except (KeyError, ValueError):  # it may also be a date, which nobody here sends
                continue
        return None


class StreamError(Exception):
    """The stream broke off, or said that it failed. The message has what the server said."""


class Refused(StreamError):
    """The server answered with another status than 200."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(f"status {reply.status}: {reply.error}")
        self.status = reply.status
        self.headers = reply.headers
        self.retry_after_s = reply.retry_after_s


async def exchange(
    host: str,
    port: int,
    path: str,
    body: Mapping[str, object],
    *,
    headers: Mapping[str, str] | None = None,
    on_text: Callable[[str], None] | None = None,
    give_up_s: float | None = None,
) -> Reply:
    """POST ``body`` to ``path`` and read the stream to its end, or to ``give_up_s`` (absolute): then it is hung up.

    ``on_text`` gets each piece of text as it comes. Whatever goes wrong is the reply's ``error``.
    """
    reply = Reply(Timing(time.perf_counter()))
    payload = msgspec.json.encode({**body, "stream": True})
    fields = {"host": f"{host}:{port}", "content-type": "application/json", "connection": "close", **(headers or {})}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    request = f"POST {path} HTTP/1.1\r\n{head}content-length: {len(payload)}\r\n\r\n".encode("latin-1") + payload
    loop = asyncio.get_running_loop()
    left_s = None if give_up_s is None else max(0.0, give_up_s - time.perf_counter())
    transport: asyncio.BaseTransport | None = None
    try:
        async with asyncio.timeout(left_s):
            transport, protocol = await loop.create_connection(
                lambda: _StreamProtocol(reply, request, loop.create_future(), on_text), host, port
            )
            await protocol.ended
    except TimeoutError:
        reply.error = "given up: the reply was not whole in time"
    except OSError as error:
        reply.error = str(error)
    finally:
        if transport is not None:
            cast(asyncio.Transport, transport).abort()
    reply.ended_s = time.perf_counter()
    return reply


async def stream(
    host: str,
    port: int,
    path: str,
    body: Mapping[str, object],
    on_text: Callable[[str], None] | None = None,
    *,
    headers: Mapping[str, str] | None = None,
) -> Timing:
    """One request that is expected to succeed. ``on_text`` gets each piece of text as it comes.

    Raises ``Refused`` unless the status is 200, and ``StreamError`` unless some text came and the end was the end.
    """
    reply = await exchange(host, port, path, body, headers=headers, on_text=on_text)
    if reply.status is not None and reply.status != HTTP_OK:
        raise Refused(reply)
    if reply.error is not None:
        raise StreamError(reply.error)
    return reply.timing


async def closed_loop(
    host: str, port: int, path: str, bodies: Iterable[Mapping[str, object]], concurrency: int
) -> list[Timing]:
    """Send all bodies, ``concurrency`` at a time: a slot sends its next request when its last one has ended."""
    waiting = iter(bodies)
    timings: list[Timing] = []

    async def slot() -> None:
        for body in waiting:
            timings.append(await stream(host, port, path, body))

    async with asyncio.TaskGroup() as group:
        for _ in range(concurrency):
            group.create_task(slot())
    return timings


def percentile(values: list[float], share: float) -> float:
    """The smallest value that at least ``share`` (0 to 1) of the values do not exceed."""
    rank = math.ceil(share * len(values) - 1e-9)  # 0.95 * 20 is a little more than 19 in binary
    return sorted(values)[max(rank, 1) - 1]


class _Delta(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    text: str | None = None
    delta: _Delta | None = None


class _Event(msgspec.Struct):
    choices: list[_Choice] = []
    error: dict[str, object] | None = None
    service_tier: str | None = None


_decode = msgspec.json.Decoder(_Event).decode


class _StreamProtocol(asyncio.Protocol):
    """Sends one request and fills its ``Reply``; ``ended`` is done when no more will come, for better or worse."""

    def __init__(
        self, reply: Reply, request: bytes, ended: asyncio.Future[None], on_text: Callable[[str], None] | None
    ) -> None:
        self.ended = ended
        self._reply = reply
        self._request = request
        self._on_text = on_text
        self._parser = httptools.HttpResponseParser(self)
        self._now_s = 0.0
        self._rest = b""
        self._done_seen = False

    # ---- the socket --------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._reply.timing.sent_s = time.perf_counter()
        cast(asyncio.Transport, transport).write(self._request)

    def data_received(self, data: bytes) -> None:
        self._now_s = time.perf_counter()
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._end(f"not HTTP: {error}")

    def connection_lost(self, error: Exception | None) -> None:
        self._end("the stream ended early" if error is None else str(error))

    # ---- the parser --------------------------------------------------------------------------------------------------

    def on_header(self, name: bytes, value: bytes) -> None:
        self._reply.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        self._reply.status = self._parser.get_status_code()

    def on_body(self, data: bytes) -> None:
        data = self._rest + data if self._rest else data
        if self._reply.status != HTTP_OK:
            self._rest = data[:ERROR_BYTES_MAX]
            return
        *lines, rest = data.split(b"\n")
        self._rest = rest[:ERROR_BYTES_MAX]
        for line in lines:
            if line.startswith(b"data: "):
                self._take_event(line[6:])

    def on_message_complete(self) -> None:
        if self._reply.status != HTTP_OK:
            self._end_refused()
        elif not self._done_seen or not self._reply.timing.tokens_s:
            self._end("the stream ended early")
        else:
            self._end(None)

    def _take_event(self, data: bytes) -> None:
        if data == b"[DONE]":
            self._done_seen = True
            return
        try:
            event = _decode(data)
        except msgspec.DecodeError as error:
            self._end(f"not an event: {error}")
            return
        if event.error is not None:
            self._end_with(event.error)
        self._reply.service_tier = event.service_tier
        text = "".join(each.text or (each.delta and each.delta.content) or "" for each in event.choices)
        if text:
            self._reply.timing.tokens_s.append(self._now_s)
            if self._on_text is not None:
                self._on_text(text)

    def _end_refused(self) -> None:
        """The body says why, if it is an error of the API's form; else the body is all there is to say."""
        try:
            error = _decode(self._rest).error
        except msgspec.DecodeError:
            error = None
        self._end_with(error or {"message": self._rest.decode(errors="replace")})

    def _end_with(self, error: dict[str, object]) -> None:
        code = error.get("code")
        self._reply.code = None if code is None else str(code)
        self._end(str(error.get("message", error)))

    def _end(self, error: str | None) -> None:
        """Only the first end counts."""
        if not self.ended.done():
            self._reply.error = error
            self.ended.set_result(None)
