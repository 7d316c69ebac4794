"""The queue keeps the order of arrival; the deadlines stay few."""

from __future__ import annotations

import pytest

from headway.policy.request import Request, State
from headway.policy.waiting import Deadlines, Lane, WaitingQueue
from tests.policy.world import spec


def request(order: int, prompt: int = 3, deadline_s: float | None = None) -> Request:
    return Request.new(spec(f"r{order}", prompt, deadline_s=deadline_s), order, 0.0)


def orders(queue: WaitingQueue) -> list[int]:
    return [each.order for each in queue]


def test_in_a_lane_by_key_and_then_by_arrival_and_tokens_are_counted() -> None:
    queue = WaitingQueue()
    requests = [request(order, prompt=order + 1) for order in range(3)]
    for each, key in zip(requests, (2.0, 1.0, 1.0), strict=True):
        queue.add(each, Lane.TIMELY, key)
    assert (orders(queue), queue.tokens, queue.head(deferrable=False)) == ([1, 2, 0], 6, requests[1])
    queue.remove(requests[1])
    assert (orders(queue), queue.tokens, len(queue)) == ([2, 0], 4, 2)
    with pytest.raises(AssertionError, match="does not wait"):
        queue.remove(request(2))


def test_lanes_are_served_one_after_the_other_and_those_that_get_what_is_left_on_their_own() -> None:
    queue = WaitingQueue()
    for order, lane in enumerate((Lane.BATCH, Lane.LATE, Lane.TIMELY, Lane.RETURNING, Lane.RETURNING)):
        queue.add(request(order), lane)
    assert orders(queue) == [3, 4, 2, 1, 0]
    for expected in (3, 4, 2, None, 1, 0):
        head = queue.head(deferrable=expected in (1, 0))
        assert (None if head is None else head.order) == expected
        if head is not None:
            queue.remove(head)


def test_deadlines_come_in_order_and_only_for_the_living() -> None:
    deadlines = Deadlines()
    early, late, never = request(0, deadline_s=1.0), request(1, deadline_s=2.0), request(2)
    for each in (late, early, never):
        deadlines.add(each, live=3)
    assert deadlines.next() == 1.0
    early.move(State.FINISHED)
    assert deadlines.next() == 2.0
    assert deadlines.pop_due(1.9) is None
    assert deadlines.pop_due(2.0) is late
    assert deadlines.next() is None


def test_finished_requests_do_not_pile_up() -> None:
    deadlines = Deadlines()
    for order in range(10_000):
        each = request(order, deadline_s=1e9)
        deadlines.add(each, live=1)
        assert len(deadlines) <= 2 + Deadlines.SLACK
        each.move(State.FINISHED)
