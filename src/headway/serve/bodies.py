"""Request bodies in memory: each is counted from its first byte until it is parsed, and their sum is bounded.

For the event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator

from headway.serve.errors import ApiError, Reason
from headway.serve.limits import EdgeLimits


class Bodies:
    """All bodies of a server. ``count`` of them are held now, of ``held_bytes`` together."""

    def __init__(self, limits: EdgeLimits) -> None:
        self.limits = limits
        self.count = 0
        self.held_bytes = 0
        self._ended = False
        self._timers: set[asyncio.Timeout] = set()

    @contextlib.contextmanager
    def one(self) -> Iterator[Body]:
        """An empty body, counted as long as the block runs or until it is dropped."""
        body = Body(self)
        try:
            yield body
        finally:
            body.drop()

    @contextlib.asynccontextmanager
    async def reading(self) -> AsyncIterator[None]:
        """The time in which a body has to arrive. Raises ``ApiError`` (408, 503)."""
        if self._ended:
            raise _draining()
        try:
            async with asyncio.timeout(self.limits.body_s) as timer:
                self._timers.add(timer)
                try:
                    yield
                finally:
                    self._timers.discard(timer)
        except TimeoutError:
            if self._ended:
                raise _draining() from None
            message = f"The body did not arrive within {self.limits.body_s:g} s."
            raise ApiError(Reason.REQUEST_TIMEOUT, message) from None

    def end(self) -> None:
        """Wait for no body any more."""
        self._ended = True
        for timer in self._timers:
            timer.reschedule(asyncio.get_running_loop().time())


class Body:
    """One body, as it comes in."""

    def __init__(self, bodies: Bodies) -> None:
        self._bodies = bodies
        self._parts: list[bytes] = []
        self._size = 0
        self._dropped = False
        bodies.count += 1

    def add(self, part: bytes) -> None:
        """Raises ``ApiError``: 413 for too large a body, 429 if there is no room among the others."""
        limits = self._bodies.limits
        if self._size + len(part) > limits.body_bytes:
            raise too_large(limits)
        if self._bodies.held_bytes + len(part) > limits.bodies_bytes:
            message = f"The server holds the {limits.bodies_bytes} bytes of request bodies that it can at once."
            raise ApiError(Reason.QUEUE_FULL, message)
        self._parts.append(part)
        self._size += len(part)
        self._bodies.held_bytes += len(part)

    @property
    def data(self) -> bytes:
        if len(self._parts) > 1:
            self._parts = [b"".join(self._parts)]
        return self._parts[0]

    def drop(self) -> None:
        if not self._dropped:
            self._dropped = True
            self._bodies.count -= 1
            self._bodies.held_bytes -= self._size
            self._parts.clear()


def too_large(limits: EdgeLimits) -> ApiError:
    return ApiError(Reason.BODY_TOO_LARGE, f"Request bodies are limited to {limits.body_bytes} bytes.")


def _draining() -> ApiError:
    return ApiError(Reason.DRAINING, "The server is shutting down and waits for no body any more.")
