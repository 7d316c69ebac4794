"""Requests that wait, in the order in which they will be served, and the deadlines of all."""

from __future__ import annotations

import heapq
from bisect import bisect_left, insort
from collections.abc import Iterator
from enum import IntEnum
from itertools import chain

from headway.policy.request import Request, State


class Lane(IntEnum):
    """The parts of the queue, in the order in which they are served."""

    RETURNING = 0  # preempted, or displaced when the executor was lost: their answers have begun
    TIMELY = 1  # can still be on time
    LATE = 2  # can't, and are served all the same ("never shed")
    BATCH = 3  # promised nothing: they get what the others leave


class WaitingQueue:
    """Requests by lane, and in a lane by key (the policy's: a due time, or 0 for order of arrival), then by arrival.

    ``tokens``: all tokens of those waiting; ``timely_tokens``: those that the timely ones have to compute. Adding and
    removing find their place by bisection.
    """

    def __init__(self) -> None:
        self.timely_tokens = 0
        self._tokens = [0, 0]  # with a promise, without one
        self.lanes: tuple[list[Request], ...] = tuple([] for _ in Lane)
        self._served = (self.lanes[: Lane.LATE], self.lanes[Lane.LATE :])  # before the others, and in what they leave

    def __len__(self) -> int:
        return sum(map(len, self.lanes))

    def __bool__(self) -> bool:
        return any(self.lanes)

    @property
    def tokens(self) -> int:
        return sum(self._tokens)

    def length(self, *, deferrable: bool) -> int:
        """Those in the batch lane if ``deferrable``, else the others."""
        batch = len(self.lanes[Lane.BATCH])
        return batch if deferrable else len(self) - batch

    def tokens_of(self, *, deferrable: bool) -> int:
        return self._tokens[deferrable]

    def __iter__(self) -> Iterator[Request]:
        return chain.from_iterable(self.lanes)

    def head(self, *, deferrable: bool) -> Request | None:
        """Who is next: of those that get what the others leave if ``deferrable``, else of the others."""
        for lane in self._served[deferrable]:
            if lane:
                return lane[0]
        return None

    def add(self, request: Request, lane: Lane, key: float = 0.0) -> None:
        request.lane, request.key = lane, key
        insort(self.lanes[lane], request, key=place)
        self._tokens[lane is Lane.BATCH] += len(request.tokens)
        if lane is Lane.TIMELY:
            self.timely_tokens += request.uncached

    def forget_hits(self) -> None:
        """The cache is lost: all tokens of those that wait have to be computed."""
        for request in self:
            request.uncached = len(request.tokens)
        self.timely_tokens = sum(request.uncached for request in self.lanes[Lane.TIMELY])

    def remove(self, request: Request) -> None:
        lane = self.lanes[request.lane]
        index = bisect_left(lane, place(request), key=place)
        assert lane[index : index + 1] == [request], f"{request.request_id} does not wait"
        del lane[index]
        self._tokens[request.lane == Lane.BATCH] -= len(request.tokens)
        if request.lane == Lane.TIMELY:
            self.timely_tokens -= request.uncached


def place(request: Request) -> tuple[float, int]:
    """Where a request comes among those of its lane, also once it has started."""
    return request.key, request.order


class Deadlines:
    """The next deadline among live requests. Finished ones are dropped lazily, before they outnumber the live."""

    SLACK = 64

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Request]] = []

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, request: Request, live: int) -> None:
        """``live`` requests, this one included, are here: no more than twice that, and ``SLACK``, are ever kept."""
        if request.spec.deadline_s is None:
            return
        if len(self._heap) >= 2 * live + self.SLACK:
            self._heap = [entry for entry in self._heap if entry[2].state is not State.FINISHED]
            heapq.heapify(self._heap)
        heapq.heappush(self._heap, (request.spec.deadline_s, request.order, request))

    def next(self) -> float | None:
        while self._heap and self._heap[0][2].state is State.FINISHED:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def pop_due(self, now: float) -> Request | None:
        """A live request whose deadline has passed: the one whose passed first."""
        due = self.next()
        if due is None or due > now:
            return None
        return heapq.heappop(self._heap)[2]
