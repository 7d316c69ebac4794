"""The scheduler, one behaviour at a time."""

from __future__ import annotations

from dataclasses import replace

import pytest

from headway.policy.allowance import Allowance, TokenAllowance
from headway.policy.baselines import FirstComeFirstServed
from headway.policy.events import Finished, FinishReason, Rejected, Scheduled, TokenOut
from headway.policy.invariants import check
from headway.policy.plan import DrawnToken, ExecutorInfo, StepPlan, StepResult
from headway.policy.policy import Load, Scene
from headway.policy.scheduler import Scheduler, SchedulerConfig
from headway.policy.seats import LOOK_AGAIN_STEPS
from tests.policy.fake_executor import oracle
from tests.policy.world import KEY, WobblingPolicy, World, info, spec


def shape(plan: StepPlan | None) -> list[tuple[str, int, int, bool]]:
    """Who takes part in a step: (request, first position, tokens, draws)."""
    assert plan is not None
    return [(each.request_id, each.start, len(each.tokens), each.draw is not None) for each in plan.chunks]


# Batching.


def test_a_request_runs_from_its_prompt_to_its_last_token() -> None:
    world = World()
    world.submit(spec("a", 4, 3))
    assert shape(world.step()) == [("a", 0, 4, True)]
    assert shape(world.step()) == [("a", 4, 1, True)]
    assert shape(world.step()) == [("a", 5, 1, True)]
    assert world.step() is None
    world.check_answers()
    assert world.log[-1] == Finished("a", FinishReason.LENGTH, 4, 3, 0)


def test_decodes_come_first_then_prompts_then_new_requests() -> None:
    world = World(config=SchedulerConfig(max_step_tokens=8))
    world.submit(spec("a", 4, 8, seed=1))
    world.step()
    world.submit(spec("b", [9] * 12, 2))
    world.submit(spec("c", [8] * 4, 2))
    assert shape(world.step()) == [("a", 4, 1, True), ("b", 0, 7, False)]
    assert shape(world.step()) == [("a", 5, 1, True), ("b", 7, 5, True), ("c", 0, 2, False)]
    assert shape(world.step()) == [("a", 6, 1, True), ("b", 12, 1, True), ("c", 2, 2, True)]
    world.run()
    world.check_answers()


def test_no_more_than_max_running_hold_blocks() -> None:
    world = World(config=SchedulerConfig(max_running=2))
    for name in "abc":
        world.submit(spec(name, 2, 3))
    assert len(shape(world.step())) == 2
    assert world.run() > 0
    world.check_answers()


def test_a_draw_carries_what_its_rules_read() -> None:
    world = World()
    plain, penalised = spec("a", 3, 3), spec("b", 3, 3)
    penalised = replace(penalised, sampling=replace(penalised.sampling, presence_penalty=1.0))
    world.submit(plain)
    world.submit(penalised)
    world.step()
    plan = world.step()
    assert plan is not None
    draws = [chunk.draw for chunk in plan.chunks]
    assert draws[0] is not None
    assert draws[1] is not None
    assert (draws[0].history, draws[0].output_index, draws[0].prompt_tokens) == ((), 1, 3)
    assert draws[1].history == (0, 1, 2, world.output("b")[0])


def test_the_policy_is_asked_before_every_step() -> None:
    loads: list[tuple[float, int, int, int]] = []

    class Halving(FirstComeFirstServed):
        """Half as many tokens each time."""

        def allowance(self, now: float, load: Load, scene: Scene) -> Allowance:
            loads.append((now, len(load.decodes), len(load.prefills), scene.waiting.tokens))
            return TokenAllowance(max(1, 16 >> len(loads)))

    scheduler = Scheduler(info(), SchedulerConfig(), prefix_key=KEY, policy=Halving())
    scheduler.submit(0.0, spec("a", 14, 2))
    scheduler.submit(0.0, spec("b", 3, 2))
    sizes = []
    for step in range(3):
        plan = scheduler.plan(float(step))
        assert plan is not None
        sizes.append(plan.token_count)
        scheduler.apply(float(step), StepResult(plan.step_id, ()))
    assert sizes == [8, 4, 2]
    assert loads == [(0.0, 0, 0, 17), (1.0, 0, 1, 3), (2.0, 0, 1, 3)]


def test_a_budget_below_the_number_of_decodes_serves_the_first_to_arrive() -> None:
    world = World(policy=WobblingPolicy(16, 2))
    for name in "abc":
        world.submit(spec(name, 1, 5))
    assert shape(world.step()) == [("a", 0, 1, True), ("b", 0, 1, True), ("c", 0, 1, True)]
    assert shape(world.step()) == [("a", 1, 1, True), ("b", 1, 1, True)]
    world.run()
    world.check_answers()


def test_planning_twice_is_an_error_of_the_caller() -> None:
    world = World()
    world.submit(spec("a"))
    world.begin()
    with pytest.raises(AssertionError, match="in flight"):
        world.scheduler.plan(world.now)


# The ends of a request.


def test_a_stop_token_ends_a_request_untold_but_counted() -> None:
    request = spec("a", 4, 20, seed=3)
    tokens, _ = oracle(request, 50)
    stop = tokens[5]
    world = World()
    world.submit(replace(request, sampling=replace(request.sampling, stop_token_ids=(stop,))))
    world.run()
    world.check_answers()
    told = tokens[: tokens.index(stop)]
    assert world.output("a") == told
    assert world.log[-1] == Finished("a", FinishReason.STOP, 4, len(told) + 1, 0)
    assert world.scheduler.stats().output_tokens == len(told) + 1


def test_a_stop_token_before_min_tokens_is_a_token() -> None:
    request = spec("a", 4, 6, seed=3)
    tokens, _ = oracle(request, 50)
    world = World()
    sampling = replace(request.sampling, stop_token_ids=(tokens[0], tokens[3]), min_tokens=2)
    world.submit(replace(request, sampling=sampling))
    world.run()
    world.check_answers()
    assert world.output("a") == tokens[:3]


def test_a_stop_token_as_the_last_token_allowed_is_a_stop() -> None:
    request = spec("a", 4, 1)
    (token,), _ = oracle(request, 50)
    world = World()
    world.submit(replace(request, sampling=replace(request.sampling, stop_token_ids=(token,))))
    world.run()
    assert world.log[-1] == Finished("a", FinishReason.STOP, 4, 1, 0)


def test_a_failed_draw_ends_its_request_alone_and_hides_its_blocks() -> None:
    """Fault case 34. Blocks that were shared are hidden as well: what is in them may be what made it fail."""
    world = World(info(kv_blocks=32))
    world.submit(spec("first", 8, 6))
    world.step()
    world.submit(spec("broken", 9, 6))
    world.submit(spec("other", [7] * 6, 6))
    world.step()
    world.executor.failing.add("broken")
    world.step()
    assert world.history.ended["broken"].output_tokens == 1
    assert world.history.ended["broken"].detail == "logits that are not numbers"
    world.submit(spec("later", 9, 2))
    world.run()
    world.check_answers(but=frozenset({"broken"}))
    assert Scheduled("broken", 8, resumed=False) in world.log
    assert Scheduled("later", 0, resumed=False) in world.log


def test_a_chunk_that_draws_nothing_may_fail_too() -> None:
    world = World(config=SchedulerConfig(max_step_tokens=4))
    world.submit(spec("a", 12, 2))
    world.executor.failing.add("a")
    world.step()
    assert world.reason("a") is FinishReason.FAILED
    assert world.scheduler.stats().kv_blocks_free == 16


def test_a_missing_token_fails_its_request() -> None:
    world = World()
    world.submit(spec("a"))
    plan = world.begin()
    assert plan is not None
    world.apply(StepResult(plan.step_id, ()))
    assert world.log[-1] == Finished("a", FinishReason.FAILED, 4, 0, 0, "the executor returned no token")
    assert world.scheduler.idle


def test_deadlines_end_requests_in_the_queue_in_prefill_and_in_decode() -> None:
    """Fault case 28: no work is planned past a deadline, whether ``expire`` was called or not."""
    world = World(info(kv_blocks=64), SchedulerConfig(max_step_tokens=8, max_running=2))
    world.submit(spec("decode", 4, 30, deadline_s=1.0))
    world.submit(spec("prefill", [5] * 40, 4, deadline_s=1.0))
    world.submit(spec("queue", 4, 4, deadline_s=1.0))
    world.submit(spec("last", 4, 4, deadline_s=9.0))
    world.step()
    world.step()
    assert world.scheduler.next_deadline_s() == 1.0
    world.now = 1.0
    assert shape(world.step()) == [("last", 0, 4, True)]
    assert {world.reason(name) for name in ("decode", "prefill", "queue")} == {FinishReason.EXPIRED}
    assert world.scheduler.next_deadline_s() == 9.0
    world.run()
    assert world.scheduler.next_deadline_s() is None
    world.check_answers(but=frozenset({"decode", "prefill", "queue"}))


def test_expired_requests_are_told_of_even_if_nothing_is_left_to_plan() -> None:
    world = World()
    world.submit(spec("a", deadline_s=1.0))
    world.now = 2.0
    assert world.begin() is None
    assert not world.scheduler.idle
    world.expire()
    assert world.reason("a") is FinishReason.EXPIRED
    assert world.scheduler.idle


@pytest.mark.parametrize("reason", [FinishReason.ABORTED, FinishReason.STOP])
def test_a_request_can_be_ended_in_every_state(reason: FinishReason) -> None:
    """Fault case 25: queued, in a prefill chunk, in decode, with the step in flight or not."""
    for steps, in_flight in [(0, False), (0, True), (1, False), (1, True), (3, False), (3, True)]:
        world = World(config=SchedulerConfig(max_step_tokens=6))
        world.submit(spec("a", 10, 8))
        world.submit(spec("b", [7, 7, 7], 4))
        for _ in range(steps):
            world.step()
        if in_flight:
            world.begin()
        world.abort("a", reason)
        assert world.reason("a") is reason
        if in_flight:
            world.finish()
        world.run()
        world.check_answers(but=frozenset({"a"}))


def test_ending_all_tells_each_request_once_even_if_the_books_are_broken() -> None:
    world = World(config=SchedulerConfig(max_running=2))
    for name in "abc":
        world.submit(spec(name, 6, 8))
    world.step()
    plan = world.begin()
    assert plan is not None
    world.scheduler.cache.pool = None  # type: ignore[assignment]
    events = world.scheduler.end_all(world.now, FinishReason.FAILED, "broken")
    ended = [event for event in events if isinstance(event, Finished)]
    assert [event.request_id for event in ended] == ["a", "b", "c"]
    assert {event.reason for event in ended} == {FinishReason.FAILED}
    assert world.scheduler.idle
    check(world.scheduler)
    assert world.scheduler.apply(world.now, StepResult(plan.step_id, ())) == []
    assert world.scheduler.end_all(world.now, FinishReason.FAILED, "again") == []
    assert world.scheduler.plan(world.now) is None
    assert isinstance(world.submit(spec("late", 2, 2)), Rejected)


def test_what_a_step_in_flight_writes_cannot_land_in_blocks_handed_out_again() -> None:
    """The whole cache belongs to a request that is aborted during a step; the next one gets the same blocks."""
    world = World(info(block_size=2, kv_blocks=4))
    world.submit(spec("a", [1, 2, 3], 5))
    world.step()
    world.step()
    held = set(world.scheduler.running[0].block_table)
    world.begin()
    world.abort("a")
    world.submit(spec("b", [4, 5, 6, 7, 8], 4))
    world.finish()
    world.step()
    assert held & set(world.scheduler.running[0].block_table)
    world.run()
    world.check_answers(but=frozenset({"a"}))


def test_aborting_who_is_not_there_is_counted_and_nothing_more() -> None:
    """Fault case 26."""
    world = World()
    world.abort("nobody")
    world.submit(spec("a"))
    world.abort("a")
    world.abort("a")
    assert world.scheduler.stats().ignored_aborts == 2
    assert [type(event).__name__ for event in world.log] == ["Queued", "Finished"]


# Results that come late, twice, or for nobody: fault case 35.


def test_results_of_no_step_in_flight_are_counted_and_change_nothing() -> None:
    world = World()
    world.submit(spec("a", 4, 6))
    early = StepResult(7, (DrawnToken("a", 1),))
    assert world.apply(early) == []
    world.begin()
    assert world.apply(early) == [Scheduled("a", 0, resumed=False)]
    result = world.finish()
    assert world.apply(result) == []
    world.begin()
    assert world.apply(result) == []
    world.finish()
    world.run()
    world.check_answers()
    assert world.scheduler.stats().stale_results == 4


def test_tokens_for_nobody_are_counted_and_change_nothing() -> None:
    world = World(config=SchedulerConfig(max_step_tokens=6))
    world.submit(spec("a", 4, 6))
    world.submit(spec("b", [9] * 8, 6))
    world.begin()
    result = world.executor.finish()
    strange = (DrawnToken("a", 49), DrawnToken("b", 49), DrawnToken("nobody", 49))
    world.apply(replace(result, drawn=(*result.drawn, *strange)))
    world.run()
    world.check_answers()
    assert world.scheduler.stats().discarded_tokens == 3


def test_a_result_does_not_reach_a_new_request_of_the_same_id() -> None:
    world = World()
    world.submit(spec("a", 4, 6))
    world.begin()
    world.abort("a")
    world.submit(spec("a", [9, 9], 3))
    world.finish()
    assert world.output("a") == []
    world.run()
    world.check_answers()


# The prefix cache.


def test_a_known_prefix_is_not_computed_again() -> None:
    world = World(info(block_size=4, kv_blocks=32))
    world.submit(spec("a", 10, 6))
    world.run()
    known = [*range(10), *world.output("a")]
    world.submit(spec("b", [*known, 1, 2], 2))
    assert shape(world.step()) == [("b", 12, 6, True)]
    world.run()
    world.check_answers()
    assert isinstance(world.log[-1], Finished)
    assert world.log[-1].cached_tokens == 12
    assert world.scheduler.stats().cached_tokens == 12


def test_a_prompt_known_as_a_whole_still_computes_its_last_block() -> None:
    world = World(info(block_size=4, kv_blocks=32))
    for name in "ab":
        world.submit(spec(name, 8, 4))
        world.run()
    assert Scheduled("b", 4, resumed=False) in world.log
    world.check_answers()


def test_tenants_do_not_find_each_other() -> None:
    world = World(info(block_size=4, kv_blocks=32))
    world.submit(spec("a", 9, 2, salt=b"one"))
    world.run()
    world.submit(spec("b", 9, 2, salt=b"two"))
    world.run()
    assert Scheduled("b", 0, resumed=False) in world.log


def test_blocks_in_use_are_shared() -> None:
    world = World(info(block_size=4, kv_blocks=32))
    world.submit(spec("a", 9, 8))
    world.step()
    world.submit(spec("b", 9, 8, seed=5))
    world.step()
    first, second = world.scheduler.running
    assert first.block_table[:2] == second.block_table[:2]
    world.run()
    world.check_answers()


def test_many_sharers_of_a_long_prompt_run_at_once() -> None:
    """Shared blocks count once at admission: four prompts of 8 blocks go into 16 blocks."""
    world = World(info(block_size=4, kv_blocks=16), SchedulerConfig(kv_watermark=0.0))
    world.submit(spec("a", 33, 4))
    world.step()
    for seed, name in enumerate("bcd"):
        world.submit(spec(name, 33, 4, seed=seed))
    world.step()
    assert len(world.scheduler.running) == 4
    world.run()
    world.check_answers()


def test_a_head_that_did_not_fit_is_looked_at_again_when_others_have_published() -> None:
    """Nobody leaves, but what the first computes makes the second smaller."""
    config = SchedulerConfig(kv_watermark=0.0, kv_lookahead_tokens=0)
    world = World(info(block_size=4, kv_blocks=12), config)
    world.submit(spec("a", 25, 20))
    world.submit(spec("b", 25, 4))
    steps = 0
    while len(world.scheduler.running) < 2:
        world.step()
        steps += 1
    assert steps == LOOK_AGAIN_STEPS + 1
    world.run()
    world.check_answers()


# Losing the executor.


def test_a_lost_executor_costs_no_token_and_gives_none_twice() -> None:
    for steps, in_flight in [(0, True), (1, True), (2, False), (4, True)]:
        world = World(config=SchedulerConfig(max_step_tokens=12))
        for seed, name in enumerate("abc"):
            world.submit(spec(name, 6 + seed, 6, seed=seed))
        for _ in range(steps):
            world.step()
        result = None
        if in_flight:
            plan = world.begin()
            assert plan is not None
            result = world.executor.run(plan)
        world.lose_executor()
        world.lose_executor()
        assert [request.order for request in world.scheduler.waiting] == [0, 1, 2]
        if result is not None:
            assert world.apply(result) == []
        world.run()
        world.check_answers()
        assert world.scheduler.stats().preemptions == 0


def test_tokens_computed_again_are_no_cache_hits() -> None:
    world = World()
    world.submit(spec("a", 9, 4))
    world.submit(spec("b", 9, 4, seed=1))
    world.step()
    world.lose_executor()
    world.run()
    stats = world.scheduler.stats()
    assert (stats.prompt_tokens, stats.cached_tokens, stats.displaced) == (18, 0, 2)
    assert all(event.cached_tokens == 0 for event in world.log if isinstance(event, Finished))


def test_a_smaller_executor_fails_what_no_longer_fits_and_runs_the_rest() -> None:
    world = World(info(block_size=4, kv_blocks=16))
    world.submit(spec("large", 30, 20))
    world.submit(spec("small", 5, 6))
    world.submit(spec("queued", 30, 25))
    world.step()
    world.lose_executor(ExecutorInfo(block_size=2, kv_blocks=12, context_tokens=64, vocab_size=50))
    assert world.reason("large") is world.reason("queued") is FinishReason.FAILED
    world.run()
    world.submit(spec("later", 5, 2))
    world.run()
    assert Scheduled("later", 4, resumed=False) in world.log
    world.check_answers(but=frozenset({"large", "queued"}))


# Events.


def test_events_come_in_the_order_of_what_happened() -> None:
    world = World()
    world.submit(spec("a", 4, 2))
    world.begin()
    world.abort("nobody")  # brings out what the plan did
    assert world.log[-1] == Scheduled("a", 0, resumed=False)
    world.finish()
    world.step()
    names = [type(event).__name__ for event in world.log]
    assert names == ["Queued", "Scheduled", "TokenOut", "TokenOut", "Finished"]


def test_log_probabilities_are_passed_on() -> None:
    world = World()
    world.submit(spec("a", 4, 2))
    plan = world.begin()
    assert plan is not None
    events = world.apply(StepResult(plan.step_id, (DrawnToken("a", 3, -0.5, ((3, -0.5), (1, -1.0))),)))
    assert events[-1] == TokenOut("a", 0, 3, -0.5, ((3, -0.5), (1, -1.0)))
