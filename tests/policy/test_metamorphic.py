"""What is done to one request changes no other one's answer: every moment of a crowded run is tried."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from headway.policy.scheduler import SchedulerConfig
from tests.policy.world import World, info, spec

NAMES = ["a", "b", "c", "d"]


def crowded() -> World:
    """Four requests, two with the same beginning, in a cache that is too small for them."""
    config = SchedulerConfig(max_step_tokens=7, max_running=3, kv_watermark=0.0, kv_lookahead_tokens=1)
    world = World(info(block_size=2, kv_blocks=12), config)
    world.submit(spec("a", [1, 2, 3, 4, 5], 10, seed=1))
    world.submit(spec("b", [1, 2, 3, 4, 6], 12, seed=2))
    world.submit(spec("c", [9, 8], 14, seed=3))
    world.submit(spec("d", [1, 2, 3, 4, 5, 6, 7], 6, seed=4))
    return world


def disturb_everywhere(disturb: Callable[[World], None], spared: frozenset[str]) -> None:
    """Run the world once for each moment: before and during every step."""
    undisturbed = crowded().run()
    for moment in range(undisturbed):
        for in_flight in (False, True):
            world = crowded()
            for _ in range(moment):
                world.step()
            started = in_flight and world.begin() is not None
            disturb(world)
            if started and world.executor.plan is not None:
                world.finish()
            world.run()
            world.check_answers(but=spared)


def test_the_crowded_world_is_crowded() -> None:
    world = crowded()
    world.run()
    world.check_answers()
    assert world.scheduler.counters.preemptions > 0
    assert world.scheduler.counters.cached_tokens > 0


@pytest.mark.parametrize("name", NAMES)
def test_an_abort_changes_no_other_answer(name: str) -> None:
    disturb_everywhere(lambda world: world.abort(name), frozenset({name}))


@pytest.mark.parametrize("name", NAMES)
def test_a_failure_changes_no_other_answer(name: str) -> None:
    disturb_everywhere(lambda world: world.executor.failing.add(name), frozenset({name}))


def test_a_lost_executor_changes_no_answer() -> None:
    disturb_everywhere(lambda world: world.lose_executor(), frozenset())


def test_a_newcomer_changes_no_answer() -> None:
    def arrive(world: World) -> None:
        world.submit(spec("new", [1, 2, 3, 4, 5, 6], 9, seed=5))

    disturb_everywhere(arrive, frozenset())
