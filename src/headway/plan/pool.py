"""Work in several processes, each result as it comes."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from types import TracebackType
from typing import Any, Protocol, Self

from headway.plan.errors import PlanError

PROCESSES_MAX = 64


class Pool(Protocol):
    """``submit`` hands in a task under a key; ``done`` waits for the next result of those handed in."""

    @property
    def processes(self) -> int: ...

    @property
    def waiting(self) -> int:
        """Tasks without a result yet."""
        ...

    def cpu_s(self) -> float:
        """That other processes than this one have used for tasks with a result."""
        ...

    def submit(self, key: Any, work: Callable[..., Any], *arguments: Any) -> None: ...

    def done(self) -> Iterator[tuple[Any, Any]]:
        """Keys and results of at least one task, if any is waiting. Raises what a task raised."""
        ...


class Serial:
    """In this process, one at a time, when it is asked for."""

    processes = 1

    def __init__(self) -> None:
        self._tasks: list[tuple[Any, Callable[..., Any], tuple[Any, ...]]] = []

    @property
    def waiting(self) -> int:
        return len(self._tasks)

    def cpu_s(self) -> float:
        return 0.0

    def submit(self, key: Any, work: Callable[..., Any], *arguments: Any) -> None:
        self._tasks.append((key, work, arguments))

    def done(self) -> Iterator[tuple[Any, Any]]:
        if self._tasks:
            key, work, arguments = self._tasks.pop(0)
            yield key, work(*arguments)


class Processes:
    """Started afresh, as many as there are cores. As a context manager: whatever way it is left, they end at once."""

    def __init__(self, processes: int | None = None) -> None:
        self.processes = min(processes or cores(), PROCESSES_MAX)
        self._executor = ProcessPoolExecutor(
            self.processes, mp_context=multiprocessing.get_context("spawn"), initializer=_let_interrupts_end_it
        )
        self._keys: dict[Future[Any], Any] = {}
        self._cpu_s = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        mine = multiprocessing.active_children()
        self._executor.shutdown(wait=kind is None, cancel_futures=True)
        if kind is not None:
            for child in mine:
                child.terminate()

    @property
    def waiting(self) -> int:
        return len(self._keys)

    def cpu_s(self) -> float:
        return self._cpu_s

    def submit(self, key: Any, work: Callable[..., Any], *arguments: Any) -> None:
        self._keys[self._executor.submit(_timed, work, arguments)] = key

    def done(self) -> Iterator[tuple[Any, Any]]:
        finished, _ = wait(self._keys, return_when=FIRST_COMPLETED)
        for future in finished:
            key = self._keys.pop(future)
            try:
                result, spent_s = future.result()
            except BrokenProcessPool:
                raise PlanError(
                    "a process of the search was killed, perhaps for want of memory: --processes 1"
                ) from None
            self._cpu_s += spent_s
            yield key, result


def cpu_s() -> float:
    """Of this process."""
    return time.process_time()


def _timed(work: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[Any, float]:
    began_s = cpu_s()
    return work(*arguments), cpu_s() - began_s


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _let_interrupts_end_it() -> None:
    """Without a traceback: the parent says what there is to say."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
