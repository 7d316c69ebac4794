"""HTTP/1.1 on one connection: uvicorn's httptools protocol, with the bounds that it lacks.

Added here: limits on the bytes, number and time of headers; a bound on connections that evicts idle ones first; a
bound on pipelined requests; an end for readers that stall; disconnects told to every request of the connection; and
error replies in the shape of all others. A half-closed connection counts as a disconnect. Upgrades are declined by
going on in HTTP/1.1, and trailers are refused.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import Any, NoReturn

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from headway.serve.errors import ApiError, Reason
from headway.serve.limits import EdgeLimits
from headway.serve.request_id import new_request_id

WRITER = "headway.writer"
"""The name of the ASGI extension that holds the request's ``SocketWriter``."""

WRITE_LOW_BYTES = 16 * 1024
WRITE_HIGH_BYTES = 64 * 1024


class ConnectionState(ServerState):
    """What all connections of one server share."""

    def __init__(self, limits: EdgeLimits) -> None:
        super().__init__()
        self.limits = limits
        self.waiting: OrderedDict[LimitedProtocol, None] = OrderedDict()
        """Connections without a request in progress, the one that has been so longest first."""
        self.evicted = 0
        self.refused = 0
        self.stalled = 0
        self.bad_requests = 0


class SocketWriter:
    """Writes body chunks of one reply straight to the socket, without a task in between.

    Only for use between the start of a reply without Content-Length and its last ASGI body message, on the loop.
    """

    __slots__ = ("_cycle", "_limit", "_protocol")

    def __init__(self, protocol: LimitedProtocol, cycle: RequestResponseCycle, limit: int) -> None:
        self._protocol = protocol
        self._cycle = cycle
        self._limit = limit

    def write(self, data: bytes) -> None:
        """Send ``data`` now; dropped if the client has gone. A reader too far behind loses its connection."""
        cycle = self._cycle
        if cycle.disconnected:
            return
        assert cycle.chunked_encoding, "a chunk outside a chunked reply"
        transport = cycle.transport
        transport.write(b"%x\r\n%b\r\n" % (len(data), data))
        self._protocol.written_bytes += len(data)
        if cycle.flow.write_paused and transport.get_write_buffer_size() > self._limit:
            self._protocol.end_stalled()


class _Refused(Exception):
    """Stops the parser; the reply is in the protocol's ``_refusal``."""


class LimitedProtocol(HttpToolsProtocol):
    """One connection. Its timer runs while it waits for headers or writes to a reader that has stalled."""

    server_state: ConnectionState

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        assert isinstance(server_state, ConnectionState)
        self.limits = server_state.limits
        self.access_log = False
        self._in_headers = True
        self._header_bytes = 0
        """Of the request line and the headers that the parser has told."""
        self._untold_bytes = 0
        """Fed to the parser since it last told us of anything: what it may be holding."""
        self._header_timer: asyncio.TimerHandle | None = None
        self._stall_timer: asyncio.TimerHandle | None = None
        self.written_bytes = 0
        """Handed to the transport by the ``SocketWriter``."""
        self._taken_bytes = 0
        """What the reader had taken of that when the stall timer was last set."""
        self._refusal: ApiError | None = None
        self._active: RequestResponseCycle | None = None

    # ---- the connection ----------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=WRITE_HIGH_BYTES, low=WRITE_LOW_BYTES)
        state = self.server_state
        if len(state.connections) > self.limits.connections and not self._evict_idle():
            state.refused += 1
            self._refuse(ApiError(Reason.TOO_MANY_CONNECTIONS, "The server has all the connections it can hold."))
            return
        state.waiting[self] = None
        self._arm_header_timer()

    def _evict_idle(self) -> bool:
        oldest = next(iter(self.server_state.waiting), None)
        if oldest is None:
            return False
        self.server_state.evicted += 1
        oldest.transport.abort()
        oldest._forget()
        return True

    def _forget(self) -> None:
        self.server_state.connections.discard(self)
        self.server_state.waiting.pop(self, None)
        self._cancel_timers()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget()
        for cycle in (self._active, *(queued for queued, _ in self.pipeline)):
            if cycle is not None and not cycle.response_complete:
                cycle.disconnected = True
                cycle.message_event.set()
        self.pipeline.clear()
        super().connection_lost(exc)

    def end_stalled(self) -> None:
        """The reader lags too far behind: nothing more is kept for it."""
        if not self.transport.is_closing() or self.transport.get_write_buffer_size() > 0:
            self.server_state.stalled += 1
            self.transport.abort()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._arm_stall_timer()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._stall_timer is not None:
            self._stall_timer.cancel()
            self._stall_timer = None

    def _arm_stall_timer(self) -> None:
        self._taken_bytes = self._taken()
        self._stall_timer = self.loop.call_later(self.limits.write_stall_s, self._check_stalled)

    def _check_stalled(self) -> None:
        """A reader that is behind all the time, but goes on reading, is slow and not stalled."""
        if self._taken() - self._taken_bytes < self.limits.write_stall_bytes:
            self.end_stalled()
        else:
            self._arm_stall_timer()

    def _taken(self) -> int:
        """How much the reader has taken, up to a constant."""
        return self.written_bytes - self.transport.get_write_buffer_size()

    def timeout_keep_alive_handler(self) -> None:
        if self.flow.write_paused:  # the reply is still being read, or the stall timer ends it
            self.timeout_keep_alive_task = self.loop.call_later(self.limits.idle_s, self.timeout_keep_alive_handler)
        else:
            self.transport.abort()  # what a reader has left unread this long, it won't read

    def shutdown(self) -> None:
        """Close after the replies in progress, at once if there are none."""
        if self._active is None or self._active.response_complete:
            self.transport.close()
        else:
            self._active.keep_alive = False

    # ---- requests ----------------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        if self._refusal is not None:
            return
        self._unset_keepalive_if_required()
        if self._header_timer is None and self._in_headers:
            self._arm_header_timer()
        # Fed in slices no longer than the limit, so that the parser never holds much more than that.
        size = self.limits.header_bytes
        for start in range(0, len(data), size):
            if self._refusal is not None or self.transport.is_closing():
                return
            if self._untold_bytes >= size:
                self._refuse(_headers_too_large(self.limits))
                return
            self._feed(data[start : start + size])

    def _feed(self, data: bytes) -> None:
        self._untold_bytes += len(data)
        while data:
            try:
                self.parser.feed_data(data)
                return
            except httptools.HttpParserUpgrade as upgrade:
                data = self._head_without_upgrade() + data[upgrade.args[0] :]
                self.parser = _new_parser(self)
            except httptools.HttpParserError:
                self.server_state.bad_requests += 1
                message = "This is not a valid HTTP/1.1 request."
                self._refuse(self._refusal or ApiError(Reason.INVALID_REQUEST, message))
                return

    def _head_without_upgrade(self) -> bytes:
        """The head of a request that asks for another protocol, which we decline as a server may: by going on in this
        one. The parser would take what follows the head for the other protocol, so it gets the head again."""
        lines = [b"%b %b HTTP/%b" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())]
        lines += [b"%b: %b" % (name, value) for name, value in self.headers if name != b"upgrade"]
        return b"\r\n".join([*lines, b"", b""])

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_headers = True
        self._header_bytes = 0
        if self._header_timer is None:
            self._arm_header_timer()

    def on_url(self, url: bytes) -> None:
        self._count_header_bytes(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_headers:
            self._stop_parser(ApiError(Reason.INVALID_REQUEST, "Trailers after a chunked body are not supported."))
        if len(self.headers) >= self.limits.header_count:
            self._stop_parser(_headers_too_large(self.limits))
        self._count_header_bytes(len(name) + len(value) + len(": \r\n"))
        super().on_header(name, value)

    def _count_header_bytes(self, size: int) -> None:
        self._untold_bytes = 0
        self._header_bytes += size
        if self._header_bytes > self.limits.header_bytes:
            self._stop_parser(_headers_too_large(self.limits))

    def on_headers_complete(self) -> None:
        self._untold_bytes = 0
        if self.parser.should_upgrade():
            if self.parser.get_method() == b"CONNECT":
                self._stop_parser(ApiError(Reason.INVALID_REQUEST, "This server is no proxy: it does not CONNECT."))
            return  # ``_feed`` comes back to this request, as one that asks for nothing special
        self._in_headers = False
        self._header_bytes = 0
        self._cancel_header_timer()
        if len(self.pipeline) >= self.limits.pipelined:
            self._stop_parser(ApiError(Reason.INVALID_REQUEST, "Too many pipelined requests."))
        self.server_state.waiting.pop(self, None)
        super().on_headers_complete()
        if self.pipeline:
            self.flow.resume_reading()  # or a disconnect would go unseen until the reply in progress ends

    def on_body(self, body: bytes) -> None:
        self._untold_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():
            return
        self._untold_bytes = 0
        super().on_message_complete()
        self._in_headers = True

    def _stop_parser(self, error: ApiError) -> NoReturn:
        """Refuse what the parser is in the middle of."""
        self._refusal = error
        raise _Refused

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._active = cycle
        writer = SocketWriter(self, cycle, self.limits.unsent_bytes)
        cycle.scope["extensions"] = {WRITER: {"writer": writer}}
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        cycle = self._active
        if self._refusal is not None or (cycle is not None and cycle.more_body):
            self.transport.close()  # the stream of requests is broken, or the rest of a body is in the way
            return
        super().on_response_complete()
        if self._active is cycle and not self.transport.is_closing():
            self.server_state.waiting[self] = None

    # ---- refusals ----------------------------------------------------------------------------------------------------

    def _refuse(self, error: ApiError) -> None:
        """Answer ``error`` and close; if a reply is in progress, let it finish first and say nothing."""
        self._refusal = error
        self._cancel_header_timer()
        self.pipeline.clear()
        active = self._active
        if active is not None and not active.response_complete:
            if active.response_started or not active.more_body:
                active.keep_alive = False
                return
            active.disconnected = True  # it broke in the middle of its own body
            active.message_event.set()
        self.transport.write(_raw_response(error))
        self.transport.close()

    def _headers_late(self) -> None:
        self._header_timer = None
        if self._header_bytes or self._untold_bytes:
            self._refuse(ApiError(Reason.REQUEST_TIMEOUT, f"No complete headers within {self.limits.header_s:g} s."))
        else:
            self.transport.close()

    def _arm_header_timer(self) -> None:
        self._header_timer = self.loop.call_later(self.limits.header_s, self._headers_late)

    def _cancel_header_timer(self) -> None:
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None

    def _cancel_timers(self) -> None:
        self._cancel_header_timer()
        if self._stall_timer is not None:
            self._stall_timer.cancel()
            self._stall_timer = None
        self._unset_keepalive_if_required()


def _new_parser(protocol: LimitedProtocol) -> Any:
    """Lenient about data after a request that closes, as uvicorn's own parser."""
    parser = httptools.HttpRequestParser(protocol)
    parser.set_dangerous_leniencies(lenient_data_after_close=True)
    return parser


def _headers_too_large(limits: EdgeLimits) -> ApiError:
    message = f"Request headers are limited to {limits.header_bytes} bytes and {limits.header_count} fields."
    return ApiError(Reason.HEADERS_TOO_LARGE, message)


def _raw_response(error: ApiError) -> bytes:
    body = error.body()
    fields = {
        "content-type": "application/json",
        "content-length": str(len(body)),
        "x-request-id": new_request_id(),
        "connection": "close",
        **error.headers(),
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return STATUS_LINE[error.status] + lines.encode() + b"\r\n" + body
