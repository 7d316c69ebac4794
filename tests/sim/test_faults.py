"""Faults: each does what it says, where it says, and nothing more."""

from __future__ import annotations

from random import Random

import pytest

from headway.sim.arrivals import Regular
from headway.sim.faults import Faults, LostWorker, Outlier, Slowness, SlowSteps, swarm
from headway.sim.lengths import Fixed
from headway.sim.record import Outcome
from headway.sim.result import Result
from headway.sim.run import simulate
from tests.sim.machines import STEP_S, machine, static, workload


def one_request(faults: Faults) -> Result:
    """It comes at 1 s, and takes 29 steps of 10 ms."""
    load = workload(Fixed(4), Fixed(29), process=Regular())
    return simulate(load, machine(), static(64), rate=1.0, seconds=1.5, faults=faults)


def test_slow_steps_take_longer_while_they_last() -> None:
    slowness = Slowness(Faults(slow=(SlowSteps(1.0, 2.0, 3.0), SlowSteps(1.5, 4.0, 2.0))))
    assert [slowness.factor(now) for now in (0.5, 1.0, 1.5, 2.0, 4.0)] == [1.0, 3.0, 6.0, 2.0, 1.0]


def test_case_23_an_outlier_is_one_step() -> None:
    [record] = one_request(Faults(outliers=(Outlier(1.1, 100.0),))).records
    assert record.itl_worst_s == pytest.approx(100 * STEP_S)
    assert record.itl_p95_s == pytest.approx(STEP_S)
    assert record.e2e_s == pytest.approx(128 * STEP_S)


def test_case_31_a_lost_worker_costs_the_step_its_absence_and_the_tokens_computed_again() -> None:
    [record] = one_request(Faults(lost=(LostWorker(1.105, 0.5),))).records
    assert record.outcome is Outcome.SERVED
    assert record.output_tokens == 29
    assert record.e2e_s == pytest.approx(0.105 + 0.5 + 19 * STEP_S)  # so many draws were left
    assert record.itl_worst_s == pytest.approx(0.505 + STEP_S)


def test_case_25_clients_that_leave_are_aborted() -> None:
    load = workload(Fixed(4), Fixed(100))
    faults = Faults(abort_share=0.5, abort_mean_s=0.2)
    result = simulate(load, machine(), static(64), rate=20.0, seconds=20.0, faults=faults)
    left = [record for record in result.records if record.outcome is Outcome.ABORTED]
    assert 0.3 * len(result.records) < len(left) < 0.55 * len(result.records)
    assert not any(record.in_slo for record in left)
    assert all(record.output_tokens < 100 for record in left)


def test_a_swarm_is_drawn_by_seed_and_turns_every_kind_on_and_off() -> None:
    assert swarm(Random(7), 10.0) == swarm(Random(7), 10.0)
    drawn = [swarm(Random(seed), 10.0) for seed in range(50)]
    for kind in ("slow", "outliers", "lost", "abort_share"):
        assert {bool(getattr(faults, kind)) for faults in drawn} == {True, False}


@pytest.mark.parametrize("wrong", [{"abort_share": 1.5}, {"abort_mean_s": 0.0}, {"slow": (SlowSteps(0.0, 1.0, 0.0),)}])
def test_faults_that_can_not_be_are_errors(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="must be"):
        Faults(**wrong)  # type: ignore[arg-type]
