"""The worker process and the executor around it: real processes, a tiny random model."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from headway.engine.executor import WorkerExecutor
from headway.engine.gloo import RANK_TIMEOUT_S
from headway.engine.messages import FRAME_BYTES_MAX, Channel, Closed, FromWorker, Progress, Step, ToWorker
from headway.engine.options import EngineOptions
from headway.models.errors import ModelError
from headway.models.source import resolve
from headway.policy.plan import Chunk, Draw, ExecutorLost, StepPlan, StepResult
from headway.policy.sampling import GREEDY, SamplingParams

OPTIONS = EngineOptions(dtype="fp32", kv_tokens=256, threads=1)
PLAN = StepPlan(0, (Chunk("a", 0, (5, 6, 7), (0,), Draw(GREEDY, 0, 3)),))


@pytest.fixture
def channels() -> Iterator[tuple[Channel, Channel, socket.socket]]:
    ours, theirs = socket.socketpair()
    parent, worker = Channel(ours, FromWorker), Channel(theirs, ToWorker)
    yield parent, worker, ours
    parent.close()
    worker.close()


def test_messages_arrive_as_they_were_sent(channels: tuple[Channel, Channel, socket.socket]) -> None:
    parent, worker, _ = channels
    params = SamplingParams(logit_bias=((3, -1.5),), stop_token_ids=(1, 2), logprobs=2, top_k=5, seed=2**64 - 1)
    plan = StepPlan(7, (Chunk("é", 2, (1, 2), (4, 5), Draw(params, 1, 3, (9, 8, 7))), Chunk("b", 0, (3,), (6,))))
    parent.send(Step(plan))
    assert worker.receive() == Step(plan)
    worker.send(Progress("loading", 0.5))
    assert parent.receive() == Progress("loading", 0.5)


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"\x00\x00",
        b"\x00\x00\x00\x08abc",
        b"\x00\x00\x00\x01\xc1",
        b"\x00\x00\x00\x02\x93\x01",
        (FRAME_BYTES_MAX + 1).to_bytes(4, "big"),
    ],
    ids=["nothing", "half a length", "half a body", "not MessagePack", "not a message", "too long"],
)
def test_anything_but_a_message_ends_the_connection(
    channels: tuple[Channel, Channel, socket.socket], frame: bytes
) -> None:
    _, worker, ours = channels
    ours.sendall(frame)
    ours.shutdown(socket.SHUT_WR)
    with pytest.raises(Closed):
        worker.receive()


def test_sending_to_nobody_is_noticed(channels: tuple[Channel, Channel, socket.socket]) -> None:
    parent, worker, _ = channels
    worker.close()
    with pytest.raises(Closed):
        parent.send(Step(PLAN))


def _run(executor: WorkerExecutor) -> StepResult:
    executor.begin(PLAN)
    return executor.finish()


@pytest.mark.slow
def test_a_worker_runs_plans_dies_and_comes_back_the_same() -> None:
    stages: list[str] = []
    executor = WorkerExecutor(resolve("random:tiny"), OPTIONS, progress=lambda stage, share: stages.append(stage))
    try:
        info = executor.start()
        assert info.kv_blocks * info.block_size == 256
        assert "loading weights" in stages
        first = _run(executor)
        [pid] = executor.process_ids

        os.kill(pid, signal.SIGTERM)  # a supervisor's signal to the whole group is not for the worker
        os.kill(pid, signal.SIGINT)
        assert _run(executor).drawn == first.drawn

        os.kill(pid, signal.SIGKILL)
        with pytest.raises(ExecutorLost, match=f"{pid} ended with status -9"):
            _run(executor)
        assert executor.process_ids == []

        assert executor.start() == info
        assert _run(executor).drawn == first.drawn
        [pid] = executor.process_ids
    finally:
        executor.stop()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    executor.stop()  # a second time does nothing


@pytest.mark.slow
def test_two_ranks_draw_what_one_draws() -> None:
    drawn = []
    for ranks in (1, 2):
        executor = WorkerExecutor(resolve("random:tiny"), OPTIONS, ranks=ranks)
        try:
            executor.start()
            assert len(executor.process_ids) == ranks
            drawn.append(_run(executor).drawn)
        finally:
            executor.stop()
    assert drawn[0] == drawn[1]


@pytest.mark.slow
def test_a_rank_that_dies_while_loading_is_noticed_at_once() -> None:
    """The first rank waits for the others to arrive, for two minutes, and the executor waited for the first rank."""
    executor = WorkerExecutor(resolve("random:tiny"), OPTIONS, ranks=2)

    def kill_the_second(stage: str, share: float | None) -> None:
        if len(executor.process_ids) == 2:
            os.kill(executor.process_ids[1], signal.SIGKILL)

    executor._progress = kill_the_second
    started_s = time.monotonic()
    with pytest.raises(ExecutorLost, match="ended with status -9"):
        executor.start()
    assert time.monotonic() - started_s < RANK_TIMEOUT_S / 2
    assert executor.process_ids == []


@pytest.mark.slow
def test_an_interrupted_start_leaves_no_process_behind() -> None:
    """SIGTERM during loading ended the server and left its worker running."""
    seen: list[int] = []

    def interrupt(stage: str, share: float | None) -> None:
        seen.extend(executor.process_ids)
        executor.interrupt()

    executor = WorkerExecutor(resolve("random:tiny"), OPTIONS, progress=interrupt)
    with pytest.raises(ExecutorLost):
        executor.start()
    assert seen
    with pytest.raises(ProcessLookupError):
        os.kill(seen[0], 0)


@pytest.mark.slow
def test_the_cache_keeps_its_size_when_a_worker_comes_back() -> None:
    """The cache was sized anew from what memory was free at a restart; requests that had fitted were failed."""
    executor = WorkerExecutor(resolve("random:tiny"), EngineOptions(dtype="fp32", kv_bytes_max=1 << 20, threads=1))
    try:
        info = executor.start()
        executor._options = replace(executor._options, kv_bytes_max=1 << 18)
        assert executor.start() == info
    finally:
        executor.stop()


@pytest.mark.slow
def test_a_model_that_does_not_fit_is_refused_with_the_worker_s_own_words() -> None:
    options = EngineOptions(dtype="fp32", kv_bytes_max=1, threads=1)
    executor = WorkerExecutor(resolve("random:tiny"), options)
    with pytest.raises(ModelError, match="KV cache"):
        executor.start()
    assert executor.process_ids == []


@pytest.mark.slow
def test_what_is_not_installed_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text('raise ModuleNotFoundError("No module named torch", name="torch")')
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}")
    executor = WorkerExecutor(resolve("random:tiny"), OPTIONS)
    with pytest.raises(ModelError, match=r"^torch is not installed: the extra 'engine' has what"):
        executor.start()
    executor.stop()


def test_a_worker_ends_when_its_parent_is_gone() -> None:
    """The serving process may be killed: its worker must not stay behind with the machine's memory."""
    script = (
        "import os, sys\n"
        "from headway.engine.executor import WorkerExecutor\n"
        "from headway.engine.options import EngineOptions\n"
        "from headway.models.source import resolve\n"
        "executor = WorkerExecutor(resolve('random:tiny'), EngineOptions(kv_tokens=256, threads=1))\n"
        "executor.start()\n"
        "print(executor.process_ids[0], flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        watch = os.pidfd_open(pid)
        parent.kill()
        assert select.select([watch], [], [], 10.0)[0], "the worker outlived its parent"
        os.close(watch)
