"""Arrivals have the rate and the burstiness that was asked for, and are the same for the same seed."""

from __future__ import annotations

import itertools
import statistics

import pytest

from headway.bench.arrivals import arrivals


@pytest.mark.parametrize("cv", [0.5, 1.0, 4.0])
def test_rate_and_burstiness(cv: float) -> None:
    times = arrivals(50.0, 1000.0, seed=1, cv=cv)
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert times == sorted(times)
    assert 0.0 <= times[0] <= times[-1] < 1000.0
    assert len(times) == pytest.approx(50_000, rel=0.05)
    assert statistics.stdev(gaps) / statistics.mean(gaps) == pytest.approx(cv, rel=0.05)


def test_the_seed_decides() -> None:
    assert arrivals(5.0, 20.0, seed=1) == arrivals(5.0, 20.0, seed=1)
    assert arrivals(5.0, 20.0, seed=1) != arrivals(5.0, 20.0, seed=2)


@pytest.mark.parametrize(
    ("rate", "seconds", "cv"), [(0.0, 1.0, 1.0), (1.0, 0.0, 1.0), (1.0, 1.0, 0.0), (1e6, 2.0, 1.0)]
)
def test_what_can_not_be_meant(rate: float, seconds: float, cv: float) -> None:
    with pytest.raises(ValueError, match=r"above 0|more than"):
        arrivals(rate, seconds, seed=0, cv=cv)
