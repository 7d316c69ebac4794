"""The checks themselves: each finds the damage it is there for. And the fake model notices a foreign block."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from headway.policy import invariants
from headway.policy.events import (
    Demoted,
    Event,
    Finished,
    FinishReason,
    Preempted,
    Queued,
    Rejected,
    RejectReason,
    Scheduled,
    TokenOut,
)
from headway.policy.ledger import Denial
from headway.policy.request import State
from headway.policy.scheduler import Scheduler, SchedulerConfig
from tests.policy.world import World, info, spec


def busy() -> World:
    """One long answer, one that shares its prompt, a prompt half computed, one waiting; a step in flight."""
    config = SchedulerConfig(max_step_tokens=12, max_running=3, max_preemptions=2)
    world = World(info(block_size=4, kv_blocks=32), config)
    world.submit(spec("long", 9, 20))
    world.step()
    world.submit(spec("sharer", 9, 20, seed=1))
    world.step()
    world.submit(spec("half", [7] * 30, 4))
    world.submit(spec("waiting", 3, 4))
    world.step()
    world.begin()
    assert [request.request_id for request in world.scheduler.running] == ["long", "sharer", "half"]
    return world


def lose_a_block(scheduler: Scheduler) -> None:
    scheduler.cache.pool.take(1)


def free_a_block_in_use(scheduler: Scheduler) -> None:
    scheduler.cache.pool.give_back([scheduler.running[2].block_table[-1]])


def hold_a_block_too_many(scheduler: Scheduler) -> None:
    scheduler.running[2].block_table += tuple(scheduler.cache.pool.take(1))


def write_to_a_shared_block(scheduler: Scheduler) -> None:
    scheduler.running[1].computed -= 4
    scheduler.running[1].planned += 4


def publish_a_block_before_it_is_full(scheduler: Scheduler) -> None:
    request = scheduler.running[0]
    scheduler.cache.index.publish(request.block_table[-1], b"digest", b"", 2, request.tokens[:4])


def keep_a_block_for_a_stranger(scheduler: Scheduler) -> None:
    scheduler.cache.pool.keep(scheduler.running[0].block_table[0], b"stranger")


def take_foreign_tokens_for_a_hit(scheduler: Scheduler) -> None:
    scheduler.running[0].tokens[1] += 1


def hold_something_while_waiting(scheduler: Scheduler) -> None:
    next(iter(scheduler.waiting)).computed = 1


def lose_a_request(scheduler: Scheduler) -> None:
    del scheduler.requests["waiting"]


def forget_that_it_runs(scheduler: Scheduler) -> None:
    scheduler.running[0].state = State.FINISHED


def count_the_queue_wrong(scheduler: Scheduler) -> None:
    scheduler.waiting._tokens[0] += 1


def overtake(scheduler: Scheduler) -> None:
    scheduler.running.reverse()


def preempt_for_ever(scheduler: Scheduler) -> None:
    next(iter(scheduler.waiting)).preemptions = 3


def spend_too_much(scheduler: Scheduler) -> None:
    assert scheduler.in_flight is not None
    scheduler.in_flight = replace(scheduler.in_flight, token_limit=3)


@pytest.mark.parametrize(
    ("damage", "number"),
    [
        (lose_a_block, 2),
        (free_a_block_in_use, 2),
        (hold_a_block_too_many, 4),
        (write_to_a_shared_block, 3),
        (publish_a_block_before_it_is_full, 3),
        (take_foreign_tokens_for_a_hit, 5),
        (keep_a_block_for_a_stranger, 3),
        (count_the_queue_wrong, 6),
        (lose_a_request, 7),
        (forget_that_it_runs, 7),
        (hold_something_while_waiting, 9),
        (spend_too_much, 11),
        (overtake, 13),
        (preempt_for_ever, 13),
    ],
)
def test_damage_is_found_and_named(damage: Callable[[Scheduler], None], number: int) -> None:
    world = busy()
    invariants.check(world.scheduler)
    damage(world.scheduler)
    with pytest.raises(AssertionError, match=rf"^{number}: "):
        invariants.check(world.scheduler)


def test_a_request_that_was_counted_twice_or_not_at_all_is_found() -> None:
    """Number 22."""
    for change in (1, -1):
        world = busy()
        invariants.check_ledger(world.scheduler)
        world.scheduler.ledger.of("batch").denied[Denial.REFUSED, "overloaded"] += change
        with pytest.raises(AssertionError, match=r"^22: "):
            invariants.check_ledger(world.scheduler)


@pytest.mark.parametrize("counter", ["preemptions", "displaced", "output_tokens"])
def test_a_counter_that_is_no_sum_over_the_events_is_found(counter: str) -> None:
    world = busy()
    world.finish()
    world.run()
    invariants.check_counters(world.scheduler, world.history)
    setattr(world.scheduler.counters, counter, getattr(world.scheduler.counters, counter) + 1)
    with pytest.raises(AssertionError, match=r"^22: "):
        invariants.check_counters(world.scheduler, world.history)


def test_a_plan_of_none_with_somebody_here_is_found() -> None:
    world = busy()
    with pytest.raises(AssertionError, match=r"^12: "):
        invariants.check_planned(world.scheduler, None)


START: list[Event] = [Queued("a"), Scheduled("a", 0, resumed=False), TokenOut("a", 0, 5)]
END = Finished("a", FinishReason.LENGTH, 4, 1, 0)


@pytest.mark.parametrize(
    ("events", "number"),
    [
        ([Scheduled("a", 0, resumed=False)], 7),
        ([*START, END, END], 7),
        ([*START, END, TokenOut("a", 1, 5)], 7),
        ([*START, Scheduled("a", 0, resumed=True)], 7),
        ([Queued("a"), Preempted("a", 0)], 7),
        ([*START, TokenOut("a", 0, 5)], 8),
        ([*START, TokenOut("a", 2, 5)], 8),
        ([*START, Preempted("a", 2)], 8),
        ([*START, replace(END, output_tokens=2)], 8),
        ([*START, replace(END, output_tokens=3, reason=FinishReason.STOP)], 8),
        ([Queued("a"), TokenOut("a", 0, 5)], 9),
        ([*START[:2], Preempted("a", 0), replace(END, reason=FinishReason.SHED, output_tokens=0)], 9),
        ([*START, Demoted("a", "batch")], 7),
    ],
)
def test_a_history_that_cannot_be_is_found(events: list[Event], number: int) -> None:
    history = invariants.History()
    with pytest.raises(AssertionError, match=rf"^{number}: "):
        history.observe(events)


def test_a_history_that_can_be_is_accepted() -> None:
    history = invariants.History()
    stopped = Finished("a", FinishReason.STOP, 4, 2, 0)
    resumed: list[Event] = [Preempted("a", 1), Scheduled("a", 0, resumed=True)]
    rejected = Rejected("b", RejectReason.QUEUE_FULL, "full")
    for again in (END, stopped):  # an id may come again
        history.observe([*START, *resumed, rejected, again])
    history.check_idle()
    history.observe(START)
    with pytest.raises(AssertionError, match=r"^6: "):
        history.check_idle()


def test_the_fake_model_notices_a_foreign_block() -> None:
    world = busy()
    plan = world.executor.plan
    assert plan is not None
    good = world.executor.run(plan)
    chunk = plan.chunks[0]
    foreign = replace(chunk, block_table=(plan.chunks[2].block_table[0], *chunk.block_table[1:]))
    bad = world.executor.run(replace(plan, chunks=(foreign, *plan.chunks[1:])))
    assert bad.drawn[0] != good.drawn[0]
    assert bad.drawn[1:] == good.drawn[1:]
