"""The options of ``headway serve`` that are about promises: from the command line and the file to the settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from headway.cli import main
from headway.policy.controller import PromiseConfig
from headway.policy.slo import Objective
from headway.serve.lifecycle import ServeConfig
from headway.serve.policy_maker import PolicyMaker

FILE = """
[serve]
never_shed = true
slo = ["voice:itl=30"]
[classes.voice]
ttft_ms = 150
tiers = ["phone"]
[classes.interactive]
e2e_ms = "none"
"""


@pytest.fixture
def makers() -> list[PolicyMaker]:
    """What would have made its policy."""
    return []


@pytest.fixture
def settings(makers: list[PolicyMaker], monkeypatch: pytest.MonkeyPatch) -> list[ServeConfig]:
    """What the server would have been started with."""
    started: list[ServeConfig] = []

    def start(config: ServeConfig, *arguments: Any, make_policy: PolicyMaker, **options: Any) -> int:
        started.append(config)
        makers.append(make_policy)
        return 0

    monkeypatch.setattr("headway.serve.lifecycle.serve", start)
    return started


def test_promises_come_from_the_file(settings: list[ServeConfig], makers: list[PolicyMaker], tmp_path: Path) -> None:
    path = tmp_path / "headway.toml"
    path.write_text(FILE)
    assert main(["serve", "random:tiny", "--config", str(path), "--policy", "aimd"]) == 0
    [config], [maker] = settings, makers
    assert (maker.name, maker.promise) == ("aimd", PromiseConfig(never_shed=True))
    assert config.classes["voice"].objective == Objective(ttft_s=0.15, itl_s=0.03)
    assert config.classes.tiers["phone"].name == "voice"
    assert config.classes["interactive"].objective == Objective(ttft_s=0.5)


def test_promises_come_from_flags(
    settings: list[ServeConfig], makers: list[PolicyMaker], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADWAY_ADMIN_KEY", "a-key-of-the-operator")
    flags = ["--slo", "conversational:ttft=250", "--slo", "interactive:ttft=1,e2e=none", "--admin-port", "9001"]
    assert main(["serve", "random:tiny", *flags]) == 0
    [config], [maker] = settings, makers
    assert config.classes["conversational"].objective == Objective(ttft_s=0.25, itl_s=0.1)
    assert config.classes["interactive"].objective == Objective(ttft_s=0.001)
    assert (maker.name, maker.promise) == ("headway", PromiseConfig())
    assert (config.admin_port, config.admin_key) == (9001, "a-key-of-the-operator")


def test_the_admin_key_comes_from_a_file_too(settings: list[ServeConfig], tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text("another-key-of-the-operator\n")
    assert main(["serve", "random:tiny", "--admin-port", "9001", "--admin-key-file", str(path)]) == 0
    assert settings[0].admin_key == "another-key-of-the-operator"


def test_an_empty_admin_key_is_none(
    settings: list[ServeConfig], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """With HEADWAY_ADMIN_KEY set but empty, as a compose file passes on what was not given, a plain ``headway serve``
    refused to start for want of a port that nobody had asked for; empty HEADWAY_API_KEYS always meant none."""
    monkeypatch.setenv("HEADWAY_ADMIN_KEY", " ")
    assert main(["serve", "random:tiny"]) == 0
    assert settings[0].admin_key is None
    assert main(["serve", "random:tiny", "--admin-port", "9001"]) == 2
    words = "headway: admin_port and an admin key belong together: give both or neither (an empty key is none)\n"
    assert capsys.readouterr().err == words
    path = tmp_path / "key"
    path.write_text("\n")
    assert main(["serve", "random:tiny", "--admin-port", "9001", "--admin-key-file", str(path)]) == 2
    assert "the admin key must have at least 16" in capsys.readouterr().err
    assert len(settings) == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--slo", "conversational:ttft=0"], "class conversational: ttft must be between 1 and 86400000 ms, not 0"),
        (["--slo", "turbo:ttft=300"], "there is no service class 'turbo'"),
        (["--policy", "magic"], "policy must be one of headway, static, aimd, prefill-first, vllm, not 'magic'"),
        (["--admin-port", "9001"], "admin_port and an admin key belong together"),
        (["--classes", "3"], "--classes"),
    ],
)
def test_case_40_a_wrong_promise_is_one_line_and_exit_code_2(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str], settings: list[ServeConfig]
) -> None:
    assert main(["serve", "random:tiny", *arguments]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("headway: ")
    assert shown.err.count("\n") == 1
    assert words in shown.err
    assert not settings


@pytest.mark.parametrize("text", ["classes = 3\n", "[classes]\nvoice = 3\n", "[classes.voice]\ntpot_ms = 3\n"])
def test_case_40_wrong_tables_are_one_line_and_exit_code_2(
    tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str], settings: list[ServeConfig]
) -> None:
    path = tmp_path / "headway.toml"
    path.write_text(text)
    assert main(["serve", "random:tiny", "--config", str(path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("headway: [classes")
    assert error.count("\n") == 1
    assert not settings
