"""The one who asked: whether they are still there, how long they will wait, and work in the thread pool for them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import TypeVar

from headway.serve.asgi import ClientGone, Receive, Scope, header
from headway.serve.errors import ApiError, Reason
from headway.serve.reply import Reply
from headway.serve.service import Service

TIMEOUT_HEADER = b"x-request-timeout-ms"
"""How long the client will wait, from the end of its request. The server's own longest time holds as well."""

T = TypeVar("T")


class Client:
    """``deadline_s``: when they stop waiting, by the service's clock. ``reply``: what they asked for, once it is
    understood. Other threads read ``gone`` and set ``reply``.
    """

    def __init__(self, deadline_s: float) -> None:
        self.deadline_s = deadline_s
        self.gone = False
        self.reply: Reply | None = None

    def leave(self) -> None:
        self.gone = True
        if self.reply is not None:
            self.reply.leave()


@contextlib.asynccontextmanager
async def watching(receive: Receive, client: Client) -> AsyncIterator[None]:
    """Notice the client's leaving for as long as the block runs; leaving the block in any way counts as that too."""

    async def watch() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        client.leave()

    task = asyncio.create_task(watch())
    try:
        yield
    finally:
        client.gone = True
        task.cancel()


async def in_pool(service: Service, client: Client, work: Callable[[], T]) -> T:
    """Run ``work`` in the thread pool when its turn comes, if the client is still there then.

    Raises ``ApiError`` (504) if the turn doesn't come before the deadline, and ``ClientGone``.
    """
    try:
        async with asyncio.timeout(client.deadline_s - service.clock()):
            await service.preparing.acquire()
    except TimeoutError:
        message = "The request's deadline passed before it was looked at: the server is very busy."
        raise ApiError(Reason.DEADLINE, message) from None
    try:
        if client.gone:
            raise ClientGone
        return await asyncio.get_running_loop().run_in_executor(service.pool, work)
    finally:
        service.preparing.release()


def timeout_s(scope: Scope, longest_s: float) -> float:
    """How long the client will wait, at most ``longest_s``. Raises ``ApiError`` (400)."""
    value = header(scope, TIMEOUT_HEADER)
    if value is None:
        return longest_s
    name = TIMEOUT_HEADER.decode()
    if not (value.isdigit() and len(value) <= 10 and int(value) > 0):
        raise ApiError(Reason.INVALID_HEADER, f"'{name}' must be a whole number of milliseconds above 0.", param=name)
    return min(int(value) / 1000, longest_s)
