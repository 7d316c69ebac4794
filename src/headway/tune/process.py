"""A server started by a command of the user's: ready or not, and ended with all that it started."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import os
import shlex
import signal
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from string import Formatter

from headway.bench.ask import ask
from headway.bench.target import Target, TargetError

READY_TIMEOUT_S = 900.0
"""Large models take minutes to load, and some compile for as long again."""
ASK_TIMEOUT_S = 5.0
ASK_EVERY_S = 0.25
SAY_EVERY_S = 10.0
STOP_TIMEOUT_S = 30.0
GONE_TIMEOUT_S, GONE_EVERY_S = 2.0, 0.02
TAIL_LINES = 20
TAIL_BYTES = 16 << 10


class CommandError(ValueError):
    """The command can't be meant. One line."""


class StartError(Exception):
    """The server did not become ready. The message ends with the last lines of its log."""


def placeholders(template: str, known: Mapping[str, str]) -> set[str]:
    """The names in braces. Raises ``CommandError`` for others than ``known``, or what is no command."""
    try:
        words = shlex.split(template)
        names = {name for word in words for _, name, _, _ in Formatter().parse(word) if name is not None}
    except ValueError as error:
        raise CommandError(f"--command: {error}") from None
    if not words:
        raise CommandError("--command is empty")
    if unknown := sorted(names - set(known)):
        said = ", ".join(f"{{{name}}} ({meaning})" for name, meaning in known.items())
        raise CommandError(f"--command has {{{unknown[0]}}}; what can be filled in: {said}; write other braces twice")
    try:
        filled = [word.format_map(dict.fromkeys(known, 1)) for word in words]
    except (ValueError, LookupError) as error:  # a format after the name
        raise CommandError(f"--command can't be filled in: {error}") from None
    if any("\0" in word for word in filled):
        raise CommandError("--command has a zero byte in it")
    return names


class Process:
    """One run of a command, in a process group of its own. ``say`` gets a line now and then while it gets ready."""

    def __init__(self, words: list[str], say: Callable[[str], None]) -> None:
        self._words = words
        self._say = say
        self._process: asyncio.subprocess.Process | None = None
        self._log = Path(os.devnull)

    async def start(self, target: Target, *, timeout_s: float = READY_TIMEOUT_S) -> None:
        """Until it serves ``target``. Raises ``StartError``; then, as if cancelled, nothing of it is left running."""
        number, name = tempfile.mkstemp(prefix="headway-tune-", suffix=".log")
        self._log = Path(name)
        try:
            with os.fdopen(number, "wb") as log:
                self._process = await asyncio.create_subprocess_exec(
                    *self._words, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
                )
        except BaseException as error:
            self._log.unlink()
            if isinstance(error, OSError):
                raise StartError(f"{self._words[0]} can't be started: {error.strerror or error}") from None
            raise
        try:
            await self._until_ready(self._process, target, timeout_s)
        except BaseException:
            await self.stop()
            raise

    async def _until_ready(self, process: asyncio.subprocess.Process, target: Target, timeout_s: float) -> None:
        began_s = said_s = time.monotonic()
        while not await asyncio.to_thread(is_ready, target):
            now_s = time.monotonic()
            if process.returncode is not None:
                raise StartError(f"the server ended with status {process.returncode} before it was ready{self._tail()}")
            if now_s - began_s > timeout_s:
                raise StartError(f"the server was not ready after {timeout_s:g} s{self._tail()}")
            if now_s - said_s > SAY_EVERY_S:
                said_s = now_s
                self._say(f"waiting for the server, {now_s - began_s:.0f} s; its log is {self._log}")
            await asyncio.sleep(ASK_EVERY_S)

    def _tail(self) -> str:
        with contextlib.suppress(OSError), self._log.open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - TAIL_BYTES))
            lines = log.read().decode("utf-8", "replace").splitlines()[-TAIL_LINES:]
            return "".join(f"\n  {line}" for line in lines) or "; it said nothing"
        return ""

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    async def stop(self) -> None:
        """Ask the whole group to end, and kill what has not within ``STOP_TIMEOUT_S``. Twice is as good as once.

        Raises ``StartError`` if it may not be ended: the command has made it another user's.
        """
        process, self._process = self._process, None
        if process is None:
            return
        try:
            _signal(process.pid, signal.SIGTERM)
            try:
                async with asyncio.timeout(STOP_TIMEOUT_S):
                    await process.wait()
            except TimeoutError:
                self._say(f"the server did not end within {STOP_TIMEOUT_S:g} s and is killed")
            finally:
                _signal(process.pid, signal.SIGKILL)  # whoever of it is left; the group keeps its number until then
                await asyncio.shield(process.wait())
                await _until_gone(process.pid)  # what its workers held is free only then
        finally:
            with contextlib.suppress(OSError):
                self._log.unlink()


async def _until_gone(group: int) -> None:
    """Whoever inherits the group's orphans may be slow to bury them: that is not waited for."""
    until_s = time.monotonic() + GONE_TIMEOUT_S
    with contextlib.suppress(ProcessLookupError, PermissionError):
        while time.monotonic() < until_s:
            os.killpg(group, 0)
            await asyncio.sleep(GONE_EVERY_S)


def _signal(group: int, number: signal.Signals) -> None:
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return
    except PermissionError:
        raise StartError(
            f"the server (process {group}) is another user's and can't be ended from here: end it"
        ) from None


def is_ready(target: Target) -> bool:
    """Whether it lists its models and, where it has a health check, is well."""
    try:
        health, _ = ask(target, f"{target.root}/health", timeout_s=ASK_TIMEOUT_S)
        models, _ = ask(target, f"{target.base}/models", timeout_s=ASK_TIMEOUT_S)
    except (OSError, http.client.HTTPException):
        return False
    if models in (http.client.UNAUTHORIZED, http.client.FORBIDDEN):
        raise TargetError(f"{target.url} refuses the API key")
    return models == http.client.OK and health in (http.client.OK, http.client.NOT_FOUND)
