"""Before the model is there, and what a busy server says of itself."""

from __future__ import annotations

import threading

import pytest

from headway.serve.lifecycle import ServeConfig
from tests.fakes import ScriptedExecutor
from tests.http_client import CHAT, Connection, chat, fetch
from tests.running_server import running_server


def test_while_the_model_loads_the_server_lives_and_is_not_ready() -> None:
    gate = threading.Event()
    with running_server(ScriptedExecutor(start_gate=gate), wait_ready=False) as server:
        assert fetch(server.port, "GET", "/health/live").status == 200
        for method, path in (("GET", "/health/ready"), ("GET", "/health"), ("GET", "/ping"), ("GET", "/v1/models")):
            reply = fetch(server.port, method, path)
            assert reply.status == 503
            assert reply.error["code"] == "not_ready"
            assert int(reply.headers["retry-after"]) > 0
        assert fetch(server.port, "POST", CHAT, chat()).status == 503
        assert fetch(server.port, "GET", "/metrics").status == 200
        assert fetch(server.port, "GET", "/version").status == 200
        gate.set()
        server.wait_until(lambda: fetch(server.port, "GET", "/health/ready").status == 200)
        assert fetch(server.port, "POST", CHAT, chat()).status == 200


def test_stopping_while_the_model_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headway.serve.lifecycle.STOP_S", 0.2)
    gate = threading.Event()
    with running_server(ScriptedExecutor(start_gate=gate), wait_ready=False) as server:
        server.loop.call_soon_threadsafe(server.node.request_stop)
        assert server.ended.wait(10)
        gate.set()
    assert server.exit_codes == [0]


def test_a_busy_server_says_how_it_is_doing_and_a_quiet_one_says_nothing() -> None:
    executor = ScriptedExecutor(step_s=0.002)
    with running_server(executor, ServeConfig(status_s=0.05)) as server:
        with Connection(server.port) as connection:
            connection.request("POST", CHAT, chat(max_tokens=100, stream=True))
            server.wait_until(lambda: len(server.lines) > 1)
            assert list(connection.read_head())
            list(connection.events())
        assert "1 running 0 waiting | " in server.lines[0] or "1 running 0 waiting | " in server.lines[1]
        assert " tok/s | KV " in server.lines[0]
        assert "| shed 0" in server.lines[0]
        assert any("interactive p95 TTFT " in line and "/500 ms" in line for line in server.lines)
        server.wait_idle()
        line = server.node.telemetry  # nothing is recorded by a quiet server
        assert line.tokens_out == 100
