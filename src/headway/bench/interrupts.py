"""Ctrl-C and SIGTERM, for whatever keeps what it has measured until then."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def interrupts(stop: asyncio.Event, has_begun: Callable[[], bool]) -> Iterator[None]:
    """They set ``stop``, so that the run ends early and keeps what there is; a second one, or one before ``has_begun``,
    cancels this task."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None

    def interrupt() -> None:
        if stop.is_set() or not has_begun():
            task.cancel()
        stop.set()

    for each in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(each, interrupt)
    try:
        yield
    finally:
        for each in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(each)
