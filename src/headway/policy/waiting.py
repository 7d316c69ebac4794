"""Requests that wait, in order of arrival, and the deadlines of all. No operation looks at every request."""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Iterable, Iterator

from headway.policy.request import Request, State


class WaitingQueue:
    """First come, first served; who comes back keeps its place. ``tokens``: all tokens of those waiting."""

    def __init__(self) -> None:
        self.tokens = 0
        self._requests: OrderedDict[str, Request] = OrderedDict()

    def __len__(self) -> int:
        return len(self._requests)

    def __iter__(self) -> Iterator[Request]:
        return iter(self._requests.values())

    @property
    def head(self) -> Request | None:
        return next(iter(self._requests.values()), None)

    def append(self, request: Request) -> None:
        self._requests[request.request_id] = request
        self.tokens += len(request.tokens)

    def put_back(self, request: Request) -> None:
        """Back to the head: only who came before all that wait may come back alone."""
        head = self.head
        assert head is None or request.order < head.order, f"{request.request_id} would jump the queue"
        self.append(request)
        self._requests.move_to_end(request.request_id, last=False)

    def merge(self, requests: Iterable[Request]) -> None:
        """Many at once, each to its place by arrival. Looks at every request: for the day the executor is lost."""
        for request in requests:
            self.append(request)
        self._requests = OrderedDict(sorted(self._requests.items(), key=lambda item: item[1].order))

    def remove(self, request: Request) -> None:
        del self._requests[request.request_id]
        self.tokens -= len(request.tokens)


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
