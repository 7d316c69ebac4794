"""Case 39: SIGTERM under load, a second SIGTERM, SIGKILL and a restart."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

from tests.http_client import CHAT, Connection, chat, fetch

EXIT_S = 20.0


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def _process(port: int, *, step_s: float = 0.02, drain_s: float = 20.0) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "tests.serve_process", str(port), str(step_s), str(drain_s)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def _started(connection: Connection) -> Iterator[str]:
    """The events of a stream whose first one has come, so it is in progress."""
    assert connection.read_head()[0] == 200
    events = connection.events()
    next(events)
    return events


def _wait_draining(port: int) -> None:
    until_s = time.monotonic() + EXIT_S
    while fetch(port, "GET", "/health/ready").status == 200:
        assert time.monotonic() < until_s


def test_case_39_sigterm_lets_streams_finish_and_turns_new_requests_away() -> None:
    port = _free_port()
    with _process(port) as process, Connection(port) as stream, Connection(port) as idle:
        idle.request("GET", "/version")
        assert idle.read_response().status == 200
        stream.request("POST", CHAT, chat(max_tokens=60, stream=True))
        events = _started(stream)
        process.send_signal(signal.SIGTERM)
        _wait_draining(port)
        refused = fetch(port, "POST", CHAT, chat())
        assert refused.status == 503
        assert refused.error["code"] == "draining"
        assert int(refused.headers["retry-after"]) > 0
        assert refused.headers["connection"] == "close"
        assert fetch(port, "GET", "/health/live").status == 200
        rest = list(events)
        assert rest[-1] == "[DONE]"
        assert sum('"content":"' in event for event in rest) >= 59
        assert process.wait(EXIT_S) == 0
        assert idle.at_end()


def test_case_39_the_drain_limit_ends_streams_with_an_error_event() -> None:
    port = _free_port()
    with _process(port, drain_s=0.2) as process, Connection(port) as stream, Connection(port) as whole:
        stream.request("POST", CHAT, chat(max_tokens=1500, stream=True))
        events = _started(stream)
        whole.request("POST", CHAT, chat(max_tokens=1500))
        process.send_signal(signal.SIGTERM)
        rest = list(events)
        assert json.loads(rest[-1])["error"]["code"] == "stopped"
        assert whole.read_response().status == 503
        assert process.wait(EXIT_S) == 0


def test_case_39_a_second_sigterm_ends_the_drain_at_once() -> None:
    port = _free_port()
    with _process(port, drain_s=600) as process, Connection(port) as stream:
        stream.request("POST", CHAT, chat(max_tokens=1500, stream=True))
        events = _started(stream)
        process.send_signal(signal.SIGTERM)
        _wait_draining(port)  # two signals at once would be one
        start_s = time.monotonic()
        process.send_signal(signal.SIGTERM)
        rest = list(events)
        assert json.loads(rest[-1])["error"]["code"] == "stopped"
        assert process.wait(EXIT_S) == 0
        assert time.monotonic() - start_s < 5.0


def test_case_39_an_idle_server_stops_at_once() -> None:
    port = _free_port()
    with _process(port) as process:
        start_s = time.monotonic()
        process.send_signal(signal.SIGINT)
        assert process.wait(EXIT_S) == 0
        assert time.monotonic() - start_s < 5.0


def test_case_39_killed_and_started_again_on_the_same_port() -> None:
    port = _free_port()
    with _process(port) as process, Connection(port) as stream:
        stream.request("POST", CHAT, chat(max_tokens=1500, stream=True))
        _started(stream)
        process.kill()
        process.wait(EXIT_S)
    with _process(port):
        assert fetch(port, "POST", CHAT, chat()).status == 200


def test_case_39_a_body_that_drips_in_does_not_hold_up_the_end() -> None:
    """It used to count as a request in progress, for the 30 s that a body may take."""
    port = _free_port()
    with _process(port, drain_s=20.0) as process, Connection(port) as dripping, Connection(port) as asking:
        dripping.request("POST", CHAT, b'{"model":', {"Content-Length": "1000", "Expect": "100-continue"})
        assert dripping.read_head()[0] == 100, "the server waits for the body"
        asking.request("GET", "/version")
        assert asking.read_response().status == 200
        start_s = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert dripping.read_response().error["code"] == "draining"
        assert process.wait(EXIT_S) == 0
        assert time.monotonic() - start_s < 10.0
