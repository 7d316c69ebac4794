"""Case 19: a prompt of the whole context comes among a hundred decodes. Nobody's gap grows past what was promised."""

from __future__ import annotations

from itertools import pairwise

import pytest

from headway.policy.controller import PromisePolicy
from headway.policy.request import RequestSpec
from headway.policy.slo import ServiceClasses
from tests.policy.promises import KnownModel, Machine, batch, promised, scheduler

ITL_S = 0.1
LONG = 8000


@pytest.mark.parametrize(
    "newcomer", [promised("long", LONG, ttft_s=60.0, itl_s=ITL_S), batch("long", LONG)], ids=["promised", "batch"]
)
def test_case_19_gaps_stay_as_promised(newcomer: RequestSpec) -> None:
    machine = Machine(scheduler(PromisePolicy(KnownModel(), ServiceClasses())))
    names = [f"d{number}" for number in range(100)]
    machine.submit(*(promised(name, 4, max_tokens=4000, ttft_s=60.0, itl_s=ITL_S) for name in names))
    for _ in range(20):
        machine.step()
    assert len(machine.token_times) == 100
    came = len(machine.plans)
    machine.submit(newcomer)
    while "long" not in machine.token_times:
        assert machine.step() is not None
        assert len(machine.plans) < came + 1000
    gaps = [later - earlier for name in names for earlier, later in pairwise(machine.token_times[name][20:])]
    assert len(gaps) > 100 * 50
    assert max(gaps) <= ITL_S
    beside = machine.plans[came:]
    assert all(len(plan.chunks) >= 100 for plan in beside), "and everybody goes on in every step"
    assert max(plan.token_count for plan in beside) < 300, "8,000 tokens would take four seconds"
