"""The engines that are known."""

from __future__ import annotations

import pytest

from headway.plan.engines import ENGINES, find_engine
from headway.plan.errors import PlanError


def test_names() -> None:
    assert {name: engine.name for name, engine in ENGINES.items()} == {name: name for name in ENGINES}
    assert find_engine(" vLLM ") is ENGINES["vllm"]


def test_every_engine_says_where_its_numbers_are_from_and_is_possible() -> None:
    for engine in ENGINES.values():
        assert engine.source
        assert engine.since.isdecimal()
        assert 0.5 < engine.utilisation <= 1.0
        assert 0.0 < engine.held_output <= 1.0


def test_an_unknown_engine() -> None:
    with pytest.raises(PlanError, match="'tgi' is no known engine; known: headway, vllm"):
        find_engine("tgi")
