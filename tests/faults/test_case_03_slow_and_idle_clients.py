"""Case 3: requests that drip in, and crowds of idle connections: closed in time, and health answers throughout."""

from __future__ import annotations

import contextlib
import resource
import statistics
import time

import pytest

from headway.serve.lifecycle import ServeConfig
from headway.serve.limits import EdgeLimits
from tests.fakes import ScriptedExecutor
from tests.http_client import CHAT, Connection, chat, fetch
from tests.running_server import running_server

QUICK = EdgeLimits(header_s=0.2, body_s=0.2, idle_s=0.2)
HEALTH_S = 0.1
"""The promise, for the usual answer."""
HEALTH_MAX_S = 1.0
"""For the slowest one: test machines are slow and shared."""


def test_case_03_half_a_header_is_408_and_closed() -> None:
    with running_server(config=ServeConfig(edge=QUICK)) as server, Connection(server.port) as connection:
        connection.send(b"GET /health/live HTTP/1.1\r\nHost: loc")
        reply = connection.read_response()
        assert reply.status == 408
        assert reply.error["code"] == "request_timeout"
        assert connection.at_end()


def test_case_03_a_dripping_header_does_not_extend_its_time() -> None:
    with running_server(config=ServeConfig(edge=QUICK)) as server, Connection(server.port) as connection:
        start_s = time.monotonic()
        with contextlib.suppress(ConnectionError):
            for byte in b"GET /health/live HTTP/1.1\r\nHost: localhost\r\nx-a: " + b"v" * 400:
                connection.send(bytes([byte]))
                time.sleep(0.01)  # the fault itself: a client that drips
        assert time.monotonic() - start_s < 10.0
        with contextlib.suppress(ConnectionError):
            assert connection.read_response().status == 408


def test_case_03_a_silent_connection_is_closed() -> None:
    with running_server(config=ServeConfig(edge=QUICK)) as server, Connection(server.port) as connection:
        assert connection.at_end()


def test_case_03_an_idle_connection_is_closed_after_its_reply() -> None:
    with running_server(config=ServeConfig(edge=QUICK)) as server, Connection(server.port) as connection:
        connection.request("GET", "/health/live")
        assert connection.read_response().status == 200
        assert connection.at_end()


def test_case_03_a_second_request_that_drips_is_closed_too() -> None:
    limits = EdgeLimits(header_s=0.2, idle_s=60)
    with running_server(config=ServeConfig(edge=limits)) as server, Connection(server.port) as connection:
        connection.request("GET", "/health/live")
        assert connection.read_response().status == 200
        connection.send(b"GET /hea")
        assert connection.read_response().status == 408
        assert connection.at_end()


@pytest.mark.parametrize("sent", [b"", b'{"model":'])
def test_case_03_a_body_that_never_comes_is_408(sent: bytes) -> None:
    with running_server(config=ServeConfig(edge=QUICK)) as server, Connection(server.port) as connection:
        connection.request("POST", CHAT, sent, {"Content-Length": "1000"})
        reply = connection.read_response()
        assert reply.status == 408
        assert connection.at_end()


def test_case_03_a_crowd_of_idle_connections_does_not_keep_others_out() -> None:
    """More connections than the server holds: the oldest idle ones make room, a busy one stays."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    crowd = min(5000, (hard - 500) // 2)
    limits = EdgeLimits(connections=crowd - 500, header_s=60)
    try:
        with running_server(config=ServeConfig(edge=limits)) as server, contextlib.ExitStack() as stack:
            took_s = []
            first = stack.enter_context(Connection(server.port))
            for number in range(crowd):
                stack.enter_context(Connection(server.port))
                if number % 250 == 0:
                    start_s = time.monotonic()
                    assert fetch(server.port, "GET", "/health/live").status == 200
                    took_s.append(time.monotonic() - start_s)
            assert statistics.median(took_s) < HEALTH_S
            assert max(took_s) < HEALTH_MAX_S
            assert first.at_end(), "the oldest idle connection has made room"
            assert server.on_loop(lambda: len(server.node.http.state.connections)) <= crowd - 500
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_case_03_when_every_connection_is_busy_a_new_one_is_503() -> None:
    executor = ScriptedExecutor()
    executor.hold()
    config = ServeConfig(edge=EdgeLimits(connections=1))
    with running_server(executor, config) as server, Connection(server.port) as busy:
        busy.request("POST", CHAT, chat())
        assert executor.in_step.wait(10)
        with Connection(server.port) as late:
            reply = late.read_response()
        assert reply.status == 503
        assert reply.error["code"] == "too_many_connections"
        assert "retry-after" in reply.headers
        executor.free()
        assert busy.read_response().status == 200
