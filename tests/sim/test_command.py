"""``headway simulate``: what it shows, writes, and says about what can't be."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from headway.cli import main
from headway.policy.policies import POLICIES
from headway.sim.hardware import HARDWARE
from headway.sim.workloads import descriptions

SMALL = ["simulate", "--hardware", "cpu-smollm2-135m", "--lengths", "0.05", "--rate", "2", "--seconds", "10"]


@pytest.mark.parametrize("policy", POLICIES)
def test_a_run_prints_a_small_table_for_each_class(policy: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SMALL, "--workload", "chat+batch", "--policy", policy]) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    for words in ("conversational", "batch", "goodput", "TTFT p95", "times faster than real time"):
        assert words in shown.out
    assert max(map(len, shown.out.splitlines())) <= 80


def test_figures_are_written_as_json_and_are_the_same_every_time(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*SMALL, "--json", str(tmp_path / "figures.json")]) == 0
    assert "goodput" in capsys.readouterr().out
    assert main([*SMALL, "--json", "-"]) == 0
    shown = capsys.readouterr().out
    assert shown == (tmp_path / "figures.json").read_text(encoding="utf-8")
    figures = json.loads(shown)
    assert figures["simulated"]["workload"] == "chat"
    assert figures["classes"]["conversational"]["offered"] > 0


def test_list_says_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", "--list"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for names in (HARDWARE, descriptions(), POLICIES) for name in names)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--hardware", "abacus"], "there is no hardware 'abacus'; there are h100-llama-8b, "),
        (["--workload", "nothing"], "there is no workload 'nothing'; there are experiment, "),
        (["--policy", "luck"], "there is no policy 'luck'; there are headway, "),
        (["--rate", "0"], "a rate must be above 0"),
        (["--seconds", "-1"], "a run must last some finite time"),
        (["--lengths", "0"], "lengths and promise must be above 0"),
        (["--max-step-tokens", "0"], "max_step_tokens must be at least 1, not 0"),
        (["--max-running", "0"], "max_running must be at least 1, not 0"),
        (["--noise", "-1"], "noise must be from 0 to 2, not -1"),
        (["--json", "/nowhere/at/all.json", "--seconds", "1"], "/nowhere/at/all.json"),
    ],
)
def test_what_a_user_got_wrong_is_one_line_and_exit_code_2(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["simulate", *arguments]) == 2
    shown = capsys.readouterr()
    assert words in shown.err
    assert shown.err.startswith("headway: ")
    assert len(shown.err.splitlines()) == 1
