"""Starts a server as a process of its own, ``headway serve`` or another, waits until it is ready, and ends it."""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any

HOST = "127.0.0.1"
READY_PATH = "/health/ready"
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
    port = free_port()
    command = [sys.executable, "-m", "headway.cli", "serve", *arguments, "--host", HOST, "--port", str(port)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HEADWAY_")}
    with running_server(command, port, environment=environment) as server:
        yield server


def free_port() -> int:
    """A port of the loopback that nobody listens on just now."""
    with socket.create_server((HOST, 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def running_server(
    command: Sequence[str],
    port: int,
    *,
    environment: Mapping[str, str] | None = None,
    ready_path: str = READY_PATH,
    log: IO[Any] | None = None,
) -> Iterator[RunningServer]:
    """A command that listens on ``port``, for the length of the block. Raises ``LaunchError``.

    ``ready_path`` answers 200 when it is ready, and 503 or nothing before. ``log`` gets what it says; None: standard
    error.
    """
    output = sys.stderr if log is None else log
    started_s = time.perf_counter()
    try:
        process = subprocess.Popen(command, stdout=output, stderr=log, env=environment)
    except OSError as error:
        raise LaunchError(f"{command[0]} could not be started: {error.strerror}") from None
    try:
        _wait_ready(process, port, ready_path)
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


def _wait_ready(process: subprocess.Popen[bytes], port: int, path: str) -> None:
    until_s = time.monotonic() + READY_TIMEOUT_S
    while time.monotonic() < until_s:
        if process.poll() is not None:
            raise LaunchError(f"the server ended with status {process.returncode} before it was ready")
        status = _ready_status(port, path)
        if status == http.HTTPStatus.OK:
            return
        if status not in (None, http.HTTPStatus.SERVICE_UNAVAILABLE):
            raise LaunchError(f"the server answers {path} with status {status}")
        time.sleep(0.05)
    raise LaunchError(f"the server was not ready after {READY_TIMEOUT_S:g} s")


def _ready_status(port: int, path: str) -> int | None:
    """What the server says; None while it does not listen yet. No proxy has a part in it."""
    connection = http.client.HTTPConnection(HOST, port, timeout=1.0)
    with contextlib.closing(connection), contextlib.suppress(OSError):
        connection.request("GET", path)
        return connection.getresponse().status
    return None
