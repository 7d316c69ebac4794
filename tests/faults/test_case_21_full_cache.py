"""Case 21: the cache is overcommitted and everybody goes on to the last token. Nobody is put off over and over, what
is computed again is bounded, and every answer is what it would have been alone."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from headway.policy.controller import PromisePolicy
from headway.policy.events import Finished, FinishReason, Preempted, Scheduled
from headway.policy.policies import build
from headway.policy.policy import Policy
from headway.policy.scheduler import SchedulerConfig
from headway.policy.slo import CONVERSATIONAL, Objective, ServiceClasses
from headway.sim.result import Window
from headway.sim.run import simulate
from tests.faults.loads import CAPACITY, CHAT, MACHINE, make
from tests.policy.promises import KnownModel
from tests.policy.world import World, info, spec

PROMPT, ANSWER = 8, 40
REQUESTS = 12


def crowded(policy: Policy, *, batch: int = 0) -> World:
    """Room for three and a half at their ends, and twelve that want in; the first ``batch`` of them without a promise.
    Nothing is expected of them, so all that fit now are let in."""
    config = SchedulerConfig(kv_lookahead_tokens=0, kv_watermark=0.0, kv_deferrable_watermark=0.0)
    world = World(info(block_size=4, kv_blocks=42), config, policy)
    for number in range(REQUESTS):
        request = spec(f"r{number}", [number] * PROMPT, ANSWER)
        if number >= batch:
            patient = Objective(ttft_s=60.0, itl_s=60.0)
            request = replace(request, service_class=CONVERSATIONAL.name, objective=patient)
        world.submit(request)
    return world


def policies() -> list[Policy]:
    return [build("static"), PromisePolicy(KnownModel(), ServiceClasses())]


@pytest.mark.parametrize("policy", policies(), ids=lambda policy: type(policy).__name__)
def test_case_21_no_ping_pong_and_every_answer_as_if_alone(policy: Policy) -> None:
    world = crowded(policy)
    steps = world.run()
    world.check_answers()
    assert {each.reason for each in world.log if isinstance(each, Finished)} == {FinishReason.LENGTH}
    preempted = Counter(each.request_id for each in world.log if isinstance(each, Preempted))
    assert preempted, "the cache was too small for all"
    assert max(preempted.values()) <= world.scheduler.config.max_preemptions
    alone = REQUESTS * (PROMPT + ANSWER - 1)
    computed = sum(plan_tokens for plan_tokens in (world.scheduler.counters.output_tokens, REQUESTS * PROMPT))
    assert computed == REQUESTS * (PROMPT + ANSWER)
    recomputed = sum(each.output_tokens + PROMPT for each in world.log if isinstance(each, Preempted))
    assert recomputed < alone, "less was computed again than in the first place"
    assert steps < REQUESTS * ANSWER, "and several went on at once"


def test_case_21_batch_gives_way_before_others() -> None:
    world = crowded(PromisePolicy(KnownModel(), ServiceClasses()), batch=4)
    for _ in range(5):
        world.step()
    world.run()
    world.check_answers()
    names = {f"r{number}" for number in range(4)}
    running: set[str] = set()
    put_off: Counter[str] = Counter()
    for event in world.log:
        if isinstance(event, Scheduled):
            running.add(event.request_id)
        elif isinstance(event, Preempted):
            running.discard(event.request_id)
            put_off[event.request_id] += 1
            may_go = {name for name in running & names if put_off[name] < world.scheduler.config.max_preemptions}
            assert event.request_id in names or not may_go, f"{event.request_id} went while {may_go} ran"
        elif isinstance(event, Finished):
            running.discard(event.request_id)
    assert sum(put_off.values()) > 0


def test_case_21_more_room_is_never_worse() -> None:
    """Number 21: goodput past capacity, from a cache that is far too small to one that is not."""
    goodputs = [goodput_with(kv_blocks) for kv_blocks in (24, 48, 96, 192, 4096)]
    assert all(later >= 0.95 * max(goodputs[:number]) for number, later in enumerate(goodputs) if number), goodputs
    assert goodputs[0] < 0.9 * goodputs[-1], f"the smallest was not small: {goodputs}"


def goodput_with(kv_blocks: int) -> float:
    seconds = 60.0
    machine = replace(MACHINE, info=replace(MACHINE.info, kv_blocks=kv_blocks, context_tokens=16 * kv_blocks))
    result = simulate(CHAT, machine, make, rate=1.5 * CAPACITY, seconds=seconds, seed=1, window=Window(0.0, seconds))
    return result.summary().goodput
