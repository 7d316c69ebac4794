"""At the door: every refusal has its reason, its limit and the value that broke it."""

from __future__ import annotations

import math

import pytest

from headway.policy.admission import RETRY_AFTER_MAX_S, RETRY_AFTER_MIN_S, DrainRate
from headway.policy.events import FinishReason, Queued, Rejected, RejectReason
from headway.policy.request import RequestSpec
from headway.policy.scheduler import SchedulerConfig
from tests.policy.world import World, info, spec


def refused(world: World, request: RequestSpec) -> Rejected:
    event = world.submit(request)
    assert isinstance(event, Rejected)
    assert event.request_id == request.request_id
    return event


@pytest.mark.parametrize(
    ("request_spec", "reason", "limit", "value"),
    [
        (spec("r", []), RejectReason.INVALID, 1, 0),
        (spec("r", 4, 0), RejectReason.INVALID, 1, 0),
        (spec("r", 4, -1), RejectReason.INVALID, 1, -1),
        (spec("r", [1, 50]), RejectReason.INVALID, 49, 50),
        (spec("r", [1, -1]), RejectReason.INVALID, 49, -1),
        (spec("r", 40, 25), RejectReason.CONTEXT_LENGTH, 64, 65),
        (spec("r", 30, 12), RejectReason.KV_CAPACITY, 40, 41),
    ],
)
def test_what_can_never_run_is_refused_for_good(
    request_spec: RequestSpec, reason: RejectReason, limit: int, value: int
) -> None:
    world = World(info(block_size=4, kv_blocks=10, context_tokens=64))
    event = refused(world, request_spec)
    assert (event.reason, event.limit, event.value, event.retry_after_s) == (reason, limit, value, None)
    assert str(value) in event.message or value == 0
    assert world.scheduler.idle
    assert world.scheduler.stats().rejected[reason] == 1


def test_the_largest_request_that_fits_runs_to_its_end() -> None:
    world = World(info(block_size=4, kv_blocks=10, context_tokens=64), SchedulerConfig(kv_watermark=0.5))
    assert isinstance(world.submit(spec("r", 30, 11)), Queued)
    world.run()
    world.check_answers()


def test_a_live_id_is_taken_and_a_finished_one_is_free_again() -> None:
    world = World()
    world.submit(spec("r"))
    assert refused(world, spec("r")).reason is RejectReason.INVALID
    world.step()
    assert refused(world, spec("r")).reason is RejectReason.INVALID
    world.abort("r")
    assert isinstance(world.submit(spec("r")), Queued)
    world.run()
    world.check_answers()


def test_a_deadline_that_has_passed_is_refused() -> None:
    world = World()
    world.now = 5.0
    event = refused(world, spec("r", deadline_s=5.0))
    assert (event.reason, event.retry_after_s) == (RejectReason.EXPIRED, None)


def test_the_queue_is_bounded_in_requests() -> None:
    world = World(config=SchedulerConfig(max_queued_requests=2))
    world.submit(spec("a"))
    world.submit(spec("b"))
    event = refused(world, spec("c"))
    assert (event.reason, event.limit, event.value) == (RejectReason.QUEUE_FULL, 2, 3)
    assert event.retry_after_s == RETRY_AFTER_MIN_S
    world.step()
    assert isinstance(world.submit(spec("c")), Queued)


def test_the_queue_is_bounded_in_tokens_but_an_empty_one_takes_any_request() -> None:
    world = World(config=SchedulerConfig(max_queued_tokens=10))
    assert isinstance(world.submit(spec("a", 12)), Queued)
    event = refused(world, spec("b", 1))
    assert (event.reason, event.limit, event.value) == (RejectReason.QUEUE_FULL, 10, 13)


def test_preempted_requests_skip_the_caps() -> None:
    """A preempted request goes back into a queue that is full already, and is not lost."""
    config = SchedulerConfig(max_running=2, max_queued_requests=1, kv_lookahead_tokens=0, kv_watermark=0.0)
    world = World(info(block_size=1, kv_blocks=12), config)
    for name in "abc":
        assert isinstance(world.submit(spec(name, 3, 8)), Queued)
        world.step()
    while not world.scheduler.counters.preemptions:
        world.step()
    assert len(world.scheduler.waiting) > config.max_queued_requests
    assert refused(world, spec("d")).value == len(world.scheduler.waiting) + 1
    world.run()
    world.check_answers()


def test_draining_refuses_the_new_and_finishes_the_old() -> None:
    world = World()
    world.submit(spec("a"))
    world.scheduler.drain()
    event = refused(world, spec("b"))
    assert (event.reason, event.retry_after_s) == (RejectReason.DRAINING, RETRY_AFTER_MIN_S)
    world.run()
    assert world.reason("a") is FinishReason.LENGTH


def test_retry_after_follows_the_rate_at_which_prompts_are_worked_off() -> None:
    rate = DrainRate()
    assert rate.retry_after_s(10**6) == RETRY_AFTER_MIN_S
    for _ in range(10):
        rate.observe(100, 0.1)
    assert rate.retry_after_s(5000) == pytest.approx(5.0)
    assert rate.retry_after_s(1) == RETRY_AFTER_MIN_S
    assert rate.retry_after_s(10**9) == RETRY_AFTER_MAX_S
    for _ in range(1000):
        rate.observe(100, 1.0)
    assert rate.retry_after_s(5000) == pytest.approx(50.0, rel=0.01)


def test_many_steps_of_decodes_count_as_each_of_them() -> None:
    one_by_one, at_once, took_s = DrainRate(), DrainRate(), [0.01, 0.013, 0.0, math.inf, 0.02]
    for rate in (one_by_one, at_once):
        rate.observe(1000, 0.1)
    for each_s in took_s:
        one_by_one.observe(0, each_s)
    at_once.observe_decodes(took_s)
    assert at_once.retry_after_s(50_000) == one_by_one.retry_after_s(50_000) > 5.0


@pytest.mark.parametrize("elapsed_s", [math.nan, math.inf, -1.0, 0.0])
def test_elapsed_times_that_make_no_sense_are_ignored(elapsed_s: float) -> None:
    rate = DrainRate()
    rate.observe(100, 0.1)
    rate.observe(100, elapsed_s)
    assert rate.retry_after_s(5000) == pytest.approx(5.0)


@pytest.mark.parametrize(
    "broken",
    [
        {"max_step_tokens": 0},
        {"max_running": 0},
        {"max_queued_requests": 0},
        {"max_queued_tokens": -1},
        {"kv_lookahead_tokens": -1},
        {"max_preemptions": -1},
        {"kv_watermark": 1.0},
        {"kv_watermark": -0.1},
    ],
)
def test_limits_that_make_no_sense_are_refused(broken: dict[str, float]) -> None:
    (name,) = broken
    with pytest.raises(ValueError, match=name):
        SchedulerConfig(**broken)  # type: ignore[arg-type]
