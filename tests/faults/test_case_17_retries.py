"""Case 17: twice the capacity, and every refusal comes back as the official client's do."""

from __future__ import annotations

from headway.sim.arrivals import Stages
from headway.sim.clients import OPENAI_SDK
from tests.faults.loads import CAPACITY, between, offered, share_in_slo


def goodput(load: float) -> float:
    result = offered(load * CAPACITY, 60.0, client=OPENAI_SDK)
    return sum(each.in_slo for each in between(result, 10.0, 60.0)) / 50.0


def test_case_17_goodput_stays_at_its_peak() -> None:
    """Number 21 too."""
    by_load = {load: goodput(load) for load in (0.5, 1.0, 1.5, 2.0, 4.0)}
    assert by_load[2.0] >= 0.9 * max(by_load[load] for load in (0.5, 1.0, 1.5, 2.0)), by_load
    assert by_load[4.0] >= by_load[1.0], by_load


def test_case_17_all_is_well_soon_after_the_load_has_dropped() -> None:
    load = Stages(((60.0, 2.0 * CAPACITY), (60.0, 0.7 * CAPACITY)))
    result = offered(load, 120.0, client=OPENAI_SDK)
    assert any(each.attempts > 1 for each in between(result, 20.0, 60.0))
    assert share_in_slo(between(result, 20.0, 60.0), admitted=True) >= 0.95
    assert share_in_slo(between(result, 65.0, 120.0)) >= 0.95, "five seconds later"
