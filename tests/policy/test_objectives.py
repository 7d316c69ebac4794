"""Service classes as an operator writes them, in tables and flags; what is wrong is one line that says where."""

from __future__ import annotations

from typing import Any

import pytest

from headway.policy.objectives import parts_ms, read_classes, with_parts
from headway.policy.slo import BATCH, CONVERSATIONAL, INTERACTIVE, NO_PROMISE, Objective


def test_without_a_word_there_are_the_built_in_classes() -> None:
    assert list(read_classes({}).values()) == [CONVERSATIONAL, INTERACTIVE, BATCH]


def test_a_table_changes_what_it_names_and_leaves_the_rest() -> None:
    classes = read_classes({"conversational": {"ttft_ms": 250}, "interactive": {"e2e_ms": "none", "weight": 2}})
    assert classes["conversational"].objective == Objective(ttft_s=0.25, itl_s=0.1)
    assert classes["conversational"].tiers == ("priority", "scale")
    assert classes["interactive"].objective == Objective(ttft_s=0.5)
    assert classes["interactive"].weight == 2.0


def test_a_table_adds_a_class_and_its_tiers() -> None:
    classes = read_classes({"voice": {"ttft_ms": 150, "itl_ms": 40.5, "tiers": ["phone", "scale"], "weight": 1.5}})
    voice = classes["voice"]
    assert voice.objective == Objective(ttft_s=0.15, itl_s=0.0405)
    assert classes.tiers["phone"] is classes.tiers["scale"] is classes.tiers["voice"] is voice
    assert classes.tier_of("voice") == "phone"
    assert classes.tiers["priority"].name == "conversational", "which has lost one tier and kept the other"


def test_flags_come_after_tables() -> None:
    tables = {"voice": {"ttft_ms": 150}}
    classes = read_classes(tables, ["voice:itl=40", "voice:itl=30,e2e=9000", "interactive:e2e=none"])
    assert classes["voice"].objective == Objective(ttft_s=0.15, itl_s=0.03, e2e_s=9.0)
    assert classes["interactive"].objective == Objective(ttft_s=0.5)


TABLES: list[tuple[Any, str]] = [
    (3, r"\[classes\] must hold one table for each class"),
    ({"voice": 3}, r"\[classes.voice\] must be a table, not 3"),
    ({"voice": {"tftt_ms": 3}}, r"\[classes.voice\] has an unknown key 'tftt_ms'; known are ttft_ms, itl_ms"),
    ({"voice": {"ttft_ms": True}}, r"\[classes.voice\]: ttft_ms must be a number of milliseconds or 'none', not True"),
    ({"voice": {"ttft_ms": []}}, "must be a number of milliseconds"),
    ({"voice": {"ttft_ms": 0}}, "class voice: ttft must be between 1 and 86400000 ms, not 0"),
    ({"voice": {"ttft_ms": float("nan")}}, "must be between 1 and 86400000 ms, not nan"),
    ({"voice": {"weight": "2"}}, r"\[classes.voice\]: weight must be a number, not '2'"),
    ({"voice": {"weight": 0}}, "weight of class voice must be above 0"),
    ({"voice": {"tiers": "phone"}}, "tiers must be a list of 1 to 8 short words"),
    ({"voice": {"tiers": []}}, "tiers must be a list"),
    ({"voice": {"tiers": [7]}}, "tiers must be a list"),
    ({"a b": {}}, "a class is named by a short word, not 'a b'"),
    ({"batch": {"ttft_ms": 100}}, "the class batch can't promise anything"),
    ({"x": {"tiers": ["phone"]}, "y": {"tiers": ["phone"]}}, "the service tier 'phone' belongs to two classes"),
    ({"interactive": {"tiers": ["default"]}}, "no service class has the tier 'auto'"),
    ({f"class-{number}": {} for number in range(20)}, "there may be 16 service classes"),
]


@pytest.mark.parametrize(("tables", "words"), TABLES)
def test_case_40_a_table_that_cannot_be_meant_is_refused_in_one_line(tables: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words) as refused:
        read_classes(tables)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("conversatonal:ttft=300", "there is no service class 'conversatonal'; there are conversational, interactive"),
        ("conversational", "write NAME:ttft=300,itl=100,e2e=2000"),
        ("conversational:", "write NAME"),
        ("conversational:ttft", "write NAME"),
        ("conversational:tpot=3", "write NAME"),
        ("conversational:ttft=3,ttft=4", "each part once"),
        ("conversational:ttft=fast", "ttft must be a number of milliseconds or 'none', not 'fast'"),
        ("conversational:ttft=-3", "ttft must be between 1 and 86400000 ms, not -3"),
        ("conversational:ttft=nan", "not nan"),
        ("batch:e2e=1000", "the class batch can't promise anything"),
    ],
)
def test_case_40_a_flag_that_cannot_be_meant_is_refused(change: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        read_classes({}, [change])


def test_parts_go_there_and_back() -> None:
    for objective in (NO_PROMISE, Objective(ttft_s=0.3, itl_s=0.0405), Objective(e2e_s=86_400.0)):
        assert with_parts(NO_PROMISE, parts_ms(objective)) == objective
