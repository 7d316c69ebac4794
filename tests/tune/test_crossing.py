import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.tune.crossing import Point, crossing, isotonic


def points(*pairs: tuple[float, float], deviation: float = 0.01) -> list[Point]:
    return [Point(load, value, deviation) for load, value in pairs]


@given(st.lists(st.tuples(st.floats(-10, 10), st.floats(0.1, 10)), min_size=1, max_size=20))
def test_the_monotone_fit_is_monotone_and_keeps_the_weighted_mean(pairs: list[tuple[float, float]]) -> None:
    values, weights = [value for value, _ in pairs], [weight for _, weight in pairs]
    fitted = isotonic(values, weights)
    assert all(earlier <= later + 1e-9 for earlier, later in itertools.pairwise(fitted))
    mean = sum(value * weight for value, weight in pairs)
    assert sum(value * weight for value, weight in zip(fitted, weights, strict=True)) == pytest.approx(mean, abs=1e-6)


def test_the_monotone_fit_pools_what_falls() -> None:
    assert isotonic([1.0, 3.0, 2.0, 4.0], [1.0, 1.0, 1.0, 1.0]) == [1.0, 2.5, 2.5, 4.0]


def test_a_crossing_lies_between_the_points_around_it() -> None:
    found = crossing(points((10, 0.5), (20, 2.0)), 1.0)
    assert found == pytest.approx(15.0)


def test_nothing_is_crossed_by_points_on_one_side() -> None:
    assert crossing(points((1, 0.1), (2, 0.9)), 1.0) is None
    assert crossing(points((1, 1.1), (2, 1.9)), 1.0) is None
    assert crossing([], 1.0) is None


def test_points_close_to_the_crossing_are_taken_together() -> None:
    true = points((90, 0.90), (95, 0.95), (105, 1.05), (110, 1.10))
    noisy = [Point(100, 1.04, 0.05), *true]
    assert crossing(noisy, 1.0) == pytest.approx(100.0, rel=0.01)


def test_nothing_measured_and_infinite_values_are_points_like_others() -> None:
    found = crossing(points((10, 0.0), (20, float("inf"))), 0.05)
    assert found is not None
    assert 10 < found < 20
