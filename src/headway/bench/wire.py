"""HTTP/1.1 connections to one server, kept alive and used again. Knows sockets, not what replies mean.

What is read from a socket is stamped before anything else is done with it. In the middle of a stream it is then only
kept, and parsed a few dozen reads at a time: in one go that takes half of the processor time.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import time
from typing import Any, cast

import httptools

from headway.bench.events import Reading
from headway.bench.record import Outcome
from headway.bench.target import Target

HEAD_BYTES_MAX = 1 << 16
READS_MAX = 32
READ_BYTES_MAX = 4096
"""Reads that are kept for later: so many, each of at most so many bytes."""
MESSAGE_END = b"\r\n\r\n"
"""How every chunked message ends. A read that ends otherwise, and is no shorter, leaves the message unfinished."""
OWN_LIMITS = (errno.EMFILE, errno.ENFILE, errno.EADDRNOTAVAIL, errno.ENOBUFS, errno.ENOMEM)
"""What the system answers when it is this machine that has nothing left to connect with."""
STALE_S = 0.5
"""A kept connection that was closed before the request reached the server ends within a round trip."""


class Exchange:
    """One request on its way: what is sent, and the reading that gets the reply. ``ended`` is done with the reading's
    end, or with none when a kept connection turned out to be closed already. ``connect_s``: what connecting took."""

    __slots__ = ("connect_s", "connection", "ended", "reading", "request")

    def __init__(self, request: bytes, reading: Reading) -> None:
        self.request = request
        self.reading = reading
        self.connection: _Connection | None = None
        self.connect_s = 0.0
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def give_up(self, outcome: Outcome, error: str) -> None:
        """Hang up, whatever it is at."""
        if self.connection is not None:
            self.connection.parse()
        self.reading.fail(outcome, error, time.perf_counter())
        if self.connection is not None:
            self.connection.abort()
        self.end()

    def end(self) -> None:
        if not self.ended.done():
            self.ended.set_result(None)


class Pool:
    """Connections to ``target``: one for each exchange under way, and those that wait for the next."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._tls = target.tls()
        self._address = target.host
        self._idle: list[_Connection] = []

    async def run(self, exchange: Exchange) -> None:
        """Send the request and read the reply to its end: then the reading has its outcome.

        A kept connection that the server has closed meanwhile is no failure: if it ends within ``STALE_S``, and nothing
        of the reply has come, the request is sent once more, on a new one.
        """
        try:
            if self._idle:
                await self._run_on(self._idle.pop(), exchange)
            if exchange.reading.outcome is None:
                await self._connect_and_run(exchange)
        finally:
            if exchange.reading.outcome is None and exchange.connection is not None:  # this task was cancelled
                exchange.connection.abort()

    def close(self) -> None:
        for connection in self._idle:
            connection.abort()
        self._idle.clear()

    def keep(self, connection: _Connection) -> None:
        self._idle.append(connection)

    def drop(self, connection: _Connection) -> None:
        if connection in self._idle:
            self._idle.remove(connection)

    async def _run_on(self, connection: _Connection, exchange: Exchange) -> None:
        exchange.ended = asyncio.get_running_loop().create_future()
        connection.send(exchange)
        await exchange.ended

    async def _connect_and_run(self, exchange: Exchange) -> None:
        loop = asyncio.get_running_loop()
        exchange.ended = loop.create_future()
        target = self._target
        asked_s = time.perf_counter()
        connecting = loop.create_task(
            loop.create_connection(
                lambda: _Connection(self),
                self._address,
                target.port,
                ssl=self._tls,
                server_hostname=target.host if target.is_tls else None,
            )
        )
        try:
            either: tuple[asyncio.Future[Any], ...] = (connecting, exchange.ended)
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        finally:
            if not connecting.done():
                connecting.cancel()
        if exchange.ended.done():
            with contextlib.suppress(OSError, asyncio.CancelledError):
                transport, _ = await connecting
                transport.abort()
            return
        try:
            transport, connection = await connecting
        except OSError as error:
            outcome = Outcome.CLIENT if error.errno in OWN_LIMITS else Outcome.CONNECT
            exchange.reading.fail(outcome, _why(error), time.perf_counter())
            return
        exchange.connect_s = time.perf_counter() - asked_s
        if connection.is_open and (peer := transport.get_extra_info("peername")):
            self._address = peer[0]  # a name is looked up once
        await self._run_on(connection, exchange)


class _Connection(asyncio.Protocol):
    """One socket; at most one exchange at a time."""

    def __init__(self, pool: Pool) -> None:
        self.is_open = False
        self._pool = pool
        self._exchange: Exchange | None = None
        self._reading: Reading | None = None
        self._headers: dict[str, str] = {}
        self._head_bytes = 0
        self._is_used = False
        self._is_silent = True
        self._at_s = 0.0
        self._reads: list[tuple[float, bytes]] = []
        self._can_wait = False
        self._error: Exception | None = None

    def send(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._reading = exchange.reading
        self._is_silent = True
        if not self.is_open:  # a server may close what it has just accepted
            return self._end_lost()
        exchange.connection = self
        exchange.reading.sent_s = time.perf_counter()
        self._transport.write(exchange.request)
        return None

    def abort(self) -> None:
        self._transport.abort()

    # ---- the socket --------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._parser = httptools.HttpResponseParser(self)
        self.is_open = True

    def data_received(self, data: bytes) -> None:
        self._reads.append((time.perf_counter(), data))
        if not (
            self._can_wait
            and len(self._reads) < READS_MAX
            and len(MESSAGE_END) <= len(data) <= READ_BYTES_MAX
            and data[-4:] != MESSAGE_END
        ):
            self.parse()

    def parse(self) -> None:
        """All that has been read."""
        reads, self._reads = self._reads, []
        for self._at_s, data in reads:
            if self._reading is None:  # nobody asked for this
                return self._transport.abort()
            self._is_silent = False
            try:
                self._parser.feed_data(data)
            except httptools.HttpParserCallbackError:
                raise
            except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
                self._fail(f"not HTTP: {error}")
            if self._reading is not None and self._reading.outcome is not None:  # it ended before the message did
                return self._hang_up()
        return None

    def connection_lost(self, error: Exception | None) -> None:
        self.parse()
        self.is_open = False
        self._error = error
        del self._parser  # which refers to this object
        self._pool.drop(self)
        self._end_lost()

    def _end_lost(self) -> None:
        exchange, self._exchange, self._reading = self._exchange, None, None
        if exchange is not None:
            now_s, sent_s = time.perf_counter(), exchange.reading.sent_s
            is_stale = self._is_used and self._is_silent and sent_s is not None and now_s - sent_s <= STALE_S
            if not is_stale:
                exchange.reading.lost(now_s, self._error)
            exchange.end()

    # ---- the parser --------------------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        self._headers = {}
        self._head_bytes = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        self._head_bytes += len(name) + len(value)
        if self._head_bytes > HEAD_BYTES_MAX:
            self._fail(f"headers of more than {HEAD_BYTES_MAX} bytes")
        else:
            self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        if self._reading is not None and self._parser.get_status_code() >= 200:
            self._reading.begin(self._parser.get_status_code(), self._headers)
            is_chunked = "chunked" in self._headers.get("transfer-encoding", "")
            self._can_wait = is_chunked and self._reading.can_wait

    def on_body(self, data: bytes) -> None:
        reading = self._reading
        if reading is not None and reading.outcome is None:
            reading.take(data, self._at_s)

    def on_message_complete(self) -> None:
        reading, exchange = self._reading, self._exchange
        if reading is None or exchange is None or reading.status is None:  # 1xx: the reply is still to come
            return
        is_intact = reading.outcome is None and self._parser.should_keep_alive()
        reading.complete(self._at_s)
        self._exchange = self._reading = None
        self._can_wait = False
        if is_intact:
            self._is_used = True
            self._pool.keep(self)
        else:
            self._transport.abort()
        exchange.end()

    def _fail(self, error: str) -> None:
        if self._reading is not None:
            self._reading.fail(Outcome.MALFORMED, error, self._at_s)

    def _hang_up(self) -> None:
        exchange, self._exchange, self._reading = self._exchange, None, None
        self._transport.abort()
        if exchange is not None:
            exchange.end()


def _why(error: OSError) -> str:
    return f"no connection: {error.strerror or error}"
