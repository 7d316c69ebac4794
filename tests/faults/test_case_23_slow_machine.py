"""Case 23: the machine is three times as slow for half a minute, and then as before; one step takes a hundred times
as long; a time is not a number. What a step takes follows within steps, and neither swings nor stays low."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest

from headway.policy.controller import PromisePolicy
from headway.policy.slo import ServiceClasses
from headway.policy.stepshape import StepShape
from headway.policy.steptime import StepTimeModel
from headway.sim.faults import Faults, Outlier, SlowSteps
from tests.faults.loads import CAPACITY, between, offered, share_in_slo
from tests.policy.promises import STEP_S, TOKEN_S, Machine, promised, scheduler

DECODES = 10
ITL_S = 0.1
SOON = 6
"""Steps within which the limit has followed."""


def learned() -> Machine:
    """Decodes, and prompts without end beside them: every step is as large as it may be. The model has learned."""
    model = StepTimeModel()
    for _ in range(4):
        for tokens in (1, 2, 4, 8, 16, 32, 64, 128, 256, 512):
            model.observe(StepShape(tokens, 1, 0, tokens * tokens / 2), STEP_S + TOKEN_S * tokens)
            count = min(tokens, 64)
            model.observe(StepShape(count, count, 50 * count, 0.0), STEP_S + TOKEN_S * count)
    model.calibrated()
    machine = Machine(scheduler(PromisePolicy(model, ServiceClasses()), kv_blocks=8192))
    machine.submit(*(promised(f"d{n}", 1, max_tokens=7000, ttft_s=60.0, itl_s=ITL_S) for n in range(DECODES)))
    limits(machine, 200)
    return machine


def limits(machine: Machine, steps: int) -> list[int]:
    """How many tokens each of the next steps took."""
    taken: list[int] = []
    for _ in range(steps):
        if machine.scheduler.stats().running + machine.scheduler.stats().waiting < DECODES + 2:
            machine.submit(promised(f"p{machine.now:.6f}", 7000, 1, ttft_s=3600.0, itl_s=ITL_S))
        plan = machine.step()
        assert plan is not None
        taken.append(plan.token_count)
    return taken


def steady(taken: list[int]) -> float:
    """The usual size, after making sure that nearly all are near it (a prompt's end makes a small one)."""
    usual = sorted(taken)[len(taken) // 2]
    assert sum(abs(each - usual) <= 0.15 * usual for each in taken) >= 0.9 * len(taken), taken
    return usual


def test_case_23_the_limit_follows_a_machine_that_slows_down_and_comes_back() -> None:
    machine = learned()
    before = steady(limits(machine, 100))
    machine.slowness = 3.0
    falling = limits(machine, 300)
    slow = steady(falling[100:])  # the margin takes a second look after the model has followed
    assert slow < before / 3, "the constant part is three times as long too"
    assert slow * TOKEN_S * 3.0 + 3.0 * STEP_S <= ITL_S
    machine.slowness = 1.0
    rising = limits(machine, 300)
    after = steady(rising[100:])
    assert after == pytest.approx(before, rel=0.1)


def test_case_23_few_gaps_are_late_for_it() -> None:
    machine = learned()
    machine.slowness = 3.0
    start = len(machine.token_times["d0"])
    limits(machine, 300)
    times = machine.token_times["d0"][start:]
    late = [later - earlier > ITL_S for earlier, later in pairwise(times)]
    assert sum(late[:SOON]) <= 3
    assert sum(late) <= 0.06 * len(late), "steps are planned so that 95 % of them are in time"


def test_case_23_one_step_of_a_hundred_times_the_length_changes_nothing() -> None:
    machine = learned()
    before = steady(limits(machine, 100))
    machine.slowness = 100.0
    limits(machine, 1)
    machine.slowness = 1.0
    after = limits(machine, 100)
    assert steady(after) == pytest.approx(before, rel=0.1)
    assert min(after) > before / 4


@pytest.mark.parametrize("elapsed_s", [math.nan, math.inf, -math.inf, -1.0, 0.0, 1e300])
def test_case_23_what_is_no_time_changes_nothing(elapsed_s: float) -> None:
    machine = learned()
    policy = machine.scheduler.policy
    before = dict(policy.numbers(0.0))
    for _ in range(100):
        policy.observe(machine.now, StepShape(100, 10, 500, 1000.0), elapsed_s)
    assert dict(policy.numbers(0.0)) == before


def test_case_23_under_load_who_is_let_in_is_on_time_all_the_same() -> None:
    faults = Faults(slow=(SlowSteps(30.0, 60.0, 3.0),), outliers=(Outlier(80.0, 100.0),))
    result = offered(0.5 * CAPACITY, 130.0, faults=faults)
    assert share_in_slo(between(result, 35.0, 58.0), admitted=True) >= 0.9
    assert share_in_slo(between(result, 62.0, 75.0)) >= 0.9
    assert share_in_slo(between(result, 95.0, 130.0)) >= 0.95
    assert share_in_slo(list(result.records), admitted=True) >= 0.9
