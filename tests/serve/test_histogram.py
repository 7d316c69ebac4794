"""Bucket counts."""

from __future__ import annotations

import pytest

from headway.serve.histogram import Histogram


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


def test_histograms_of_several_classes_add_up() -> None:
    first, second = Histogram((0.1,)), Histogram((0.1,))
    first.observe(0.05)
    second.observe(0.2, times=2)
    both = Histogram.sum_of([first, second])
    assert both.cumulative() == [("0.1", 1.0), ("+Inf", 3.0)]
    assert both.total == pytest.approx(0.45)
    assert first.counts == [1, 0], "the parts stay as they were"
