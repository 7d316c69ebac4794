"""Who must leave so that the others are on time: as few as can be, and nobody to whom it was promised already."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from math import ceil
from random import Random

import pytest

from headway.policy.ontime import ANSWER_S, SPARE_STEPS, PromptSpeed, must_leave
from headway.policy.request import Request
from tests.policy.promises import promised, request

NOW = 10.0


def waits(
    name: str, tokens: int, due_in_s: float, *, weight: float = 1.0, age_s: float = 0.0, order: int = 0
) -> Request:
    made = request(promised(name, tokens, ttft_s=due_in_s, weight=weight), order, NOW)
    made.submitted_s = NOW - age_s
    return made


def speed(**changes: float) -> PromptSpeed:
    values = {"free_s": NOW + 0.02, "tokens_per_s": 1000.0, "read_s": 0.0, "step_s": 0.01}
    return PromptSpeed(**(values | changes))


def all_on_time(kept: Sequence[Request], how: PromptSpeed) -> bool:
    """One after the other, in whole steps."""
    ahead_s = 0.0
    for each in kept:
        ahead_s += how.work_s(each)
        if how.free_s + ceil(ahead_s / how.step_s + SPARE_STEPS) * how.step_s > each.due_s:
            return False
    return True


def names(dropped: list[tuple[Request, float]]) -> list[str]:
    return [each.request_id for each, _ in dropped]


def some(random: Random, count: int, *, age_s: float = 0.0) -> list[Request]:
    made = [
        waits(f"r{order}", random.randint(5, 120), random.uniform(0.05, 0.5), order=order, age_s=age_s)
        for order in range(count)
    ]
    return sorted(made, key=lambda each: (each.due_s, each.order))


@pytest.mark.parametrize("seed", range(200))
def test_as_few_leave_as_can_be(seed: int) -> None:
    """Against all subsets: the rest is on time, and with one fewer gone it never is."""
    random = Random(seed)
    prompts, how = some(random, random.randint(1, 8)), speed(step_s=random.choice([0.005, 0.01, 0.05]))
    dropped = {id(each) for each, _ in must_leave(NOW, prompts, how)}
    kept = [each for each in prompts if id(each) not in dropped]
    assert all_on_time(kept, how)
    for more in combinations(prompts, len(kept) + 1):
        assert not all_on_time(more, how)


@pytest.mark.parametrize("seed", range(100))
def test_whoever_was_promised_already_stays(seed: int) -> None:
    random = Random(seed)
    old, new = some(random, 4, age_s=1.0), some(random, 5)
    how = speed()
    while not all_on_time(old, how):
        old.pop()
    prompts = sorted([*old, *new], key=lambda each: each.due_s)
    dropped = {id(each) for each, _ in must_leave(NOW, prompts, how)}
    assert not dropped & set(map(id, old))
    assert all_on_time([each for each in prompts if id(each) not in dropped], how)


def test_the_longest_leaves_first() -> None:
    prompts = [waits("short", 50, 0.2), waits("long", 120, 0.21, order=1), waits("other", 50, 0.22, order=2)]
    assert names(must_leave(NOW, prompts, speed())) == ["long"]


def test_who_is_worth_more_stays() -> None:
    prompts = [
        waits("short", 50, 0.2),
        waits("dear", 120, 0.21, weight=10.0, order=1),
        waits("other", 50, 0.22, order=2),
    ]
    assert names(must_leave(NOW, prompts, speed())) == ["other"]


def test_among_equals_the_last_to_come_leaves() -> None:
    prompts = [waits(f"r{order}", 100, 0.25, order=order) for order in range(3)]
    assert names(must_leave(NOW, prompts, speed())) == ["r2"]


def test_what_can_not_be_on_time_even_as_the_next_one_leaves_however_old() -> None:
    prompts = [waits("hopeless", 500, 0.2, age_s=1.0), waits("good", 50, 0.3)]
    [(gone, late_s)] = must_leave(NOW, prompts, speed())
    assert gone.request_id == "hopeless"
    assert late_s == pytest.approx(0.02 + 0.5 - 0.2)


@pytest.mark.parametrize(("age_s", "leaves"), [(ANSWER_S / 2, "old"), (ANSWER_S * 2, "new")])
def test_an_answer_is_final_once_it_was_given(age_s: float, leaves: str) -> None:
    """The longer one leaves, unless its client has been told to count on it."""
    prompts = [waits("new", 80, 0.15, order=1), waits("old", 120, 0.2, age_s=age_s)]
    assert names(must_leave(NOW, prompts, speed())) == [leaves]


def test_what_has_begun_stays_and_counts_with_what_is_left_of_it() -> None:
    begun = waits("begun", 200, 0.2)
    begun.block_table, begun.computed = (0,), 150
    newcomer = waits("newcomer", 100, 0.21, order=1)
    assert names(must_leave(NOW, [begun, newcomer], speed())) == []
    begun.computed = 100
    assert names(must_leave(NOW, [begun, newcomer], speed())) == ["newcomer"]


def test_what_is_in_the_cache_is_no_work() -> None:
    hit = waits("hit", 500, 0.2)
    hit.uncached = 20
    assert must_leave(NOW, [hit], speed()) == []
    assert speed(read_s=1e-6).work_s(hit) == pytest.approx(0.02 + 1e-6 * 20 * (480 + 10))


def test_nobody_waits_and_nobody_leaves() -> None:
    assert must_leave(NOW, [], speed()) == []
    assert must_leave(NOW, [waits("long", 1000, 1e4), waits("short", 10, 1e4, order=1)], speed()) == []
