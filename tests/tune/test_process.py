"""Servers started by a command: real processes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
import tempfile
from pathlib import Path

import pytest

from headway.bench.target import Target, TargetError
from headway.tune.engines import FILLED_IN, Interrupted, Knobs, Restarted, interruptible
from headway.tune.process import CommandError, StartError, placeholders

SERVER = """
import http.server, json, os, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
with open(sys.argv[2] + ".pids", "a") as file:
    file.write(f"{os.getpid()} {child.pid}\\n")
with open(sys.argv[2] + ".args", "a") as file:
    file.write(" ".join(sys.argv[3:]) + "\\n")
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps({"data": [{"id": "m"}]}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args):
        pass
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


@pytest.fixture
def target() -> Target:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return Target.at(f"http://127.0.0.1:{probe.getsockname()[1]}")


def command(tmp_path: Path, rest: str = "--max-num-seqs {batch}") -> str:
    script = tmp_path / "server.py"
    script.write_text(SERVER, encoding="utf-8")
    return f"{sys.executable} {script} {{port}} {tmp_path / 'out'} {rest}"


def is_alive(pid: int) -> bool:
    with contextlib.suppress(OSError):
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
        return state != "Z"
    return False


def pids(tmp_path: Path) -> list[int]:
    return [int(pid) for pid in (tmp_path / "out.pids").read_text(encoding="utf-8").split()]


def ignore(line: str) -> None:
    """Nobody looks."""


def test_a_server_is_started_anew_for_each_point_and_ended_with_all_it_started(tmp_path: Path, target: Target) -> None:
    async def go() -> None:
        engine = Restarted(command(tmp_path), target, ignore)
        await engine.use(Knobs(batch=4))
        await engine.use(Knobs(batch=4))  # as it is
        await engine.use(Knobs(batch=8))
        await engine.close()
        await engine.close()

    asyncio.run(go())
    assert (tmp_path / "out.args").read_text(encoding="utf-8").split() == ["--max-num-seqs", "4", "--max-num-seqs", "8"]
    assert len(pids(tmp_path)) == 4
    assert not any(is_alive(pid) for pid in pids(tmp_path))


def test_one_that_died_is_started_again(tmp_path: Path, target: Target) -> None:
    async def go() -> None:
        engine = Restarted(command(tmp_path), target, ignore)
        await engine.use(Knobs(batch=4))
        assert engine._process is not None
        process = engine._process._process
        assert process is not None
        os.kill(process.pid, signal.SIGKILL)
        await process.wait()
        await engine.use(Knobs(batch=4))
        await engine.close()

    asyncio.run(go())
    assert len(pids(tmp_path)) == 4
    assert not any(is_alive(pid) for pid in pids(tmp_path))


def test_a_server_that_ends_before_it_is_ready_shows_the_end_of_its_log(target: Target) -> None:
    engine = Restarted(f"{sys.executable} -c 'print(\"out of memory\"); exit(3)' {{batch}}", target, ignore)
    with pytest.raises(StartError, match=r"(?s)ended with status 3.*out of memory"):
        asyncio.run(engine.use(Knobs(batch=1)))


def test_a_command_that_is_not_there_is_said_not_to_be(target: Target) -> None:
    engine = Restarted("no-such-program-at-all {batch}", target, ignore)
    with pytest.raises(StartError, match="no-such-program-at-all can't be started"):
        asyncio.run(engine.use(Knobs(batch=1)))


def test_an_interrupt_while_it_gets_ready_leaves_nothing_running(tmp_path: Path, target: Target) -> None:
    pipe = tmp_path / "pid"
    os.mkfifo(pipe)
    script = f"import os, time; print(os.getpid(), file=open({str(pipe)!r}, 'w'), flush=True); time.sleep(600)"
    engine = Restarted(f'{sys.executable} -c "{script}" {{batch}}', target, ignore)

    async def go() -> int:
        stop = asyncio.Event()

        async def interrupt() -> int:
            with await asyncio.to_thread(pipe.open, encoding="utf-8") as opened:
                pid = int(await asyncio.to_thread(opened.readline))
            stop.set()
            return pid

        task = asyncio.create_task(interrupt())
        with pytest.raises(Interrupted):
            await interruptible(engine.use(Knobs(batch=1)), stop)
        return await task

    assert not is_alive(asyncio.run(go()))


def test_what_is_there_already_is_left_alone(tmp_path: Path, target: Target) -> None:
    async def go() -> None:
        first = Restarted(command(tmp_path), target, ignore)
        await first.use(Knobs(batch=1))
        try:
            with pytest.raises(TargetError, match="answers at"):
                await Restarted(command(tmp_path), target, ignore).use(Knobs(batch=2))
            assert is_alive(pids(tmp_path)[0])
        finally:
            await first.close()

    asyncio.run(go())


def test_a_server_of_another_user_is_said_to_be_left_running(
    target: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after ``sudo``: it was a traceback, and the wait for its end had no end."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    ended = os.killpg

    def refuse(group: int, number: int) -> None:
        raise PermissionError

    async def go() -> None:
        engine = Restarted(command(tmp_path), target, ignore)
        await engine.use(Knobs(batch=1))
        assert engine._process is not None
        process = engine._process._process
        assert process is not None
        monkeypatch.setattr(os, "killpg", refuse)
        with pytest.raises(StartError, match="another user's"):
            await engine.close()
        ended(process.pid, signal.SIGKILL)
        await process.wait()

    asyncio.run(go())
    assert not list(tmp_path.glob("headway-tune-*.log"))


def test_no_log_is_left_of_what_did_not_start(target: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(StartError):
        asyncio.run(Restarted("no-such-program-at-all {batch}", target, ignore).use(Knobs(batch=1)))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("", "is empty"),
        ("serve {batches}", r"has \{batches\}; what can be filled in: \{batch\}"),
        ("serve 'unclosed", "No closing quotation"),
        ("serve {batch", "--command"),
        ("serve {batch:{more}}", "can't be filled in"),
        ("serve {batch:zz}", "can't be filled in"),
        ("serve {batch} \0", "zero byte"),
    ],
)
def test_a_command_that_cannot_be_meant_is_refused(template: str, said: str) -> None:
    with pytest.raises(CommandError, match=said):
        placeholders(template, FILLED_IN)
