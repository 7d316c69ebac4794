"""Percentiles of the last minute, and counts."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.serve.window import ERROR, SLICE_S, VALUE_MAX, WINDOW_S, Count, Window


def assert_quantile(window: Window, now: float, share: float, value: float, *, of: int) -> None:
    found, count = window.quantile(now, share)
    assert found == pytest.approx(value, rel=ERROR * 1.001, abs=1e-6)
    assert count == of


def test_a_window_forgets_what_is_older_than_a_minute() -> None:
    window = Window()
    window.add(0.0, 3.0)
    window.add(10.0, 1.0, times=2)
    assert_quantile(window, 10.0, 1.0, 3.0, of=3)
    assert_quantile(window, WINDOW_S - 0.1, 1.0, 3.0, of=3)
    assert_quantile(window, WINDOW_S, 1.0, 1.0, of=2)
    assert window.quantile(10.0 + WINDOW_S, 1.0) == (None, 0)
    window.add(10.0 + WINDOW_S, 7.0)
    assert_quantile(window, 10.0 + WINDOW_S, 0.5, 7.0, of=1)


def test_a_busy_minute_is_a_minute() -> None:
    """A window kept its last 16,384 values: at 8,000 tokens a second what was called the p95 of the last minute was
    that of the last two seconds, so a bad spell between two scrapes was never seen."""
    window = Window()
    for second in range(60):
        window.add(second, 0.2 if second < 6 else 0.05, times=8_000)
    assert_quantile(window, 59.0, 0.95, 0.2, of=480_000)
    assert_quantile(window, 59.0, 0.89, 0.05, of=480_000)


@given(
    st.lists(st.floats(0, 1e6) | st.just(0.0), min_size=1, max_size=50),
    st.floats(0.01, 1.0),
)
def test_a_quantile_is_the_nearest_rank_but_for_its_error(values: list[float], share: float) -> None:
    window = Window()
    for value in values:
        window.add(5.0, value)
    exact = sorted(values)[max(1, math.ceil(len(values) * share - 1e-9)) - 1]
    assert_quantile(window, 5.0, share, min(exact, VALUE_MAX), of=len(values))


def test_a_window_stays_small() -> None:
    window = Window()
    for number in range(200_000):
        window.add(number / 1000, 1e-9 * 1.0002**number)
    slices = window._slices
    assert len(slices) == WINDOW_S / SLICE_S
    assert max(len(counts) for _, counts in slices) < 2_600


def test_a_rate_is_over_whole_seconds() -> None:
    rate = Count(10)
    rate.add(100.2, 30)
    rate.add(100.9, 20)
    rate.add(101.0, 1000)
    assert rate.per_s(101.5) == 50 / 10
    assert rate.per_s(102.0) == 1050 / 10
    assert rate.per_s(111.0) == 1000 / 10
    assert rate.per_s(200.0) == 0.0


def test_a_total_holds_what_has_just_come() -> None:
    count = Count(10)
    count.add(100.2, 30)
    count.add(101.9)
    assert [count.total(now) for now in (101.9, 109.9, 110.0, 111.0, 200.0)] == [31, 31, 1, 0, 0]
