"""Case 24: long idle, then a burst. What was learned is as it was: limits that nobody leans on do not drift."""

from __future__ import annotations

import pytest

from headway.policy.controller import PromisePolicy
from headway.policy.slo import ServiceClasses
from headway.policy.steptime import StepTimeModel
from headway.sim.arrivals import Stages
from tests.faults.loads import CAPACITY, between, offered, share_in_slo
from tests.policy.promises import Machine, flood, scheduler

LEARNED = ("model_error", "model_coverage", "model_samples", "ttft_margin", "itl_margin")


def after(idle_s: float, trickle: bool) -> int:
    """How many of a burst are served in time after a busy time, idle time, and maybe a request now and then."""
    machine = Machine(scheduler(PromisePolicy(StepTimeModel(), ServiceClasses())))
    flood(machine, 10.0, 60.0)
    learned = {name: machine.scheduler.policy.numbers(0.0)[name] for name in LEARNED}
    machine.now += idle_s
    assert machine.step() is None
    if trickle:
        flood(machine, 60.0, 0.5, seed=3)
    else:
        assert {name: machine.scheduler.policy.numbers(0.0)[name] for name in LEARNED} == learned
    served = machine.scheduler.ledger.of("conversational").in_slo
    flood(machine, 5.0, 100.0, seed=2)
    return machine.scheduler.ledger.of("conversational").in_slo - served


def test_case_24_a_burst_is_served_as_well_after_as_before() -> None:
    at_once = after(10.0, trickle=False)
    for idle_s, trickle in ((60.0, False), (3600.0, True), (86_400.0, False)):
        assert after(idle_s, trickle) == pytest.approx(at_once, rel=0.1)


def test_case_24_in_a_long_run() -> None:
    load = Stages(((20.0, CAPACITY), (600.0, 0.05), (20.0, 2.0 * CAPACITY)))
    result = offered(load, 640.0)
    burst = between(result, 620.0, 640.0)
    assert share_in_slo(burst, admitted=True) >= 0.95
    assert sum(each.in_slo for each in burst) / 20.0 >= 0.9 * CAPACITY
