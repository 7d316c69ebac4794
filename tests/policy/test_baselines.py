"""The policies to be beaten do what they are known for."""

from __future__ import annotations

import pytest

from headway.policy.allowance import TokenAllowance
from headway.policy.baselines import AimdPolicy, StaticPolicy
from headway.policy.events import Preempted
from headway.policy.policies import POLICIES, VLLM_CONFIG, VLLM_STEP_TOKENS, build, default_step_tokens
from headway.policy.policy import Load
from headway.policy.request import Request
from tests.policy.promises import Machine, batch, promised, request, scene, scheduler


def tokens(policy: AimdPolicy | StaticPolicy, cap: int = 8192) -> int:
    allowance = policy.allowance(0.0, Load(), scene(max_step_tokens=cap))
    assert isinstance(allowance, TokenAllowance)
    return allowance.limit


def ended(kept: bool) -> Request:
    made = request(promised("r", ttft_s=1.0))
    made.told, made.first_token_s = 1, 0.5 if kept else 2.0
    return made


def judged(policy: AimdPolicy, *, kept: int, late: int) -> None:
    for number in range(kept + late):
        policy.finished(3.0, ended(number < kept))


@pytest.mark.parametrize("name", POLICIES)
def test_every_policy_serves_everybody_who_has_time(name: str) -> None:
    machine = Machine(scheduler(build(name)))
    machine.submit(
        promised("a", 40, ttft_s=60.0, itl_s=60.0), batch("b", 40), promised("c", 3, ttft_s=60.0, itl_s=60.0)
    )
    machine.run()
    assert {name: len(times) for name, times in machine.token_times.items()} == {"a": 4, "b": 4, "c": 4}


def test_a_name_that_is_none_is_an_error() -> None:
    with pytest.raises(ValueError, match="there is no policy 'best'; there are headway, static"):
        build("best")


def test_a_static_step_takes_so_many_tokens_and_no_more() -> None:
    assert tokens(StaticPolicy(), cap=100) == 100
    assert default_step_tokens("static") == default_step_tokens("vllm") == VLLM_STEP_TOKENS


def test_first_come_is_first_served_whatever_was_promised() -> None:
    machine = Machine(scheduler(build("static")))
    machine.submit(batch("first"), promised("second", ttft_s=0.001))
    machine.step()
    assert [chunk.request_id for chunk in machine.plans[0].chunks] == ["first", "second"]


def test_prefill_first_puts_no_decode_beside_a_prompt() -> None:
    machine = Machine(scheduler(build("prefill-first")))
    machine.submit(promised("decodes", max_tokens=5))
    machine.step()
    machine.submit(promised("comes", max_tokens=5))
    for expected in (["comes"], ["decodes", "comes"]):
        plan = machine.step()
        assert plan is not None
        assert [chunk.request_id for chunk in plan.chunks] == expected


def test_aimd_grows_by_a_step_while_all_is_well() -> None:
    policy = AimdPolicy()
    before = tokens(policy)
    judged(policy, kept=policy.WINDOW - 1, late=0)
    assert tokens(policy) == before
    judged(policy, kept=1, late=0)
    assert tokens(policy) == before + policy.TOKENS_STEP


def test_aimd_shrinks_by_a_share_when_it_is_not() -> None:
    policy = AimdPolicy()
    before = tokens(policy)
    judged(policy, kept=policy.WINDOW - 2, late=2)
    assert tokens(policy) == int(before * policy.SHARE)


def test_aimd_stays_within_its_bounds() -> None:
    policy = AimdPolicy()
    for _ in range(100):
        judged(policy, kept=0, late=policy.WINDOW)
    assert tokens(policy) == policy.TOKENS_MIN
    for _ in range(1000):
        judged(policy, kept=policy.WINDOW, late=0)
        assert tokens(policy, cap=500) <= 500
    assert tokens(policy, cap=500) == 500
    judged(policy, kept=0, late=policy.WINDOW)
    assert tokens(policy, cap=500) < 500, "what it grew to beyond the cap doesn't count"


def test_vllm_starts_what_fits_now_and_takes_the_last_back_when_it_does_not_fit_any_more() -> None:
    """Two requests of one block, each of which needs two in the end, and three blocks."""
    machine = Machine(scheduler(build("vllm"), VLLM_CONFIG, kv_blocks=3))
    machine.submit(batch("first", 16, max_tokens=8), batch("last", 16, max_tokens=8))
    machine.run()
    assert [event.request_id for event in machine.of(Preempted)] == ["last"]
    assert {name: len(times) for name, times in machine.token_times.items()} == {"first": 8, "last": 8}
