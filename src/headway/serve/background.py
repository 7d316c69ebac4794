"""Work in threads that the event loop waits for, but never for ever."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable


def in_thread(work: Callable[[], None], name: str) -> asyncio.Future[None]:
    """Run in a thread that does not keep the process alive; the future is done when the work is, however it ended."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()

    def set_done() -> None:
        if not done.done():
            done.set_result(None)

    def run() -> None:
        try:
            work()
        finally:
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(set_done)

    threading.Thread(target=run, name=name, daemon=True).start()
    return done


async def finished(future: asyncio.Future[None], timeout_s: float) -> bool:
    """Wait for it, for so long; whether it is done."""
    done, _ = await asyncio.wait([future], timeout=timeout_s)
    return bool(done)
