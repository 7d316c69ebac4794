"""A listening socket, and the connections it brings: uvicorn's protocol without uvicorn's main loop."""

from __future__ import annotations

import asyncio
import socket
from email.utils import formatdate

from uvicorn.config import Config

from headway.serve.asgi import App
from headway.serve.limits import EdgeLimits
from headway.serve.protocol import ConnectionState, LimitedProtocol

BACKLOG = 2048
"""Connections that the kernel may hold before they are accepted; one more waits a second for its next try."""
KERNEL_UNSENT_BYTES = 128 * 1024
"""Written bytes that the kernel may hold unsent for one connection. With its usual megabytes, a reader's progress comes
to light in steps so large that a slow one looks stalled."""
DATE_REFRESH_S = 1.0


class ListenError(Exception):
    """The address can't be listened on. The message is one line for the operator."""


def bind(host: str, port: int) -> socket.socket:
    """A listening TCP socket; port 0 takes a free one. Raises ``ListenError``."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, KERNEL_UNSENT_BYTES)  # for all it accepts
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except (OSError, OverflowError) as error:
        listener.close()
        what = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ListenError(f"cannot listen on {host} port {port}: {what}") from error
    listener.setblocking(False)
    return listener


class HttpServer:
    """Serves one ASGI application on one socket, inside a running event loop."""

    def __init__(self, app: App, limits: EdgeLimits) -> None:
        self._config = Config(
            app,
            lifespan="off",
            ws="none",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=limits.idle_s,  # type: ignore[arg-type]
        )
        self._config.load()
        self.state = ConnectionState(limits)
        self._listener: asyncio.Server | None = None
        self._date_timer: asyncio.TimerHandle | None = None

    async def start(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        self._refresh_date(loop)
        self._listener = await loop.create_server(
            lambda: LimitedProtocol(self._config, self.state, {}, loop), sock=listener, backlog=BACKLOG
        )

    async def close(self, grace_s: float) -> None:
        """Stop listening; give replies in progress ``grace_s`` to be read, then end every connection."""
        if self._listener is not None:
            self._listener.close()
        if self._date_timer is not None:
            self._date_timer.cancel()
        for connection in list(self.state.connections):
            connection.shutdown()
        if self.state.tasks:
            await asyncio.wait(self.state.tasks, timeout=grace_s)
        for task in list(self.state.tasks):
            task.cancel()
        if self.state.tasks:
            await asyncio.wait(self.state.tasks, timeout=grace_s)
        for connection in list(self.state.connections):
            connection.transport.abort()

    def _refresh_date(self, loop: asyncio.AbstractEventLoop) -> None:
        self.state.default_headers = [(b"date", formatdate(usegmt=True).encode())]
        self._date_timer = loop.call_later(DATE_REFRESH_S, self._refresh_date, loop)
