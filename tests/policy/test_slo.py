"""What can be promised, to which classes, and what counts as kept."""

from __future__ import annotations

import math

import pytest

from headway.policy.slo import (
    BATCH,
    CLASSES_MAX,
    CONVERSATIONAL,
    SECONDS_MAX,
    Objective,
    ServiceClass,
    ServiceClasses,
    gaps_needed,
    late_gaps_allowed,
)


@pytest.mark.parametrize("value", [0.0, -1.0, math.inf, math.nan, SECONDS_MAX * 1.01])
@pytest.mark.parametrize("name", ["ttft_s", "itl_s", "e2e_s"])
def test_a_time_that_can_not_be_meant_is_an_error_that_names_it(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=name):
        Objective(**{name: value})


@pytest.mark.parametrize(("gaps", "late"), [(0, 0), (1, 0), (19, 0), (20, 1), (39, 1), (40, 2), (100, 5), (1000, 50)])
def test_one_gap_in_twenty_may_be_late(gaps: int, late: int) -> None:
    assert late_gaps_allowed(gaps) == late


def test_that_is_the_p95_by_nearest_rank() -> None:
    for gaps in range(1, 500):
        rank = math.ceil(0.95 * gaps - 1e-9)  # the smallest value that 95 % are not above
        assert gaps - rank == late_gaps_allowed(gaps)


def test_the_fewest_gaps_of_which_so_many_may_be_late() -> None:
    for late in range(1, 50):
        assert late_gaps_allowed(gaps_needed(late)) == late
        assert late_gaps_allowed(gaps_needed(late) - 1) == late - 1


def test_a_promise_is_broken_by_its_first_part_that_was_not_kept() -> None:
    """In SLO was decided in four places, by the scheduler, the simulator, the server and its client, each in its own
    words: the simulator forgave a nanosecond and the others did not."""
    objective = Objective(ttft_s=0.3, itl_s=0.05, e2e_s=2.0)
    assert objective.broken(0.3, 1, 20, 2.0) is None, "met to the limit"
    assert objective.broken(0.1 + 0.2, 0, 0, 2.0) is None, "and a sum of many terms may exceed it by a rounding error"
    assert objective.broken(0.31, 2, 20, 2.1) == "ttft"
    assert objective.broken(0.3, 2, 20, 2.1) == "itl"
    assert objective.broken(0.3, 1, 20, 2.1) == "e2e"
    assert objective.broken(math.inf, 0, 0, 0.0) == "ttft"


def test_parts_that_were_not_promised_do_not_count() -> None:
    assert Objective().broken(math.inf, 7, 7, math.inf) is None
    assert Objective().late_gaps_of([9.0]) == 0
    assert Objective(itl_s=0.1).late_gaps_of([0.1, 0.05 + 0.05, 0.11, 9.0]) == 2


@pytest.mark.parametrize("name", ["", "two words", "a" * 33, "tab\t"])
def test_a_class_needs_a_short_name(name: str) -> None:
    with pytest.raises(ValueError, match="named by a short word"):
        ServiceClass(name=name)


@pytest.mark.parametrize("weight", [0.0, -1.0, 1001.0, math.nan, math.inf])
def test_a_class_needs_a_weight(weight: float) -> None:
    with pytest.raises(ValueError, match="weight"):
        ServiceClass(name="gold", weight=weight)


def test_a_class_without_a_promise_is_batch_and_one_is_always_there() -> None:
    classes = ServiceClasses([CONVERSATIONAL])
    assert set(classes) == {"conversational", "batch"}
    assert classes["batch"].is_batch
    assert not classes["conversational"].is_batch


def test_every_class_is_found_by_its_tiers_and_by_its_name() -> None:
    classes = ServiceClasses()
    for tier, name in {"priority": "conversational", "auto": "interactive", "flex": "batch", "batch": "batch"}.items():
        assert classes.tiers[tier].name == name
    assert classes.tier_of("conversational") == "priority"
    assert ServiceClasses([ServiceClass(name="gold")]).tier_of("gold") == "gold"


def test_what_is_ambiguous_is_an_error() -> None:
    gold = ServiceClass(name="gold", tiers=("priority",))
    with pytest.raises(ValueError, match="same name"):
        ServiceClasses([gold, gold])
    with pytest.raises(ValueError, match="belongs to two classes"):
        ServiceClasses([gold, CONVERSATIONAL])
    with pytest.raises(ValueError, match="can't promise anything"):
        ServiceClasses([ServiceClass(name="batch", objective=Objective(ttft_s=1.0))])
    with pytest.raises(ValueError, match=f"may be {CLASSES_MAX}"):
        ServiceClasses([ServiceClass(name=f"c{number}") for number in range(CLASSES_MAX + 1)])


def test_a_promise_can_be_changed_for_one_class() -> None:
    classes = ServiceClasses()
    changed = classes.with_objective("conversational", Objective(ttft_s=9.0))
    assert changed["conversational"].objective == Objective(ttft_s=9.0)
    assert changed["conversational"].tiers == CONVERSATIONAL.tiers
    assert classes["conversational"] == CONVERSATIONAL, "the old ones are as they were"
    assert changed["batch"] == BATCH
    with pytest.raises(KeyError):
        classes.with_objective("nobody", Objective())
