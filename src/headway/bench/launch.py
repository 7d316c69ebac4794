"""Starts a real ``headway serve`` as a process of its own, waits until it is ready, and ends it."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass

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
    """``headway serve ARGUMENTS`` on a free loopback port, for the length of the block. Raises ``LaunchError``."""
    with socket.create_server((HOST, 0)) as probe:
        port = probe.getsockname()[1]
    started_s = time.perf_counter()
    command = [sys.executable, "-m", "headway.cli", "serve", *arguments, "--host", HOST, "--port", str(port)]
    process = subprocess.Popen(command, stdout=sys.stderr)
    try:
        _wait_ready(process, port)
        yield RunningServer(port, process, time.perf_counter() - started_s)
    finally:
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
        with contextlib.suppress(OSError):  # URLError is one: not listening yet, or 503 while it loads
            urllib.request.urlopen(f"http://{HOST}:{port}/health/ready", timeout=1.0).close()
            return
        time.sleep(0.05)
    raise LaunchError(f"the server was not ready after {READY_TIMEOUT_S:g} s")
