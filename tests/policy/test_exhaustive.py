"""Tiny worlds, enumerated completely: three small requests in a cache that holds four tokens."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product

import pytest

from headway.policy import invariants
from headway.policy.controller import PromisePolicy
from headway.policy.events import FinishReason
from headway.policy.scheduler import SchedulerConfig
from headway.policy.slo import NO_PROMISE, Objective, ServiceClasses
from tests.policy.promises import KnownModel
from tests.policy.world import World, info, spec

SIZES = [(1, 1), (1, 4), (2, 3), (3, 2), (4, 1)]
STEPS_MAX = 60


PROMISES = (NO_PROMISE, Objective(ttft_s=1.0, itl_s=1.0))


def promised(block_size: int, max_preemptions: int) -> Iterator[World]:
    """Every mix of few sizes and of who was promised something, under the policy that keeps promises."""
    config = SchedulerConfig(kv_watermark=0.0, kv_lookahead_tokens=0, max_preemptions=max_preemptions)
    for sizes in product([(1, 4), (2, 3), (3, 1)], repeat=3):
        for promises in product(PROMISES, repeat=3):
            policy = PromisePolicy(KnownModel(), ServiceClasses())
            world = World(info(block_size=block_size, kv_blocks=4 // block_size), config, policy)
            for number, ((prompt, max_tokens), promise) in enumerate(zip(sizes, promises, strict=True)):
                if number == 2:
                    world.step()
                name = "batch" if promise is NO_PROMISE else "conversational"
                plain = spec(f"r{number}", prompt, max_tokens, seed=number)
                world.submit(replace(plain, service_class=name, objective=promise))
            yield world


@pytest.mark.parametrize("max_preemptions", [0, 1, 2])
@pytest.mark.parametrize("block_size", [1, 2])
def test_every_mix_of_promises_ends_as_the_oracle_says(block_size: int, max_preemptions: int) -> None:
    for world in promised(block_size, max_preemptions):
        assert world.run() <= STEPS_MAX
        shed = {name for name, end in world.history.ended.items() if end.reason is FinishReason.SHED}
        world.check_answers(but=frozenset(shed))
        assert not any(map(world.output, shed)), "and nothing was computed for who was refused"
        invariants.check_ledger(world.scheduler)
        invariants.check_counters(world.scheduler, world.history)


def worlds(block_size: int, max_step_tokens: int, max_preemptions: int) -> Iterator[World]:
    """Every mix of sizes; the third request comes a step after the others."""
    config = SchedulerConfig(
        max_step_tokens=max_step_tokens, kv_watermark=0.0, kv_lookahead_tokens=0, max_preemptions=max_preemptions
    )
    for sizes in product(SIZES, repeat=3):
        world = World(info(block_size=block_size, kv_blocks=4 // block_size), config)
        for number, (prompt, max_tokens) in enumerate(sizes):
            if number == 2:
                world.step()
            world.submit(spec(f"r{number}", prompt, max_tokens, seed=number))
        yield world


@pytest.mark.parametrize("max_preemptions", [0, 1, 2])
@pytest.mark.parametrize("max_step_tokens", [1, 2, 8])
@pytest.mark.parametrize("block_size", [1, 2])
def test_every_mix_ends_as_the_oracle_says(block_size: int, max_step_tokens: int, max_preemptions: int) -> None:
    for world in worlds(block_size, max_step_tokens, max_preemptions):
        assert world.run() <= STEPS_MAX
        world.check_answers()


@pytest.mark.parametrize("disturbance", ["abort", "fail", "lose"])
def test_every_mix_disturbed_at_every_step(disturbance: str) -> None:
    steps = 0
    while True:
        reached = False
        for world in worlds(block_size=1, max_step_tokens=8, max_preemptions=1):
            taken = sum(world.step() is not None for _ in range(steps))
            reached |= taken == steps
            world.begin()
            match disturbance:
                case "abort":
                    world.abort("r1")
                case "fail":
                    world.executor.failing.add("r1")
                case _:
                    world.lose_executor()
            if world.executor.plan is not None:
                world.finish()
            assert world.run() <= STEPS_MAX
            world.check_answers(but=frozenset({"r1"} if disturbance != "lose" else ()))
        if not reached:
            break
        steps += 1
    assert steps > 5
