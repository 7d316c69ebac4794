"""Arrival processes: their means, their burstiness, and the load that they are laid out by."""

from __future__ import annotations

from itertools import islice
from random import Random
from statistics import fmean, pstdev

import pytest

from headway.sim.arrivals import Gamma, Poisson, Process, Regular, Stages, Steady

GAPS = 20_000


@pytest.mark.parametrize(("process", "cv"), [(Poisson(), 1.0), (Gamma(4.0), 4.0), (Gamma(0.5), 0.5), (Regular(), 0.0)])
def test_gaps_have_mean_one_and_the_burstiness_asked_for(process: Process, cv: float) -> None:
    gaps = list(islice(process.gaps(Random(1)), GAPS))
    assert fmean(gaps) == pytest.approx(1.0, rel=0.1)
    assert pstdev(gaps) / fmean(gaps) == pytest.approx(cv, rel=0.1)


def test_stages_follow_one_another() -> None:
    load = Stages(((10.0, 5.0), (20.0, 1.0), (1.0, 10.0)))
    assert [load.time_s(units) for units in (0.0, 25.0, 50.0, 60.0, 70.0, 170.0)] == [0.0, 5.0, 10.0, 20.0, 30.0, 40.0]


@pytest.mark.parametrize("rate", [0.0, -1.0, float("inf"), float("nan")])
def test_a_rate_that_can_not_be_is_an_error(rate: float) -> None:
    with pytest.raises(ValueError, match="rate"):
        Steady(rate)
    with pytest.raises(ValueError, match="rate"):
        Stages(((1.0, rate),))


def test_a_burstiness_that_can_not_be_is_an_error() -> None:
    with pytest.raises(ValueError, match="coefficient of variation"):
        Gamma(0.0)
