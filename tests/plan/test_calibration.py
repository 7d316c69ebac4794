"""Two parameters from a few points, robustly."""

from __future__ import annotations

import math

import pytest

from headway.plan.calibration import StepPoint, deviation, fit, left_over, with_band
from headway.plan.engine import Calibration
from headway.plan.errors import PlanError


def measured(predicted_s: float, step_s: float, factor: float, steps: float = 1.0) -> StepPoint:
    return StepPoint(predicted_s, step_s * steps + factor * predicted_s, steps)


def test_two_points_give_both_parameters() -> None:
    found = fit([measured(0.006, 0.002, 1.1), measured(0.020, 0.002, 1.1)])
    assert found.step_s == pytest.approx(0.002)
    assert found.factor == pytest.approx(1.1)


def test_seconds_of_many_steps_count_as_many() -> None:
    found = fit([measured(0.6, 0.002, 1.1, steps=100), measured(10.0, 0.002, 1.1, steps=500)])
    assert found.step_s == pytest.approx(0.002)
    assert found.factor == pytest.approx(1.1)


def test_one_point_gives_the_factor_alone() -> None:
    found = fit([StepPoint(0.010, 0.012)])
    assert found.step_s == 0.0
    assert found.factor == pytest.approx(1.2)


def test_points_too_much_alike_give_the_factor_alone() -> None:
    found = fit([StepPoint(0.010, 0.012), StepPoint(0.0101, 0.011)])
    assert found.step_s == 0.0
    assert 1.08 < found.factor < 1.21


def test_a_bad_point_does_not_move_a_line() -> None:
    good = [measured(each / 1000, 0.001, 1.2) for each in (5, 8, 12, 20, 30)]
    found = fit([*good, StepPoint(0.010, 0.200)])
    assert found.step_s == pytest.approx(0.001)
    assert found.factor == pytest.approx(1.2)


def test_a_steep_line_can_not_take_the_whole_step_away() -> None:
    found = fit([StepPoint(0.010, 0.003), StepPoint(0.020, 0.040)])
    assert found.step_s >= -0.5 * 0.010


def test_a_line_that_falls_is_none() -> None:
    found = fit([StepPoint(0.010, 0.020), StepPoint(0.020, 0.010)])
    assert found.factor > 0.0


@pytest.mark.parametrize("point", [StepPoint(0.0, 1.0), StepPoint(1.0, 0.0), StepPoint(1.0, 1.0, 0.0)])
def test_seconds_are_above_zero(point: StepPoint) -> None:
    with pytest.raises(PlanError, match="above zero"):
        fit([point])


def test_nothing_calibrates_nothing() -> None:
    with pytest.raises(PlanError, match="at least one"):
        fit([])


def test_another_machine_is_refused() -> None:
    with pytest.raises(PlanError, match="is it this GPU"):
        fit([StepPoint(0.010, 0.100)])


def test_a_band_is_no_narrower_than_what_is_left() -> None:
    points = [StepPoint(0.010, 0.012), StepPoint(0.010, 0.010)]
    assert left_over(points, Calibration()) == pytest.approx(math.log(1.2))
    assert with_band(Calibration(), 0.05, points).band == pytest.approx(math.log(1.2))
    assert with_band(Calibration(), 0.5, points).band == 0.5


def test_no_deviation_on_the_line() -> None:
    assert deviation([measured(0.01, 0.001, 1.3)], 0.001, 1.3) == pytest.approx(0.0)
