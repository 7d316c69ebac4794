"""Distributions draw what they say, and nothing outside of it."""

from __future__ import annotations

from random import Random
from statistics import fmean, median, pstdev

import pytest

from headway.bench.lengths import draw_tokens, parse_distribution

SPECS = (
    "64",
    "constant(64)",
    "uniform(10,20)",
    "normal(100,10)",
    "normal(100,50,20,300)",
    "lognormal(96,0.8,16,256)",
    "lognormal(10,0.5)",
    "exponential(50)",
    "exponential(50,10,90)",
    "choices(64,128)",
    "choices(64:0.5,512:0.25,2048:0.25)",
)


def _draws(text: str, n: int = 4000) -> list[int]:
    distribution, rng = parse_distribution(text, least=0, most=10_000), Random(1)
    return [draw_tokens(distribution, rng) for _ in range(n)]


@pytest.mark.parametrize("text", SPECS)
def test_draws_stay_within_and_are_the_same_for_a_seed_and_after_writing(text: str) -> None:
    distribution = parse_distribution(text, least=0, most=10_000)
    draws = _draws(text)
    assert distribution.low - 0.5 <= min(draws) <= max(draws) <= distribution.high + 0.5
    assert _draws(text) == draws
    again = parse_distribution(str(distribution), least=0, most=10_000)
    assert (again.low, again.high) == pytest.approx((distribution.low, distribution.high), rel=1e-4)


def test_the_middle_is_where_it_was_put() -> None:
    assert set(_draws("64")) == {64}
    assert fmean(_draws("uniform(10,20)")) == pytest.approx(15, rel=0.02)
    assert fmean(_draws("normal(100,10)")) == pytest.approx(100, rel=0.02)
    assert pstdev(_draws("normal(100,10)")) == pytest.approx(10, rel=0.05)
    assert median(_draws("lognormal(96,0.8,16,256)")) == pytest.approx(96, rel=0.05)
    assert fmean(_draws("exponential(50)")) == pytest.approx(50, rel=0.05)
    draws = _draws("choices(64:0.5,512:0.25,2048:0.25)")
    assert [draws.count(each) / len(draws) for each in (64, 512, 2048)] == pytest.approx([0.5, 0.25, 0.25], abs=0.02)


@pytest.mark.parametrize("text", SPECS)
def test_scaled_draws_are_the_same_times_a_factor(text: str) -> None:
    distribution = parse_distribution(text, least=0, most=10_000)
    plain = [distribution.draw(rng) for rng in [Random(2)] for _ in range(100)]
    scaled = [distribution.scaled(0.25).draw(rng) for rng in [Random(2)] for _ in range(100)]
    assert scaled == pytest.approx([value / 4 for value in plain])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is no distribution; there are constant"),
        ("many", "is no distribution"),
        ("pareto(1,2)", "is no distribution"),
        ("nan", "is no distribution"),
        ("normal(1)", r"write normal\(MEAN,DEVIATION\[,LOW,HIGH\]\)"),
        ("normal(5,-1)", "can't be meant"),
        ("normal(5,1,2)", "can't be meant"),
        ("lognormal(0,1)", "can't be meant"),
        ("lognormal(10,inf)", "can't be meant"),
        ("lognormal(10,400)", "can't be meant"),
        ("uniform(20,10)", "from 20 to 10, which can't be meant"),
        ("choices()", "can't be meant"),
        ("choices(1:2,3)", "can't be meant"),
        ("choices(1:0)", "can't be meant"),
        ("uniform(0,10)", "it may go from 1 to 10,000"),
        ("1e5", "it may go from 1 to 10,000"),
    ],
)
def test_what_can_not_be_meant_is_one_line(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        parse_distribution(text, least=1, most=10_000)
    assert "\n" not in str(caught.value)
