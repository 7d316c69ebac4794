"""What a place costs: nothing until there are too few, then as much as keeps the small ones in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from random import Random

import pytest

from headway.policy.price import BIDS_MAX, BIDS_MIN, QUIET_HALF_S, UTILISATION, WINDOW_S, Bid, BidPrice

SECONDS = 30.0


def offered(
    price: BidPrice,
    load: float,
    *,
    seconds: float = SECONDS,
    start_s: float = 0.0,
    tenant: str = "",
    draw: Callable[[Random], float] = lambda random: random.choice([0.01, 0.02, 0.04, 0.08]),
    seed: int = 0,
) -> list[tuple[float, bool]]:
    """Steady offers that bring ``load`` seconds of work a second: the work of each, and whether it was let in."""
    random = Random(seed)
    answers: list[tuple[float, bool]] = []
    now, mean_s = start_s, sum(draw(Random(number)) for number in range(1000)) / 1000
    while now < start_s + seconds:
        work_s = draw(random)
        answers.append((work_s, price.offer(Bid(now, tenant, 1.0, work_s), 1.0)))
        now += mean_s / load
    return answers


def test_while_there_is_room_it_costs_nothing() -> None:
    price = BidPrice()
    assert all(taken for _, taken in offered(price, 0.7))
    assert price.load == pytest.approx(0.7 / UTILISATION, rel=0.15)


def test_a_handful_of_offers_says_nothing() -> None:
    price = BidPrice()
    assert all(price.offer(Bid(0.001 * number, "", 1.0, 10.0), 1.0) for number in range(BIDS_MIN - 1))


@pytest.mark.parametrize("load", [2.0, 4.0])
def test_in_overload_the_small_ones_come_in_and_they_fill_the_room(load: float) -> None:
    answers = offered(BidPrice(), load, draw=lambda random: random.uniform(0.01, 0.09))[200:]
    seconds = SECONDS * len(answers) / (len(answers) + 200)
    taken_s = sum(work_s for work_s, taken in answers if taken)
    assert taken_s / seconds == pytest.approx(UTILISATION, abs=0.15)
    small = [taken for work_s, taken in answers if work_s < 0.02]
    large = [taken for work_s, taken in answers if work_s > 0.08]
    assert all(small)
    assert not any(large)


def test_what_is_worth_more_may_bring_more_work() -> None:
    price = BidPrice()
    offered(price, 4.0)
    assert not price.offer(Bid(SECONDS, "", 1.0, 0.08), 1.0)
    assert price.offer(Bid(SECONDS, "", 100.0, 0.08), 1.0)


def test_once_the_load_is_gone_so_is_the_price() -> None:
    price = BidPrice()
    offered(price, 4.0)
    assert not price.offer(Bid(SECONDS, "", 1.0, 0.08), 1.0)
    later_s = SECONDS + WINDOW_S + 0.1
    assert price.offer(Bid(later_s, "", 1.0, 0.08), 1.0)
    assert price.load == 0.0
    assert all(taken for _, taken in offered(price, 0.5, start_s=later_s))


def test_who_asks_for_less_than_its_share_pays_nothing_whatever_others_ask_for() -> None:
    price, random = BidPrice(), Random(1)
    taken: Counter[str] = Counter()
    asked: Counter[str] = Counter()
    now = 0.0
    while now < SECONDS:
        tenant = "quiet" if random.random() < 0.05 else "loud"
        asked[tenant] += 1
        taken[tenant] += price.offer(Bid(now, tenant, 1.0, 0.05), 1.0)
        now += random.expovariate(100.0)  # five times the room; the quiet one asks for a quarter of it
    assert taken["quiet"] == asked["quiet"]
    assert taken["loud"] < asked["loud"] / 2 or price.load > 4.0


def test_two_tenants_that_ask_for_too_much_get_the_same() -> None:
    price, random = BidPrice(fair=True), Random(2)
    taken: Counter[str] = Counter()
    now = 0.0
    while now < SECONDS:
        tenant = "a" if random.random() < 0.75 else "b"
        taken[tenant] += price.offer(Bid(now, tenant, 1.0, 0.02), 1.0)
        now += random.expovariate(400.0)
    assert taken["a"] == pytest.approx(taken["b"], rel=0.2)
    assert 0.02 * (taken["a"] + taken["b"]) / SECONDS == pytest.approx(UTILISATION, rel=0.25)


def test_fair_takes_the_same_share_of_every_length() -> None:
    answers = offered(BidPrice(fair=True), 3.0)[200:]
    shares = []
    for length in (0.01, 0.02, 0.04, 0.08):
        of_length = [taken for work_s, taken in answers if work_s == length]
        shares.append(sum(of_length) / len(of_length))
    assert max(shares) - min(shares) < 0.1
    assert sum(shares) / 4 == pytest.approx(UTILISATION / 3.0, abs=0.08)


def test_it_remembers_a_bounded_number_of_offers() -> None:
    price = BidPrice()
    for number in range(10 * BIDS_MAX):
        price.offer(Bid(number * 1e-5, f"tenant{number}", 1.0, 0.01), 1.0)
    assert len(price._bids) == BIDS_MAX
    assert len(price._limits) <= BIDS_MAX


def test_many_at_the_very_same_moment_are_no_division_by_nothing() -> None:
    price = BidPrice()
    for _ in range(2 * BIDS_MAX):
        price.offer(Bid(5.0, "", 1.0, 0.1), 1.0)
    for _ in range(2 * BIDS_MAX):
        price.offer(Bid(5.02, "", 1.0, 0.0), 1.0)
    assert price.offer(Bid(5.04, "", 1.0, 0.0), 1.0)


def test_the_largest_work_of_those_within_their_share_is_remembered_and_fades() -> None:
    price = BidPrice()
    for number in range(100):
        price.offer(Bid(0.1 * number, "quiet", 1.0, 0.01), 1.0)
        price.offer(Bid(0.1 * number, "loud", 1.0, 0.5 if number < 50 else 0.9), 1.0)
    assert price.crowds("loud")
    assert not price.crowds("quiet")
    assert 0.4 < price.quiet_work(10.0) <= 0.5, "what the loud one brought before it was known to be loud"
    assert price.quiet_work(10.0 + QUIET_HALF_S) == pytest.approx(price.quiet_work(10.0) / 2)
