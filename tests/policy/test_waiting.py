"""The queue keeps the order of arrival; the deadlines stay few."""

from __future__ import annotations

import pytest

from headway.policy.request import Request, State
from headway.policy.waiting import Deadlines, WaitingQueue
from tests.policy.world import spec


def request(order: int, prompt: int = 3, deadline_s: float | None = None) -> Request:
    return Request.new(spec(f"r{order}", prompt, deadline_s=deadline_s), order)


def orders(queue: WaitingQueue) -> list[int]:
    return [each.order for each in queue]


def test_first_come_first_served_and_tokens_are_counted() -> None:
    queue = WaitingQueue()
    requests = [request(order, prompt=order + 1) for order in range(3)]
    for each in requests:
        queue.append(each)
    assert (orders(queue), queue.tokens, queue.head) == ([0, 1, 2], 6, requests[0])
    queue.remove(requests[1])
    assert (orders(queue), queue.tokens, len(queue)) == ([0, 2], 4, 2)


def test_who_comes_back_keeps_its_place() -> None:
    queue = WaitingQueue()
    early, middle, late = request(0), request(1), request(2)
    queue.append(late)
    queue.put_back(middle)
    queue.put_back(early)
    assert orders(queue) == [0, 1, 2]
    with pytest.raises(AssertionError, match="jump the queue"):
        queue.put_back(request(3))


def test_many_come_back_each_to_its_place() -> None:
    queue = WaitingQueue()
    for order in (2, 4, 6):
        queue.append(request(order))
    queue.merge([request(5), request(0), request(3)])
    assert (orders(queue), queue.tokens) == ([0, 2, 3, 4, 5, 6], 18)


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
