"""Case 31: the worker dies in the middle of everything: streams go on where they were, no token lost, none twice."""

from __future__ import annotations

import contextlib
import json
from typing import Any

from headway.serve.driver import RestartPolicy
from headway.serve.lifecycle import ServeConfig
from tests.fakes import ScriptedExecutor, letters
from tests.http_client import CHAT, COMPLETIONS, Connection, chat, completion, fetch
from tests.running_server import running_server

QUICK = RestartPolicy(attempts=4, delay_s=0.01, delay_max_s=0.05)


def _texts(events: list[str]) -> str:
    assert events[-1] == "[DONE]"
    chunks: list[Any] = [json.loads(event) for event in events[:-1]]
    return "".join(choice["text"] for chunk in chunks for choice in chunk["choices"])


def test_case_31_streams_survive_the_loss_of_the_engine() -> None:
    executor = ScriptedExecutor(step_s=0.002)
    count, tokens = 16, 60
    with running_server(executor, ServeConfig(restart=QUICK)) as server, contextlib.ExitStack() as stack:
        connections = [stack.enter_context(Connection(server.port)) for _ in range(count)]
        for number, connection in enumerate(connections):
            body = completion("p" * (number + 1), max_tokens=tokens, seed=number, stream=True)
            connection.request("POST", COMPLETIONS, body)
        for _ in range(5):
            plans = len(executor.plans)
            server.wait_until(lambda plans=plans: len(executor.plans) >= plans + 5)  # type: ignore[misc]
            executor.lose()
        for number, connection in enumerate(connections):
            assert connection.read_head()[0] == 200
            assert _texts(list(connection.events())) == letters(number + 1, tokens, number)
        assert executor.starts == 6
        assert server.stats().displaced >= count


def test_case_31_while_it_restarts_the_server_lives_and_is_not_ready() -> None:
    executor = ScriptedExecutor()
    executor.hold()
    config = ServeConfig(restart=RestartPolicy(delay_s=0.3))
    with running_server(executor, config) as server, Connection(server.port) as connection:
        connection.request("POST", CHAT, chat(seed=1))
        assert executor.in_step.wait(10)
        executor.lose()
        server.wait_until(lambda: server.node.driver.state == "restarting")
        assert fetch(server.port, "GET", "/health/live").status == 200
        ready = fetch(server.port, "GET", "/health/ready")
        assert ready.status == 503
        assert "retry-after" in ready.headers
        executor.free()
        late = fetch(server.port, "POST", CHAT, chat(seed=1))  # waits in the queue rather than being turned away
        assert late.status == 200
        assert connection.read_response().json()["choices"] == late.json()["choices"]
        assert fetch(server.port, "GET", "/health/ready").status == 200


def test_case_31_a_request_that_kills_the_engine_again_and_again_is_given_up() -> None:
    executor = ScriptedExecutor()
    executor.hold()
    with running_server(executor, ServeConfig(restart=QUICK)) as server, Connection(server.port) as connection:
        connection.request("POST", CHAT, chat())
        for _ in range(QUICK.attempts):
            assert executor.in_step.wait(10)
            executor.in_step.clear()
            executor.lose()
        reply = connection.read_response()
        assert reply.status == 500
        assert reply.error["code"] == "engine_failed"
        executor.free()
        assert fetch(server.port, "POST", CHAT, chat()).status == 200


def test_case_31_an_engine_that_never_comes_back_ends_every_request_and_the_server() -> None:
    executor = ScriptedExecutor()
    executor.hold()
    with running_server(executor, ServeConfig(restart=QUICK)) as server, Connection(server.port) as connection:
        connection.request("POST", CHAT, chat(stream=True))
        assert executor.in_step.wait(10)
        executor.start_error = RuntimeError("no device")
        executor.lose()
        reply = connection.read_response()
        assert reply.status == 500
        assert server.ended.wait(10)
        assert server.exit_codes == [1]
        assert any("no device" in line for line in server.lines)


def test_case_31_failed_draws_end_their_own_request_alone() -> None:
    executor = ScriptedExecutor()
    executor.hold()
    with running_server(executor) as server, Connection(server.port) as first, Connection(server.port) as second:
        first.request("POST", CHAT, chat("first"))
        assert executor.in_step.wait(10)
        executor.failing.add(executor.plans[0].chunks[0].request_id)
        second.request("POST", CHAT, chat("second"))
        server.wait_until(lambda: server.node.service.in_flight.count == 2)
        executor.free()
        assert first.read_response().error["code"] == "engine_failed"
        assert second.read_response().status == 200
