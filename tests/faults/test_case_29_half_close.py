"""Case 29: a client that closes its sending side after the request: treated as having left, nothing leaks."""

from __future__ import annotations

import socket

import pytest

from tests.fakes import ScriptedExecutor
from tests.http_client import CHAT, Connection, chat
from tests.running_server import running_server


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_case_29_half_close_is_a_disconnect(stream: bool) -> None:
    executor = ScriptedExecutor()
    executor.hold()
    with running_server(executor) as server, Connection(server.port) as connection:
        connection.request("POST", CHAT, chat(max_tokens=1000, stream=stream))
        assert executor.in_step.wait(10)
        connection.socket.shutdown(socket.SHUT_WR)
        server.wait_until(lambda: server.stats().running == 0)
        assert connection.at_end()
        executor.free()
        server.wait_idle()
        assert len(executor.plans) == 1
        assert server.node.telemetry.outcomes[CHAT, "client_closed_request"] == 1


def test_case_29_half_close_in_the_headers_closes() -> None:
    with running_server() as server, Connection(server.port) as connection:
        connection.send(b"GET /health/live HTTP/1.1\r\n")
        connection.socket.shutdown(socket.SHUT_WR)
        assert connection.at_end()
