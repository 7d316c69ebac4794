"""When the blocks run out: who gives way, how often at most, and that nobody can tell from the answers."""

from __future__ import annotations

import pytest

from headway.policy.events import Preempted, Scheduled
from headway.policy.scheduler import SchedulerConfig
from tests.policy.world import World, info, spec


def crowded(
    max_preemptions: int = 3,
    lookahead: int = 0,
    max_step_tokens: int = 512,
    block_size: int = 2,
    foresight: bool = True,
) -> World:
    """Eight requests, each of which may grow to three quarters of the cache, admitted with no look ahead."""
    config = SchedulerConfig(
        max_step_tokens=max_step_tokens,
        kv_watermark=0.0,
        kv_lookahead_tokens=lookahead,
        kv_foresight=foresight,
        max_preemptions=max_preemptions,
    )
    world = World(info(block_size=block_size, kv_blocks=32 // block_size), config)
    for seed in range(8):
        world.submit(spec(f"r{seed}", [seed, 1, 2, 3], 20, seed=seed))
    return world


@pytest.mark.parametrize("block_size", [1, 2, 4])
@pytest.mark.parametrize("max_step_tokens", [3, 512])
@pytest.mark.parametrize("max_preemptions", [0, 1, 3, 1000])
def test_an_overcommitted_cache_changes_no_answer(block_size: int, max_step_tokens: int, max_preemptions: int) -> None:
    """Fault case 21: everyone goes to max_tokens; answers are those of requests that had the cache to themselves."""
    world = crowded(max_preemptions, max_step_tokens=max_step_tokens, block_size=block_size)
    world.run()
    world.check_answers()
    counts: dict[str, int] = {}
    for event in world.log:
        if isinstance(event, Preempted):
            counts[event.request_id] = counts.get(event.request_id, 0) + 1
    assert sum(counts.values()) == world.scheduler.counters.preemptions
    if max_step_tokens == 512:  # a budget of three keeps the requests apart by itself
        assert bool(counts) == (max_preemptions > 0)
    assert all(count <= max_preemptions for count in counts.values())


@pytest.mark.parametrize("block_size", [1, 2, 4])
@pytest.mark.parametrize("max_step_tokens", [3, 512])
@pytest.mark.parametrize("max_preemptions", [1, 1000])
def test_without_foresight_a_request_starts_as_soon_as_it_fits(
    block_size: int, max_step_tokens: int, max_preemptions: int
) -> None:
    """Even where looking ahead to the end would keep it out; its answer is the same."""
    world = crowded(max_preemptions, 64, max_step_tokens, block_size, foresight=False)
    world.run()
    world.check_answers()
    assert world.scheduler.counters.preemptions > 0


def test_looking_ahead_to_the_end_never_preempts() -> None:
    world = crowded(lookahead=64)
    world.run()
    world.check_answers()
    assert world.scheduler.counters.preemptions == 0


def test_the_last_to_arrive_gives_way_and_keeps_its_place() -> None:
    world = crowded()
    while not world.scheduler.counters.preemptions:
        world.step()
    (preempted,) = [event.request_id for event in world.log if isinstance(event, Preempted)]
    waiting = [request.request_id for request in world.scheduler.waiting]
    assert waiting == sorted(waiting)
    assert waiting[0] == preempted
    assert all(request.request_id < preempted for request in world.scheduler.running)


def test_nobody_starts_in_a_step_that_preempted() -> None:
    world = crowded()
    seen = 0
    while world.begin() is not None:
        before = len(world.log)
        world.finish()
        happened = world.log[before:]
        if any(isinstance(event, Preempted) for event in happened):
            assert not any(isinstance(event, Scheduled) for event in happened)
            seen += 1
    assert seen


def test_the_first_in_rank_goes_on_in_every_step() -> None:
    world = crowded()
    while (plan := world.begin()) is not None:
        first = world.scheduler.running[0]
        assert first.request_id in {chunk.request_id for chunk in plan.chunks}
        world.finish()


def test_a_request_at_the_cap_starts_only_with_all_the_blocks_it_may_need() -> None:
    world = crowded(max_preemptions=1)
    while world.begin() is not None:
        cache = world.scheduler.cache
        protected = [request for request in world.scheduler.running if request.preemptions == 1]
        assert sum(cache.blocks_for(request.peak_tokens) for request in protected) <= cache.pool.total
        world.finish()


def test_a_resumed_request_finds_its_own_blocks() -> None:
    """Preemption leaves what was computed in the cache, as long as nobody needs the room."""
    config = SchedulerConfig(kv_watermark=0.0, kv_lookahead_tokens=0)
    world = World(info(block_size=2, kv_blocks=12), config)
    world.submit(spec("a", [1, 2, 3], 12))
    world.submit(spec("b", [4, 5, 6], 14))
    world.run()
    world.check_answers()
    resumed = [event for event in world.log if isinstance(event, Scheduled) and event.resumed]
    assert resumed
    assert resumed[0].cached_tokens > 0
    assert world.scheduler.stats().cached_tokens == 0


def test_a_prefill_that_waits_behind_decodes_is_not_lost_when_one_of_them_gives_way() -> None:
    """A budget of one token goes to the decode of the later request. When that has to give way, the step must not be
    empty: the token goes to the earlier one, whose prompt is computed."""
    config = SchedulerConfig(max_step_tokens=1, kv_watermark=0.0, kv_lookahead_tokens=0)
    world = World(info(block_size=1, kv_blocks=9), config)
    for seed, size in enumerate((1, 4, 1)):
        world.submit(spec(f"r{seed}", [seed] * size, 5, seed=seed))
    world.run()
    world.check_answers()
