"""How far a search is: a bar on a terminal's standard error, once it has taken a while."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

AFTER_S = 2.0


class Shown:
    """A context manager. Nothing is shown in shorter searches, nor without a terminal."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._is_wanted = not quiet and sys.stderr.isatty()
        self._began_s = time.monotonic()
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed:.0f} of {task.total:.0f}"),
            TimeElapsedColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._task = self._bar.add_task("", total=1)
        self._is_started = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._is_started:
            self._bar.stop()

    def step(self, what: str, done: int, of: int) -> None:
        self._bar.update(self._task, description=what, completed=done, total=max(done, of))
        if self._is_wanted and not self._is_started and time.monotonic() - self._began_s >= AFTER_S:
            self._bar.start()
            self._is_started = True
