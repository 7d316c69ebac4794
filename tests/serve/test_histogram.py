"""Bucket counts and exact percentiles."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.serve.histogram import RECENT_MAX, Histogram, quantile


def test_a_value_counts_in_every_bucket_that_it_does_not_exceed() -> None:
    histogram = Histogram((0.1, 0.2, 0.5))
    for value in (0.05, 0.1, 0.2, 0.3, 7.0):
        histogram.observe(value)
    assert histogram.cumulative() == [("0.1", 2.0), ("0.2", 3.0), ("0.5", 4.0), ("+Inf", 5.0)]
    assert histogram.total == pytest.approx(7.65)


def test_one_gap_shared_by_several_tokens_counts_for_each() -> None:
    histogram = Histogram((0.1,))
    histogram.observe(0.05, times=3)
    assert histogram.cumulative()[-1] == ("+Inf", 3.0)
    assert histogram.total == pytest.approx(0.15)
    assert histogram.take_recent() == [0.05] * 3, "percentiles for people used to count it once"


def test_recent_values_are_taken_once_and_bounded() -> None:
    histogram = Histogram((1.0,))
    for value in range(RECENT_MAX + 10):
        histogram.observe(float(value))
    assert histogram.take_recent() == [float(value) for value in range(10, RECENT_MAX + 10)]
    assert histogram.take_recent() == []


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
