"""``python -m benchmarks plan PART``: all parts are there, and the quickest one runs."""

from __future__ import annotations

import argparse

import pytest

from benchmarks import plan


def parse(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    plan.add_arguments(parser)
    return parser.parse_args(words)


@pytest.mark.parametrize("part", plan.PARTS)
def test_a_part_says_what_it_does(part: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse(part, "--help")
    assert ended.value.code == 0
    assert "--json" in capsys.readouterr().out


def test_json_may_stand_behind_the_part() -> None:
    assert parse("speed", "--json", "figures.json").json == "figures.json"


def test_a_few_requests_are_simulated_and_counted() -> None:
    figures = plan.run(parse("speed", "--requests", "200", "--gpus", "2", "--policy", "vllm"))
    assert any(isinstance(value, int) and 150 <= value <= 250 for value in figures.values())
