"""Exact percentiles of the last minute, and rates."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from headway.serve.window import WINDOW_MAX, WINDOW_S, Rate, Window, quantile


def test_a_window_forgets_what_is_older_than_a_minute() -> None:
    window = Window()
    window.add(0.0, 3.0)
    window.add(10.0, 1.0, times=2)
    assert window.values(10.0) == [1.0, 1.0, 3.0]
    assert window.values(WINDOW_S) == [1.0, 1.0, 3.0]
    assert window.values(WINDOW_S + 0.1) == [1.0, 1.0]
    assert window.values(2 * WINDOW_S) == []


def test_a_full_window_keeps_the_latest() -> None:
    window = Window()
    for value in range(WINDOW_MAX + 10):
        window.add(1.0, float(value))
    assert window.values(1.0) == [float(value) for value in range(10, WINDOW_MAX + 10)]
    window.add(2.0, -1.0, times=2 * WINDOW_MAX)
    assert window.values(2.0) == [-1.0] * WINDOW_MAX


def test_a_rate_is_over_whole_seconds() -> None:
    rate = Rate()
    rate.add(100.2, 30)
    rate.add(100.9, 20)
    rate.add(101.0, 1000)
    assert rate.per_s(101.5) == 50 / Rate.SECONDS
    assert rate.per_s(102.0) == 1050 / Rate.SECONDS
    assert rate.per_s(101.0 + Rate.SECONDS) == 1000 / Rate.SECONDS
    assert rate.per_s(200.0) == 0.0


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=50), st.floats(0.01, 1.0))
def test_a_quantile_is_a_value_that_enough_values_do_not_exceed(values: list[float], share: float) -> None:
    ordered = sorted(values)
    found = quantile(ordered, share)
    assert found in ordered
    assert sum(value <= found for value in ordered) >= share * len(ordered) - 1e-9
    below = [value for value in ordered if value < found]
    assert len(below) < share * len(ordered) + 1e-9


def test_there_is_no_quantile_of_nothing() -> None:
    assert quantile([], 0.5) is None
