"""Case 2: headers over 16 KiB or 100 fields, bodies over the limit: 431 or 413, and memory stays flat."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from headway.serve.lifecycle import ServeConfig
from headway.serve.limits import EdgeLimits
from tests.fakes import ScriptedExecutor
from tests.http_client import CHAT, Connection, Response, chat, fetch
from tests.running_server import RunningServer, running_server

BODY_BYTES = 256 * 1024
PEAK_RESET = Path("/proc/self/clear_refs")
MEMORY_MAX_BYTES = 32 * 1024 * 1024


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with running_server(config=ServeConfig(edge=EdgeLimits(body_bytes=BODY_BYTES))) as server:
        yield server


@pytest.fixture(autouse=True)
def _memory_stays_flat() -> Iterator[None]:
    """At its peak, not afterwards: what is let go in time for the end could have been too much all the same."""
    if not PEAK_RESET.exists():
        yield
        return
    PEAK_RESET.write_text("5")  # the peak is now what there is
    before = _peak_bytes()
    yield
    assert _peak_bytes() - before < MEMORY_MAX_BYTES


def _peak_bytes() -> int:
    """The most memory that this process has ever had, or since the last reset."""
    [line] = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def _send_headers(server: RunningServer, lines: Iterator[bytes]) -> Response | None:
    """None if the server closed the connection before its reply could be read."""
    with Connection(server.port) as connection, contextlib.suppress(ConnectionError, EOFError):
        with contextlib.suppress(ConnectionError):
            connection.send(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n")
            for line in lines:
                connection.send(line)
        return connection.read_response()
    return None


def test_case_02_headers_within_the_limits_are_fine(server: RunningServer) -> None:
    fields = {f"x-{number}": "v" for number in range(99)}
    assert fetch(server.port, "GET", "/health/live", headers=fields).status == 200
    assert fetch(server.port, "GET", "/health/live", headers={"x-long": "v" * 16_000}).status == 200


def test_case_02_more_than_100_headers_are_431(server: RunningServer) -> None:
    reply = fetch(server.port, "GET", "/health/live", headers={f"x-{number}": "v" for number in range(100)})
    assert reply.status == 431
    assert reply.error["code"] == "headers_too_large"
    assert reply.headers["connection"] == "close"
    assert reply.headers["x-request-id"]


def test_case_02_more_than_16_kib_of_headers_are_431(server: RunningServer) -> None:
    assert fetch(server.port, "GET", "/health/live", headers={"x-long": "v" * 17_000}).status == 431
    assert fetch(server.port, "GET", "/" + "p" * 17_000).status == 431


@pytest.mark.parametrize("what", ["one header of 8 MB", "200,000 headers"])
def test_case_02_a_flood_of_headers_is_cut_off(server: RunningServer, what: str) -> None:
    if what == "one header of 8 MB":
        reply = _send_headers(server, iter([b"x-long: ", *([b"v" * 65536] * 128)]))
    else:
        reply = _send_headers(server, (b"".join(b"x-%d: v\r\n" % n for n in range(1000)) for _ in range(200)))
    assert reply is None or reply.status == 431
    assert fetch(server.port, "GET", "/health/live").status == 200


def test_case_02_an_announced_body_over_the_limit_is_413(server: RunningServer) -> None:
    reply = fetch(server.port, "POST", CHAT, b"x" * (BODY_BYTES + 1))
    assert reply.status == 413
    assert reply.error["code"] == "request_too_large"
    assert str(BODY_BYTES) in reply.error["message"]
    assert reply.headers["connection"] == "close"


def test_case_02_a_client_that_asks_first_is_refused_before_it_sends(server: RunningServer) -> None:
    with Connection(server.port) as connection:
        headers = {"Content-Length": str(64 * 1024 * 1024), "Expect": "100-continue"}
        connection.request("POST", CHAT, b"", headers)
        status, _ = connection.read_head()
        assert status == 413


def test_case_02_a_chunked_body_over_the_limit_is_413(server: RunningServer) -> None:
    with Connection(server.port) as connection, contextlib.suppress(ConnectionError):
        connection.send(
            f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            "Transfer-Encoding: chunked\r\n\r\n".encode()
        )
        with contextlib.suppress(ConnectionError):
            for _ in range(512):  # 32 MiB
                connection.send(b"10000\r\n" + b"x" * 65536 + b"\r\n")
            connection.send(b"0\r\n\r\n")
        assert connection.read_response().status == 413
    assert fetch(server.port, "GET", "/health/live").status == 200


def test_case_02_a_body_at_the_limit_is_read(server: RunningServer) -> None:
    body = b'{"model":"fake-model","messages":"' + b"x" * (BODY_BYTES - 36) + b'"}'
    assert len(body) == BODY_BYTES
    assert fetch(server.port, "POST", CHAT, body).error["param"] == "messages"


def test_case_02_a_chunked_body_is_served_like_any_other(server: RunningServer) -> None:
    data = json.dumps(chat()).encode()
    with Connection(server.port) as connection:
        connection.send(
            f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            "Transfer-Encoding: chunked\r\n\r\n".encode()
        )
        for start in range(0, len(data), 7):
            piece = data[start : start + 7]
            connection.send(b"%x\r\n%b\r\n" % (len(piece), piece))
        connection.send(b"0\r\n\r\n")
        assert connection.read_response().status == 200


def test_case_02_a_body_is_not_kept_while_its_answer_is_made() -> None:
    """Spaces are JSON too: 4 MiB of them used to stay in memory for as long as the tokens took."""
    executor = ScriptedExecutor()
    executor.hold()
    with running_server(executor) as server, Connection(server.port) as connection:
        body = json.dumps(chat()).encode().ljust(4 * 1024 * 1024)
        connection.request("POST", CHAT, body)
        assert executor.in_step.wait(10)
        server.wait_until(lambda: server.node.service.bodies.held_bytes == 0)
        assert server.node.service.in_flight.count == 1
        executor.free()
        assert connection.read_response().status == 200


def test_case_02_bodies_have_a_bound_together() -> None:
    """Each of 4,096 connections may send 4 MiB, but not all of them at once."""
    limits = EdgeLimits(bodies_bytes=200_000, discard_s=0.1)
    with running_server(config=ServeConfig(edge=limits)) as server, Connection(server.port) as first:
        whole = json.dumps(chat()).encode().ljust(150_000)
        first.request("POST", CHAT, whole[:120_000], {"Content-Length": str(len(whole))})
        server.wait_until(lambda: server.node.service.bodies.held_bytes == 120_000)
        reply = fetch(server.port, "POST", CHAT, whole)
        assert reply.status == 429
        assert reply.error["code"] == "queue_full"
        assert "200000 bytes" in reply.error["message"]
        assert reply.headers["x-should-retry"] == "true"
        server.wait_until(lambda: server.node.service.bodies.held_bytes == 120_000)
        first.send(whole[120_000:])
        assert first.read_response().status == 200
