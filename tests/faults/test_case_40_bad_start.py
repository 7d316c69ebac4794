"""Case 40, the edge's part: a port that is taken, settings that can't be, a tokenizer that can't be loaded.

One clear line and exit code 2 for what the operator can change. (Model directories: tests/models.)
"""

from __future__ import annotations

import socket
from typing import Any

import pytest

from headway.models.source import resolve
from headway.policy.scheduler import SchedulerConfig
from headway.serve.bounds import RequestLimits
from headway.serve.lifecycle import ServeConfig, serve
from headway.serve.limits import EdgeLimits
from headway.serve.service import TextModel
from tests.fakes import FakeText, ScriptedExecutor
from tests.http_client import fetch
from tests.running_server import running_server


def test_case_40_a_taken_port_is_one_line_and_exit_code_2() -> None:
    lines: list[str] = []
    executor = ScriptedExecutor()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code = serve(
            ServeConfig(port=port),
            resolve("random:tiny"),
            executor,
            lambda source: FakeText(),
            report=lines.append,
        )
    assert code == 2
    assert len(lines) == 1
    assert f"127.0.0.1 port {port}" in lines[0]
    assert "in use" in lines[0]
    assert executor.starts == 0, "nothing was loaded"


def test_case_40_an_address_that_is_not_ours_is_exit_code_2() -> None:
    lines: list[str] = []
    config = ServeConfig(host="192.0.2.1", port=0)
    assert (
        serve(config, resolve("random:tiny"), ScriptedExecutor(), lambda source: FakeText(), report=lines.append) == 2
    )
    assert "192.0.2.1" in lines[0]


@pytest.mark.parametrize(
    "setting",
    [
        {"port": -1},
        {"port": 65536},
        {"drain_s": -1.0},
        {"status_s": 0.0},
        {"api_keys": ("",)},
        {"api_keys": ("a\nb",)},
        {"api_keys": (":key",)},
    ],
    ids=str,
)
def test_case_40_a_setting_that_cannot_be_is_refused(setting: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"must|written"):
        ServeConfig(**setting)


@pytest.mark.parametrize("name", ["header_bytes", "header_s", "connections", "write_stall_s", "deadline_s"])
def test_case_40_limits_are_above_zero(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        EdgeLimits(**{name: 0})


def test_case_40_an_unknown_setting_is_an_error() -> None:
    for record in (ServeConfig, EdgeLimits, RequestLimits, SchedulerConfig):
        with pytest.raises(TypeError):
            record(no_such_setting=1)  # type: ignore[call-arg]


def test_case_40_keys_are_not_in_the_settings_representation() -> None:
    assert "secret" not in repr(ServeConfig(api_keys=("name:secret",)))


def test_case_40_a_tokenizer_that_cannot_be_loaded_is_one_line_and_exit_code_2() -> None:
    def broken() -> TextModel:
        raise ValueError("tokenizer.json: line 3 is not JSON")

    with running_server(load_text=broken, wait_ready=False) as server:
        assert server.ended.wait(10)
    assert server.exit_codes == [2]
    assert server.lines == ["headway: the tokenizer can't be loaded: tokenizer.json: line 3 is not JSON"]


def test_case_40_an_engine_that_cannot_start_is_one_line_and_exit_code_2() -> None:
    executor = ScriptedExecutor(start_error=RuntimeError("not enough memory for the weights"))
    with running_server(executor, wait_ready=False) as server:
        assert server.ended.wait(10)
    assert server.exit_codes == [2]
    assert server.lines == ["headway: the engine could not start: not enough memory for the weights"]


def test_case_40_a_clean_start_after_a_failed_one() -> None:
    with running_server() as server:
        assert fetch(server.port, "GET", "/health/ready").status == 200
