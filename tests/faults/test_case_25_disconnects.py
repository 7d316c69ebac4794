"""Case 25: the client leaves at any point of a request's life, streaming or not: gone within one step."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from headway.policy.scheduler import SchedulerConfig
from headway.serve.lifecycle import ServeConfig
from headway.serve.limits import EdgeLimits
from tests.fakes import INFO, WAIT_S, FakeText, ScriptedExecutor
from tests.http_client import CHAT, COMPLETIONS, Connection, chat, completion, fetch
from tests.running_server import MODEL, RunningServer, running_server

LONG = 1000
BOTH = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])


@pytest.fixture
def executor() -> ScriptedExecutor:
    executor = ScriptedExecutor()
    executor.hold()
    return executor


def _serves_on(server: RunningServer, executor: ScriptedExecutor) -> None:
    """The next request is served at once, and nothing of the one that left is computed any more."""
    executor.free()
    server.wait_idle()
    before = len(executor.plans)
    reply = fetch(server.port, "POST", COMPLETIONS, completion("next", max_tokens=3))
    assert reply.status == 200
    assert len(executor.plans) == before + 3
    assert all(len(plan.chunks) == 1 for plan in executor.plans[before:])


@BOTH
def test_case_25_leaving_in_the_queue(executor: ScriptedExecutor, stream: bool) -> None:
    config = ServeConfig(scheduler=SchedulerConfig(max_running=1))
    with running_server(executor, config) as server, Connection(server.port) as first:
        first.request("POST", CHAT, chat(max_tokens=4))
        assert executor.in_step.wait(10)
        with Connection(server.port) as second:
            second.request("POST", CHAT, chat("queued", max_tokens=LONG, stream=stream))
            server.wait_until(lambda: server.stats().waiting == 1)
        server.wait_until(lambda: server.stats().waiting == 0)
        executor.free()
        assert first.read_response().status == 200
        _serves_on(server, executor)
        assert len({chunk.request_id for plan in executor.plans for chunk in plan.chunks}) == 2


@BOTH
def test_case_25_leaving_in_a_prefill_chunk(executor: ScriptedExecutor, stream: bool) -> None:
    config = ServeConfig(scheduler=SchedulerConfig(max_step_tokens=32))
    with running_server(executor, config) as server:
        with Connection(server.port) as connection:
            connection.request("POST", COMPLETIONS, completion("p" * 1000, max_tokens=LONG, stream=stream))
            assert executor.in_step.wait(10)
            executor.release(2)
            server.wait_until(lambda: len(executor.plans) == 3)
        server.wait_until(lambda: server.stats().running == 0)
        _serves_on(server, executor)
        assert executor.tokens_planned() < 32 * 3 + 16


@BOTH
def test_case_25_leaving_in_a_decode(executor: ScriptedExecutor, stream: bool) -> None:
    with running_server(executor) as server:
        with Connection(server.port) as connection:
            connection.request("POST", CHAT, chat(max_tokens=LONG, stream=stream))
            assert executor.in_step.wait(10)
            executor.release(5)
            server.wait_until(lambda: len(executor.plans) == 6)
            if stream:
                assert connection.read_head()[0] == 200
        server.wait_until(lambda: server.stats().running == 0)
        _serves_on(server, executor)
        assert len(executor.plans) == 6 + 3, "the step in flight was the last one"


@BOTH
def test_case_25_leaving_between_the_last_token_and_the_end(executor: ScriptedExecutor, stream: bool) -> None:
    with running_server(executor) as server:
        for _ in range(20):  # the race is over in microseconds: try it from many sides
            with Connection(server.port) as connection:
                connection.request("POST", CHAT, chat(max_tokens=1, stream=stream))
                assert executor.in_step.wait(10)
                executor.release()
                server.wait_until(lambda: server.stats().running == 0)
        _serves_on(server, executor)


@BOTH
def test_case_25_leaving_before_the_body_is_complete(executor: ScriptedExecutor, stream: bool) -> None:
    with running_server(executor) as server:
        with Connection(server.port) as connection:
            connection.request("POST", CHAT, b'{"model":', {"Content-Length": "1000"})
            server.wait_until(lambda: server.node.service.bodies.count == 1, "the body's start")
        server.wait_idle()
        assert not executor.plans
        outcome = server.node.telemetry.outcomes[CHAT, "client_closed_request"]
        assert outcome == 1


@BOTH
def test_case_25_two_hundred_leave_at_once(executor: ScriptedExecutor, stream: bool) -> None:
    executor.info = replace(INFO, kv_blocks=1 << 14)
    with running_server(executor, ServeConfig(scheduler=SchedulerConfig(max_step_tokens=1 << 14))) as server:
        connections = [Connection(server.port) for _ in range(200)]
        stayer = Connection(server.port)
        stayer.request("POST", CHAT, chat(seed=9, max_tokens=8))
        for number, connection in enumerate(connections):
            connection.request("POST", CHAT, chat(f"number {number}", max_tokens=LONG, stream=stream))
        server.wait_until(lambda: server.stats().running + server.stats().waiting == 201)
        executor.release(3)
        server.wait_until(lambda: server.stats().running == 201)
        for connection in connections:
            connection.close()
        server.wait_until(lambda: server.stats().running == 1)
        executor.free()
        reply = stayer.read_response()
        stayer.close()
        with running_server() as quiet:
            alone = fetch(quiet.port, "POST", CHAT, chat(seed=9, max_tokens=8))
        assert reply.json()["choices"] == alone.json()["choices"], "whoever stays is not touched"
        _serves_on(server, executor)


@BOTH
def test_case_25_leaving_with_several_choices(executor: ScriptedExecutor, stream: bool) -> None:
    with running_server(executor) as server:
        with Connection(server.port) as connection:
            connection.request("POST", CHAT, chat(max_tokens=LONG, n=8, stream=stream))
            server.wait_until(lambda: server.stats().running + server.stats().waiting == 8)
            executor.release(2)
            server.wait_until(lambda: server.stats().running == 8)
        server.wait_until(lambda: server.stats().running == 0)
        _serves_on(server, executor)


class _SlowText(FakeText):
    """Notes what it is given, and waits at its first text."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.busy = threading.Event()
        self.gate = threading.Event()

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        self.seen.append(text)
        self.busy.set()
        self.gate.wait(WAIT_S)
        return super().encode(text)


@pytest.mark.parametrize("path", [COMPLETIONS, "/tokenize"])
def test_case_25_leaving_before_the_prompt_is_looked_at(path: str) -> None:
    """A crowd that asks and leaves used to be tokenised all the same, ahead of those who stayed."""
    text = _SlowText()
    config = ServeConfig(edge=EdgeLimits(text_threads=1, preparing=2))
    with running_server(config=config, load_text=lambda: text) as server, Connection(server.port) as first:
        first.request("POST", COMPLETIONS, completion("first"))
        assert text.busy.wait(10)
        crowd = [Connection(server.port) for _ in range(10)]
        for connection in crowd:
            body = completion("one of a crowd") if path == COMPLETIONS else {"model": MODEL, "prompt": "one of a crowd"}
            connection.request("POST", path, body)
        server.wait_until(lambda: server.node.service.bodies.count == 11)
        for connection in crowd:
            connection.close()
        server.wait_until(lambda: server.on_loop(lambda: len(server.node.http.state.connections)) == 1)
        text.gate.set()
        assert first.read_response().status == 200
        server.wait_idle()
    assert text.seen[0] == "first"
    assert len(text.seen) <= 2, "one may have been in the thread's queue already"


@pytest.mark.parametrize("path", [COMPLETIONS, "/tokenize"])
def test_case_25_a_deadline_also_ends_the_wait_for_a_thread(path: str) -> None:
    """It used to be looked at only once the request had been tokenised."""
    text = _SlowText()
    config = ServeConfig(edge=EdgeLimits(text_threads=1, preparing=1))
    with running_server(config=config, load_text=lambda: text) as server, Connection(server.port) as first:
        first.request("POST", COMPLETIONS, completion("first"))
        assert text.busy.wait(10)
        body = completion("late") if path == COMPLETIONS else {"model": MODEL, "prompt": "late"}
        late = fetch(server.port, "POST", path, body, {"X-Request-Timeout-Ms": "50"})
        assert late.status == 504
        assert late.error["code"] == "deadline_expired"
        text.gate.set()
        assert first.read_response().status == 200
    assert text.seen == ["first"]
