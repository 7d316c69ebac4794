"""Case 39 with nothing faked: however a server ends, its worker process ends with it."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from headway.bench.launch import headway_server
from tests.http_client import COMPLETIONS, Connection, completion

pytestmark = pytest.mark.slow

WAIT_S = 30.0
TINY = ("random:tiny", "--name", "fake-model", "--kv-tokens", "512", "--threads", "1", "--drain-s", "0.1", "--quiet")


def _workers(server_pid: int) -> list[int]:
    children = Path(f"/proc/{server_pid}/task").glob("*/children")
    return [int(pid) for file in children for pid in file.read_text().split()]


def _ended(watch: int) -> bool:
    """Whether the process behind a pidfd has ended, or does within the limit."""
    ended = bool(select.select([watch], [], [], WAIT_S)[0])
    os.close(watch)
    return ended


def test_case_39_the_drain_s_end_ends_a_server_whose_worker_hangs() -> None:
    """The server left its hanging worker behind, with the machine's memory, and said that it ended well."""
    with headway_server(*TINY) as server, Connection(server.port) as connection:
        [pid] = _workers(server.process.pid)
        watch = os.pidfd_open(pid)
        os.kill(pid, signal.SIGSTOP)
        connection.request("POST", COMPLETIONS, completion(stream=True))
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(WAIT_S) == 0
        assert _ended(watch)


def test_case_39_a_killed_server_takes_its_worker_along() -> None:
    with headway_server(*TINY) as server:
        [pid] = _workers(server.process.pid)
        watch = os.pidfd_open(pid)
        server.process.kill()
        assert _ended(watch)


def test_case_39_sigterm_while_loading_leaves_nothing_behind() -> None:
    """Loading went on for its ten seconds, and the worker with it after the server had gone."""
    command = [sys.executable, "-m", "headway.cli", "serve", "random:qwen2.5-0.5b", "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        until_s = time.monotonic() + WAIT_S
        while "loading weights" not in server.stderr.readline():
            assert time.monotonic() < until_s
        [pid] = _workers(server.pid)
        watch = os.pidfd_open(pid)
        server.send_signal(signal.SIGTERM)
        assert server.wait(WAIT_S) == 0
        assert _ended(watch)
