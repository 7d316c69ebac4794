"""Case 15: line breaks and terminal codes in names: escaped in logs, and no new labels in metrics."""

from __future__ import annotations

import logging
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from headway.serve.log import EscapingFormatter
from tests.http_client import CHAT, Connection, chat, fetch
from tests.running_server import RunningServer, running_server

HOSTILE = "x\r\nERROR forged line\x1b[31m\x07\u2028\x85"


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with running_server() as server:
        yield server


def test_case_15_names_do_not_reach_the_log_raw(server: RunningServer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    fetch(server.port, "POST", CHAT, chat(model=HOSTILE))
    fetch(server.port, "POST", CHAT, chat(user=HOSTILE))
    fetch(server.port, "POST", CHAT, chat(f"secret words {HOSTILE}"))
    fetch(server.port, "GET", "/%0d%0aERROR%20forged%1b[31m")
    formatter = EscapingFormatter()
    lines = [formatter.format(record) for record in caplog.records if record.name.startswith("headway")]
    assert lines
    assert not any(re.search(r"[\x00-\x1f\x7f-\x9f\u2028]", line) for line in lines)
    assert not any("secret words" in line or "forged" in line for line in lines), "content is never logged"


def test_case_15_a_real_process_logs_nothing_raw_and_nothing_of_strangers() -> None:
    """The escaping was there and nothing used it; and everyone could fill the log, a line for each bad request."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = int(probe.getsockname()[1])
    command = [sys.executable, "-m", "tests.serve_process", str(port), "0.001", "5"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            assert fetch(port, "POST", CHAT, chat(f"boom {HOSTILE}")).status == 500
            for _ in range(5):
                with Connection(port) as connection:
                    connection.send(b"this is not HTTP\r\n\r\n")
                    assert connection.read_response().status == 400
            assert fetch(port, "GET", "/version", headers={"Connection": "Upgrade", "Upgrade": "h2c"}).status == 200
            process.send_signal(signal.SIGTERM)
            _, stderr = process.communicate(timeout=20)
        finally:
            process.kill()
    log = stderr.decode()
    assert "\\x1b[31m" in log, "it was logged, escaped"
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028]", log)
    assert not re.search(r"^ERROR forged", log, re.MULTILINE)
    assert "nvalid" not in log
    assert "pgrade" not in log


def test_case_15_the_formatter_escapes_whatever_comes() -> None:
    record = logging.LogRecord("headway", logging.INFO, __file__, 1, "%s", (HOSTILE,), None)
    assert EscapingFormatter().format(record) == "x\\x0d\\x0aERROR forged line\\x1b[31m\\x07\\u2028\\x85"


@pytest.mark.parametrize("value", ["a b", "x" * 129, "a\tb", "\u00e9", "a/b", "<script>", ""])
def test_case_15_an_unsafe_request_id_is_replaced(server: RunningServer, value: str) -> None:
    reply = fetch(server.port, "GET", "/version", headers={"X-Request-Id": value})
    assert re.fullmatch("[0-9a-f]{24}", reply.headers["x-request-id"])


def test_case_15_a_safe_request_id_is_kept(server: RunningServer) -> None:
    assert fetch(server.port, "GET", "/", headers={"X-Request-Id": "a.B-9_z"}).headers["x-request-id"] == "a.B-9_z"


def test_case_15_metric_labels_are_from_closed_sets(server: RunningServer) -> None:
    def series() -> set[str]:
        text = fetch(server.port, "GET", "/metrics").body.decode()
        return {line.rpartition(" ")[0] for line in text.splitlines() if not line.startswith("#")}

    def be_odd(number: int) -> None:
        fetch(server.port, "GET", f"/path-{number}")
        fetch(server.port, "GET", f"/v1/models/model-{number}")
        fetch(server.port, "POST", CHAT, chat(model=f"model-{number}", user=f"user-{number}"))
        fetch(server.port, "POST", CHAT, chat(user=f"user-{number}"), {"X-Request-Id": f"id-{number}"})

    be_odd(0)
    series()
    before = series()
    for number in range(1, 20):
        be_odd(number)
    assert series() == before
