"""Work spread over processes: every task is a function of a module and its arguments, and results come as they end."""

from __future__ import annotations

import multiprocessing
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import Any, TypeVar

T = TypeVar("T")


class Pool:
    """Says on standard error what has been done. Results do not depend on the number of processes."""

    def __init__(self, jobs: int) -> None:
        self._jobs = jobs

    def map(self, work: Callable[..., T], tasks: Iterable[tuple[Any, ...]]) -> list[T]:
        """``work`` with the arguments of each task, in order of the tasks; they are begun in that order too."""
        began_s = time.monotonic()
        asked = list(tasks)
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(self._jobs, mp_context=context) as executor:
            futures = {executor.submit(work, *task): number for number, task in enumerate(asked)}
            for done, future in enumerate(as_completed(futures), start=1):
                future.result()
                label = " ".join(str(part) for part in asked[futures[future]][:2])
                elapsed_s = time.monotonic() - began_s
                print(f"  {done} of {len(asked)} after {elapsed_s:.0f} s: {label}", file=sys.stderr, flush=True)
            results = {number: future.result() for future, number in futures.items()}
        return [results[number] for number in range(len(asked))]
