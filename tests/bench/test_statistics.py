"""Quantiles, intervals and tests, against values worked out by hand or known from tables."""

from __future__ import annotations

import itertools
import math
import random
from statistics import NormalDist

import pytest

from headway.bench.statistics import (
    clustered_interval,
    clustered_share,
    decided,
    difference,
    mann_whitney,
    nearest_rank,
    quantiles,
    rank,
    rank_interval,
    samples_needed,
    student_t,
    wilson,
)


@pytest.mark.parametrize(("n", "share", "expected"), [(1, 0.95, 1), (20, 0.95, 19), (21, 0.95, 20), (100, 0.5, 50)])
def test_the_nearest_rank(n: int, share: float, expected: int) -> None:
    assert rank(n, share) == expected
    assert nearest_rank(list(range(1, n + 1)), share) == expected


def test_quantiles() -> None:
    found = quantiles(float(value) for value in random.Random(1).sample(range(1, 201), 200))
    assert found is not None
    assert (found.n, found.p50, found.p90, found.p95, found.p99, found.max) == (200, 100, 180, 190, 198, 200)
    assert found.mean == pytest.approx(100.5)
    assert (found.p95_low, found.p95_high) == (184, 197)  # p92 to p98.5
    assert found.p95_with_misses is None
    assert quantiles([]) is None


def test_what_failed_counts_as_infinite() -> None:
    values = [float(value) for value in range(1, 96)]
    most = quantiles(values, misses=5)
    none = quantiles(values, misses=0)
    more = quantiles(values, misses=6)
    assert most is not None
    assert none is not None
    assert more is not None
    assert none.p95_with_misses == none.p95 == 91
    assert most.p95 == 91  # the naive one is not worse for five failures
    assert most.p95_with_misses == 95
    assert more.p95_with_misses is None


def _binomial_cdf(k: int, n: int, p: float) -> float:
    return sum(math.comb(n, i) * p**i * (1 - p) ** (n - i) for i in range(k + 1))


@pytest.mark.parametrize("n", [1, 2, 19, 59, 71, 72, 100, 137, 400])
def test_the_interval_of_p95_is_the_binomial_one(n: int) -> None:
    """The narrowest ranks that miss the quantile on either side with at most 2.5 %, by the definition."""
    low = max((k for k in range(1, n + 1) if _binomial_cdf(k - 1, n, 0.95) <= 0.025), default=None)
    high = min((k for k in range(1, n + 1) if _binomial_cdf(k - 1, n, 0.95) >= 0.975), default=None)
    assert rank_interval([float(value) for value in range(1, n + 1)]) == (low, high)


def test_known_ends_of_the_interval() -> None:
    assert rank_interval([1.0]) == (None, None)
    assert rank_interval([float(value) for value in range(1, 72)])[1] is None
    assert rank_interval([float(value) for value in range(1, 73)])[1] == 72.0
    assert rank_interval([float(value) for value in range(1, 101)]) == (90.0, 100.0)


def test_large_samples_agree_with_exact_ones() -> None:
    low, high = rank_interval(list(range(1, 5001)))
    large_low, large_high = rank_interval(list(range(1, 5002)))
    assert (low, high) == (4719, 4781)
    assert large_low == pytest.approx(low, abs=3)
    assert large_high == pytest.approx(high, abs=3)


def test_the_interval_holds_the_true_p95_as_often_as_it_says() -> None:
    draw = random.Random(2)
    hits = 0
    for _ in range(600):
        low, high = rank_interval(sorted(draw.expovariate(1.0) for _ in range(200)))
        assert low is not None
        assert high is not None
        hits += low <= -math.log(0.05) <= high
    assert hits / 600 >= 0.94


def test_values_that_come_in_groups_are_worth_less() -> None:
    """Two hundred groups of twenty equal values are two hundred values: the naive interval is far too narrow."""
    draw = random.Random(3)
    naive = clustered = 0
    for _ in range(300):
        groups = [[draw.expovariate(1.0)] * 20 for _ in range(200)]
        ordered = sorted(value for each in groups for value in each)
        for is_clustered in (False, True):
            low, high = clustered_interval(ordered, groups) if is_clustered else rank_interval(ordered)
            assert low is not None
            assert high is not None
            hit = low <= -math.log(0.05) <= high
            clustered, naive = clustered + (hit and is_clustered), naive + (hit and not is_clustered)
    assert naive / 300 < 0.6
    assert clustered / 300 > 0.91


def test_independent_groups_change_little_and_one_group_says_nothing() -> None:
    values = [random.Random(4).random() for _ in range(2000)]
    groups = [values[start : start + 100] for start in range(0, 2000, 100)]
    low, high = clustered_interval(sorted(values), groups)
    plain_low, plain_high = rank_interval(sorted(values))
    assert low is not None
    assert high is not None
    assert plain_low is not None
    assert plain_high is not None
    assert low <= plain_low + 0.01
    assert high >= plain_high - 0.01
    assert clustered_interval(sorted(values), [values]) == (None, None)


def test_wilson() -> None:
    assert wilson(0, 10) == pytest.approx((0.0, 0.2775), abs=1e-4)
    assert wilson(8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-4)  # Newcombe 1998
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)  # Newcombe 1998, table I
    assert wilson(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("good", "n", "expected"),
    [(73, 73, True), (72, 72, None), (199, 203, True), (190, 200, None), (170, 200, False), (0, 0, None)],
)
def test_few_samples_decide_nothing(good: int, n: int, expected: bool | None) -> None:
    assert decided(good, n, 0.95) is expected


@pytest.mark.parametrize(("share", "expected"), [(1.0, 73), (0.98, 203), (0.97, 457), (0.96, 1825)])
def test_how_many_samples_decide(share: float, expected: int) -> None:
    assert samples_needed(share, 0.95) == expected
    assert decided(math.ceil(expected * share), expected, 0.95) is True
    assert samples_needed(0.95, 0.95) is None
    assert samples_needed(0.950001, 0.95) is None


def test_shares_of_groups() -> None:
    alike = [(10, 10)] * 10 + [(0, 10)] * 10  # a server that was down for half the time
    low, high = clustered_share(alike)
    assert (low, high) == pytest.approx((0.5 - 1.96 * math.sqrt(20 * 25 * 20 / 19) / 200, 0.7249), abs=1e-3)
    assert high - low > 2.5 * (wilson(100, 200)[1] - wilson(100, 200)[0])
    assert clustered_share([(10, 10)] * 10) == pytest.approx(wilson(100, 100))
    assert clustered_share([(5, 10)]) == (0.0, 1.0)


@pytest.mark.parametrize(("freedom", "expected"), [(7, 3.499), (10, 3.169), (31, 2.744), (120, 2.617)])
def test_students_distribution(freedom: int, expected: float) -> None:
    assert student_t(2.575829, freedom) == pytest.approx(expected, rel=3e-3)


def test_the_interval_of_a_difference() -> None:
    assert difference((10.0, (7.0, 14.0)), (20.0, (17.0, 22.0))) == pytest.approx((5.0, 10.0 + math.hypot(2.0, 3.0)))
    assert difference((10.0, (7.0, None)), (20.0, (17.0, 22.0)))[0] is None


def test_mann_whitney() -> None:
    apart = mann_whitney([1, 2, 3, 4, 5], [6, 7, 8, 9, 10])
    assert apart == pytest.approx(2 * (1 - NormalDist().cdf(12 / math.sqrt(25 * 11 / 12))))
    exact = 2 / math.comb(10, 5)  # U = 0, both sides
    assert apart == pytest.approx(exact, abs=0.005)
    assert mann_whitney([1.0] * 9, [1.0] * 9) == mann_whitney([], [1.0]) == 1.0
    assert mann_whitney([1, 2, 3], [4, 5]) == mann_whitney([4, 5], [1, 2, 3])


def test_mann_whitney_with_ties_by_counting_all_arrangements() -> None:
    first, second = [1.0, 2.0, 2.0, 3.0, 5.0, 6.0], [2.0, 3.0, 4.0, 6.0, 7.0, 8.0]
    merged = first + second

    def statistic(chosen: tuple[int, ...]) -> float:
        rest = [merged[index] for index in range(12) if index not in chosen]
        return sum((merged[index] > other) + (merged[index] == other) / 2 for index in chosen for other in rest)

    seen = abs(statistic(tuple(range(6))) - 18)
    all_of_them = [abs(statistic(chosen) - 18) for chosen in itertools.combinations(range(12), 6)]
    exact = sum(each >= seen - 1e-9 for each in all_of_them) / len(all_of_them)
    assert mann_whitney(first, second) == pytest.approx(exact, abs=0.02)
