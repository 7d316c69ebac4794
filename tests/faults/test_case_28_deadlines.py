"""Case 28: a deadline passes in the queue, in a prefill, in a decode: 504, or an error event; no work past it."""

from __future__ import annotations

import json
import time

import pytest

from headway.policy.scheduler import SchedulerConfig
from headway.serve.lifecycle import ServeConfig
from headway.serve.limits import EdgeLimits
from tests.fakes import ScriptedExecutor
from tests.http_client import CHAT, COMPLETIONS, Connection, Response, chat, completion, fetch
from tests.running_server import running_server

SOON = {"X-Request-Timeout-Ms": "150"}
BOTH = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])


def _check(reply: Response) -> None:
    assert reply.status == 504
    assert reply.headers["x-should-retry"] == "false"
    assert reply.error["code"] == "deadline_expired"


@BOTH
def test_case_28_in_the_queue(stream: bool) -> None:
    executor = ScriptedExecutor(step_s=0.01)
    config = ServeConfig(scheduler=SchedulerConfig(max_running=1))
    with running_server(executor, config) as server, Connection(server.port) as first:
        first.request("POST", CHAT, chat(max_tokens=100))
        server.wait_until(lambda: server.stats().running == 1)
        _check(fetch(server.port, "POST", CHAT, chat("queued", stream=stream), SOON))
        assert first.read_response().status == 200
        assert len({chunk.request_id for plan in executor.plans for chunk in plan.chunks}) == 1


@BOTH
def test_case_28_in_a_prefill(stream: bool) -> None:
    executor = ScriptedExecutor(step_s=0.02)
    with running_server(executor, ServeConfig(scheduler=SchedulerConfig(max_step_tokens=16))) as server:
        start_s = time.monotonic()
        _check(fetch(server.port, "POST", COMPLETIONS, completion("p" * 2000, stream=stream), SOON))
        assert time.monotonic() - start_s < 2.0, "2.5 s without a deadline"
        server.wait_idle()
        assert executor.tokens_planned() < 1000


def test_case_28_in_a_decode() -> None:
    with running_server(ScriptedExecutor(step_s=0.01)) as server:
        _check(fetch(server.port, "POST", CHAT, chat(max_tokens=1000), SOON))


def test_case_28_in_a_stream_it_is_an_error_event() -> None:
    with running_server(ScriptedExecutor(step_s=0.01)) as server, Connection(server.port) as connection:
        connection.request("POST", CHAT, chat(max_tokens=1000, stream=True), SOON)
        assert connection.read_head()[0] == 200
        events = list(connection.events())
        assert len(events) > 2
        assert json.loads(events[-1])["error"]["code"] == "deadline_expired"
        assert "[DONE]" not in events


def test_case_28_the_servers_own_longest_time_holds_as_well() -> None:
    config = ServeConfig(edge=EdgeLimits(deadline_s=0.1))
    with running_server(ScriptedExecutor(step_s=0.01), config) as server:
        _check(fetch(server.port, "POST", CHAT, chat(max_tokens=1000), {"X-Request-Timeout-Ms": "9999999"}))


@BOTH
def test_case_28_a_stuck_engine_does_not_hold_the_reply(stream: bool) -> None:
    executor = ScriptedExecutor()
    executor.hold()
    config = ServeConfig(edge=EdgeLimits(deadline_grace_s=0.1))
    with running_server(executor, config) as server:
        _check(fetch(server.port, "POST", CHAT, chat(stream=stream), SOON))
        server.wait_until(lambda: server.stats().running == 0)
        executor.free()


@pytest.mark.parametrize("value", ["0", "-1", "1.5", "soon", "", "1e3", "99999999999"])
def test_case_28_an_odd_timeout_is_400(value: str) -> None:
    with running_server() as server:
        reply = fetch(server.port, "POST", CHAT, chat(), {"X-Request-Timeout-Ms": value})
        assert reply.status == 400
        assert reply.error["param"] == "x-request-timeout-ms"
