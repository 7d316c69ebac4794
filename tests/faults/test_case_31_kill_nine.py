"""Case 31 with nothing faked: ``kill -9`` of a real worker, again and again, under live streams."""

from __future__ import annotations

import json
import os
import signal
import time
from typing import Any

import pytest

from headway.engine.executor import WorkerExecutor
from headway.engine.options import EngineOptions
from headway.models.source import resolve
from headway.serve.driver import RestartPolicy
from headway.serve.lifecycle import ServeConfig
from headway.serve.text import Text
from tests.http_client import CHAT, Connection
from tests.running_server import MODEL, RunningServer, running_server

KILLS = 20
STREAMS = 32
TOKENS = 300
STEPS_BETWEEN = 3
"""A worker that is back runs a few steps before it is killed again."""


def _start(server: RunningServer, number: int) -> Connection:
    """Every other stream draws at random, from a seed of its own."""
    connection = Connection(server.port, timeout_s=120.0)
    body = {
        "model": MODEL,
        "messages": [{"role": "user", "content": f"Tell me about the number {number}."}],
        "max_tokens": TOKENS,
        "temperature": float(number % 2),
        "seed": number,
        "ignore_eos": True,
        "logprobs": True,
        "stream": True,
    }
    connection.request("POST", CHAT, body)
    return connection


def _tokens(connection: Connection) -> list[list[int]]:
    """The bytes of every token of a stream, in order."""
    with connection:
        assert connection.read_head()[0] == 200
        events = [event for event in connection.events() if not event.startswith(":")]  # without the pings
    assert events[-1] == "[DONE]"
    chunks: list[Any] = [json.loads(event) for event in events[:-1]]
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    assert [choice["finish_reason"] for choice in choices if choice["finish_reason"]] == ["length"]
    return [token["bytes"] for choice in choices for token in (choice["logprobs"] or {}).get("content", [])]


def _wait_for_steps(server: RunningServer, steps: int) -> None:
    until_s = time.monotonic() + 60.0
    while server.stats().steps < steps:
        assert time.monotonic() < until_s, f"no {steps} steps within 60 s: {server.node.driver.state}"
        time.sleep(0.001)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_case_31_kill_nine_twenty_times_under_thirty_two_streams() -> None:
    source = resolve("random:tiny")
    executor = WorkerExecutor(source, EngineOptions(dtype="fp32", kv_tokens=16384, threads=1))
    config = ServeConfig(restart=RestartPolicy(delay_s=0.01, delay_max_s=0.1))
    with running_server(executor, config, load_text=lambda: Text.load(source)) as server:
        undisturbed = [_tokens(connection) for connection in [_start(server, n) for n in range(STREAMS)]]
        assert all(len(tokens) == TOKENS for tokens in undisturbed)

        steps = server.stats().steps
        streams = [_start(server, number) for number in range(STREAMS)]
        for _ in range(KILLS):
            _wait_for_steps(server, steps + STEPS_BETWEEN)
            [pid] = executor.process_ids
            os.kill(pid, signal.SIGKILL)
            server.wait_until(lambda pid=pid: pid not in executor.process_ids, "the loss")  # type: ignore[misc]
            steps = server.stats().steps
        disturbed = [_tokens(connection) for connection in streams]

        assert server.node.driver.restarts == KILLS
        assert disturbed == undisturbed
