"""The search for capacity ends near the edge, wherever it starts."""

from __future__ import annotations

import pytest

from headway.policy.slo import Objective
from headway.sim.capacity import WIDENINGS_MAX, capacity
from headway.sim.lengths import Fixed
from headway.sim.run import simulate
from tests.sim.machines import machine, static, workload


@pytest.mark.parametrize(("low", "high"), [(1.0, 100.0), (1.0, 2.0), (50.0, 80.0), (22.9, 23.1)])
def test_the_edge_is_found_within_the_tolerance(low: float, high: float) -> None:
    found = capacity(lambda rate: 1.0 if rate <= 23.0 else 0.5, low, high)
    assert 23.0 / 1.02 <= found.rate <= 23.0
    assert found.attainment == 1.0
    assert (found.rate, 1.0) in found.tried


def test_a_machine_that_keeps_nothing_has_no_capacity_and_one_that_keeps_all_a_bound() -> None:
    nothing = capacity(lambda rate: 0.0, 1.0, 2.0)
    assert nothing.rate == 0.0
    assert len(nothing.tried) == WIDENINGS_MAX + 1
    assert capacity(lambda rate: 1.0, 1.0, 2.0).rate == 2.0**WIDENINGS_MAX


def test_the_capacity_of_a_machine_is_below_what_its_arithmetic_allows() -> None:
    """32 prompt tokens at 1 ms each: 1 / 32 ms = 31 requests a second, less the decodes."""

    def attainment(rate: float) -> float:
        hardware = machine(step_s=0.001, token_s=0.001)
        load = workload(Fixed(32), Fixed(4), objective=Objective(ttft_s=0.3))
        return simulate(load, hardware, static(64), rate=rate, seconds=30.0).attainment()

    assert 10.0 < capacity(attainment, 5.0, 40.0).rate < 28.0


def test_bounds_out_of_order_are_an_error() -> None:
    with pytest.raises(ValueError, match="in order"):
        capacity(lambda rate: 1.0, 2.0, 2.0)
