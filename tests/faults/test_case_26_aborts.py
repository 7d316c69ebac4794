"""Case 26: double aborts, aborts of unknown or finished ids, aborts before the first step: nothing happens, counted."""

from __future__ import annotations

from headway.policy.events import FinishReason
from tests.fakes import ScriptedExecutor
from tests.http_client import CHAT, Connection, chat, fetch
from tests.running_server import running_server


def test_case_26_aborts_of_nothing_are_counted() -> None:
    with running_server() as server:
        driver = server.node.driver
        driver.abort("never-was")
        driver.abort("never-was")
        assert fetch(server.port, "POST", CHAT, chat()).status == 200
        driver.abort("never-was", FinishReason.STOP)
        assert server.stats().ignored_aborts == 3


def test_case_26_an_abort_in_a_step_ends_the_reply_once() -> None:
    executor = ScriptedExecutor()
    executor.hold()
    with running_server(executor) as server, Connection(server.port) as connection:
        connection.request("POST", CHAT, chat(stream=True))
        assert executor.in_step.wait(10)
        request_id = executor.plans[0].chunks[0].request_id
        server.node.driver.abort(request_id)
        server.node.driver.abort(request_id)
        reply = connection.read_response()
        assert reply.status == 503
        executor.free()
        server.wait_idle()
        assert server.stats().ignored_aborts == 1
        assert server.stats().finished[FinishReason.ABORTED] == 1


def test_case_26_leaving_twice_is_leaving_once() -> None:
    executor = ScriptedExecutor()
    executor.hold()
    with running_server(executor) as server:
        with Connection(server.port) as connection:
            connection.request("POST", CHAT, chat())
            assert executor.in_step.wait(10)
            _, reply = next(iter(server.node.streams._open.values()))
        server.node.streams.leave(reply, "again")
        server.wait_until(lambda: server.stats().running == 0)
        server.node.streams.leave(reply, "and again")
        executor.free()
        server.wait_idle()
        assert server.stats().ignored_aborts == 0
