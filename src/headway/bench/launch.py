"""Starts a real ``headway serve`` as a process of its own, waits until it is ready, and ends it."""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

HOST = "127.0.0.1"
READY_TIMEOUT_S = 300.0
STOP_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class RunningServer:
    port: int
    process: subprocess.Popen[bytes]
    ready_s: float
    """From starting the process to ready."""


class LaunchError(Exception):
    """The server did not become ready."""


@contextlib.contextmanager
def headway_server(*arguments: str) -> Iterator[RunningServer]:
    """``headway serve ARGUMENTS`` on a free loopback port, for the length of the block. Raises ``LaunchError``.

    The caller's own settings (``HEADWAY_*``) are not for this server.
    """
    with socket.create_server((HOST, 0)) as probe:
        port = probe.getsockname()[1]
    started_s = time.perf_counter()
    command = [sys.executable, "-m", "headway.cli", "serve", *arguments, "--host", HOST, "--port", str(port)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HEADWAY_")}
    process = subprocess.Popen(command, stdout=sys.stderr, env=environment)
    try:
        _wait_ready(process, port)
        yield RunningServer(port, process, time.perf_counter() - started_s)
    finally:
        end(process)


def end(process: subprocess.Popen[Any]) -> None:
    """Ask a process to end, and kill it if it has not within ``STOP_TIMEOUT_S``."""
    process.terminate()
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _wait_ready(process: subprocess.Popen[bytes], port: int) -> None:
    until_s = time.monotonic() + READY_TIMEOUT_S
    while time.monotonic() < until_s:
        if process.poll() is not None:
            raise LaunchError(f"the server ended with status {process.returncode} before it was ready")
        status = _ready_status(port)
        if status == http.HTTPStatus.OK:
            return
        if status not in (None, http.HTTPStatus.SERVICE_UNAVAILABLE):
            raise LaunchError(f"the server answers /health/ready with status {status}")
        time.sleep(0.05)
    raise LaunchError(f"the server was not ready after {READY_TIMEOUT_S:g} s")


def _ready_status(port: int) -> int | None:
    """What the server says; None while it does not listen yet. No proxy has a part in it."""
    connection = http.client.HTTPConnection(HOST, port, timeout=1.0)
    with contextlib.closing(connection), contextlib.suppress(OSError):
        connection.request("GET", "/health/ready")
        return connection.getresponse().status
    return None
