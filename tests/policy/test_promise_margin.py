"""What is observed moves a margin: slowly, within bounds, and only while it is leaned on. And who may come at any
moment is known from who came lately."""

from __future__ import annotations

from itertools import pairwise
from math import inf
from random import Random

import pytest

from headway.policy.margin import JUDGED_MIN, MARGIN_MAX, NARROW, PERIOD_S, WIDEN, Margin
from headway.policy.slo import Objective
from headway.policy.tightest import PERIOD_S as TIGHTEST_PERIOD_S
from headway.policy.tightest import Tightest


def judged(margin: Margin, start_s: float, *, kept: float, leaning: bool = True, seconds: float = PERIOD_S) -> float:
    """A hundred requests in so many seconds, of which such a share kept its promise. When that ends."""
    for number in range(100):
        if leaning:
            margin.lean()
        margin.judge(start_s + seconds * (number + 1) / 100, number % 100 >= 100 * (1.0 - kept))
    return start_s + seconds


def test_it_widens_when_promises_are_broken_and_narrows_more_slowly() -> None:
    margin = Margin()
    now = judged(margin, 0.0, kept=0.8, seconds=2 * PERIOD_S)
    widened = margin.value
    assert widened >= WIDEN
    judged(margin, now, kept=1.0, seconds=2 * PERIOD_S)
    assert 1.0 + (widened - 1.0) * NARROW**3 <= margin.value < widened


@pytest.mark.parametrize("share", [0.96, 0.97])
def test_between_the_target_and_very_good_nothing_moves(share: float) -> None:
    margin = Margin(1.3)
    judged(margin, 0.0, kept=share, seconds=PERIOD_S * 1.01)
    assert margin.value == 1.3


def test_it_does_not_move_while_the_limit_does_not_matter() -> None:
    margin = Margin(1.3)
    now = judged(margin, 0.0, kept=0.0, leaning=False, seconds=10 * PERIOD_S)
    judged(margin, now, kept=1.0, leaning=False, seconds=10 * PERIOD_S)
    assert margin.value == 1.3


def test_a_few_requests_say_nothing_and_neither_does_a_moment() -> None:
    margin = Margin()
    for number in range(JUDGED_MIN - 1):
        margin.lean()
        margin.judge(10.0 * number, False)
    assert margin.value == 1.0
    judged(Margin(), 0.0, kept=0.0, seconds=PERIOD_S / 2)
    assert margin.value == 1.0


def test_whatever_happens_it_moves_by_little_and_keeps_to_its_bounds() -> None:
    random, margin = Random(0), Margin()
    values = [margin.value]
    for number in range(20_000):
        if random.random() < 0.7:
            margin.lean()
        margin.judge(0.2 * number, random.random() < (0.5 if number < 10_000 else 1.0))
        values.append(margin.value)
    assert max(values) == MARGIN_MAX
    assert min(values) == 1.0
    assert all(
        1.0 + (earlier - 1.0) * NARROW - 1e-9 <= later <= earlier * WIDEN + 1e-9 for earlier, later in pairwise(values)
    )
    assert values[-1] < 1.2, "what was learned wrongly is forgotten"


def test_the_tightest_promise_of_late_is_remembered_for_one_period_or_two() -> None:
    tightest = Tightest()
    assert (tightest.ttft_s(0.0), tightest.itl_s(0.0)) == (inf, inf)
    tightest.see(0.0, Objective(ttft_s=0.5, itl_s=0.1))
    tightest.see(1.0, Objective(ttft_s=0.2))
    tightest.see(2.0, Objective(itl_s=0.05))
    assert (tightest.ttft_s(2.0), tightest.itl_s(2.0)) == (0.2, 0.05)
    tightest.see(TIGHTEST_PERIOD_S * 1.5, Objective(ttft_s=1.0))
    now = TIGHTEST_PERIOD_S * 1.5
    assert (tightest.ttft_s(now), tightest.itl_s(now)) == (0.2, 0.05)
    now = TIGHTEST_PERIOD_S * 4.0
    assert (tightest.ttft_s(now), tightest.itl_s(now)) == (inf, inf)  # nobody has to come for it to be forgotten
    tightest.see(now, Objective(ttft_s=1.0))
    assert (tightest.ttft_s(now), tightest.itl_s(now)) == (1.0, inf)
