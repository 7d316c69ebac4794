"""What is still to happen in a run, in order of virtual time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from heapq import heappop, heappush
from typing import Any

FAULT, STEP_END, CLIENT, WAKE, LOOK = range(5)
"""Of events at one moment, faults come first, then a step's end, then what clients do, then deadlines where nothing
runs; who only looks on comes last."""

Handler = Callable[[float, Any], bool | None]
"""False: nothing came of it, for it was about something that is over."""


class Agenda:
    """Events by time, then by rank, then in the order in which they were put here."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, int, Handler, Any]] = []
        self._pushed = 0

    def __bool__(self) -> bool:
        return bool(self._heap)

    def push(self, at_s: float, rank: int, handle: Handler, what: Any) -> None:
        """Have ``handle(at_s, what)`` called at that time."""
        self._pushed += 1
        heappush(self._heap, (at_s, rank, self._pushed, handle, what))

    def run(self, until_s: float, last_s: float = 0.0) -> float:
        """Let everything happen up to ``until_s``. The time of the last thing that happened, looking on aside;
        ``last_s`` if nothing did."""
        heap = self._heap
        while heap and heap[0][0] <= until_s:
            at_s, rank, _, handle, what = heappop(heap)
            if handle(at_s, what) is not False and rank != LOOK:
                last_s = at_s
        return last_s

    def left(self) -> Iterator[Any]:
        """What the events that did not happen are about, in their order."""
        return (event[4] for event in sorted(self._heap, key=lambda event: event[:3]))
