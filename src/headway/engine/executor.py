"""The engine's side of the serving process: an ``Executor`` that runs plans in worker processes.

One process per tensor-parallel rank; all get the same plan, and the first answers for all. It holds no request and no
tensor: when a worker dies, all are ended, ``ExecutorLost`` is raised, and ``start`` begins anew.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from headway.engine.messages import Channel, Closed, Done, FromWorker, Load, Progress, Ready, Refused, Step, ToWorker
from headway.engine.options import EngineOptions
from headway.models.errors import ModelError
from headway.models.source import ModelSource
from headway.policy.plan import ExecutorInfo, ExecutorLost, StepPlan, StepResult

STOP_TIMEOUT_S = 5.0
"""How long workers may take to end by themselves once their channels are closed; then they are killed."""


@dataclass(frozen=True, slots=True)
class _Worker:
    process: subprocess.Popen[bytes]
    channel: Channel


class WorkerExecutor:
    """Runs plans of one model in ``ranks`` worker processes."""

    def __init__(
        self,
        source: ModelSource,
        options: EngineOptions,
        *,
        ranks: int = 1,
        progress: Callable[[str, float | None], None] | None = None,
    ) -> None:
        self._source = source
        self._options = options
        self._has_run = False
        self._ranks = ranks
        self._progress = progress or (lambda stage, fraction: None)
        self._workers: list[_Worker] = []

    @property
    def process_ids(self) -> list[int]:
        """The processes that run now, rank by rank."""
        return [worker.process.pid for worker in self._workers]

    def start(self) -> ExecutorInfo:
        """Start the workers and load the model.

        Raises ``ModelError`` when it can't be loaded, ``ExecutorLost`` when a worker dies on the way, or when a model
        that could be loaded before now can't. The KV cache keeps the size it had the first time.
        """
        self.stop()
        with tempfile.TemporaryDirectory(prefix="headway-") as folder:
            rendezvous = str(Path(folder) / "ranks") if self._ranks > 1 else ""
            for rank in range(self._ranks):
                worker = _spawn(self._options.threads)
                self._workers.append(worker)
                self._send(worker, Load(self._source, self._options, rank, self._ranks, rendezvous))
            infos = self._await_ready()
        info = infos[0]  # the ranks have agreed on it
        self._options = replace(self._options, kv_tokens=info.kv_blocks * info.block_size)
        self._has_run = True
        return info

    def begin(self, plan: StepPlan) -> None:
        step = Step(plan)
        for worker in self._workers:
            self._send(worker, step)

    def finish(self) -> StepResult:
        results: dict[int, StepResult] = {}
        for rank, message in self._answers():
            assert isinstance(message, Done), message
            results[rank] = message.result
        return results[0]

    def stop(self) -> None:
        """End all workers; does nothing when none runs."""
        workers, self._workers = self._workers, []
        for worker in workers:
            worker.channel.close()
        until_s = time.monotonic() + STOP_TIMEOUT_S
        for worker in workers:
            try:
                worker.process.wait(max(0.0, until_s - time.monotonic()))
            except subprocess.TimeoutExpired:
                worker.process.kill()
                worker.process.wait()

    def interrupt(self) -> None:
        """Kill the workers that run now, from any thread: whoever waits for them gets ``ExecutorLost``."""
        for worker in tuple(self._workers):
            worker.process.kill()

    def _await_ready(self) -> Sequence[ExecutorInfo]:
        """What each rank offers, once all have loaded."""
        infos: dict[int, ExecutorInfo] = {}
        for rank, message in self._answers():
            match message:
                case Ready(info):
                    infos[rank] = info
                case Progress(stage, fraction):
                    if rank == 0:
                        self._progress(stage, fraction)
                case Refused(text):
                    self._kill()
                    raise ExecutorLost(text) if self._has_run else ModelError(text)
                case Done():
                    raise AssertionError("a result before any plan")
        return [infos[rank] for rank in range(self._ranks)]

    def _answers(self) -> Iterator[tuple[int, FromWorker]]:
        """Messages of all ranks as they come, until each has sent one that is no progress. The first death is seen."""
        pending = dict(enumerate(self._workers))
        while pending:
            poll = select.poll()
            for worker in pending.values():
                poll.register(worker.channel.fileno(), select.POLLIN)
            ready = {descriptor for descriptor, _ in poll.poll()}
            for rank, worker in list(pending.items()):
                if worker.channel.fileno() in ready:
                    message = self._receive(worker)
                    if not isinstance(message, Progress):
                        del pending[rank]
                    yield rank, message

    def _send(self, worker: _Worker, message: ToWorker) -> None:
        try:
            worker.channel.send(message)
        except Closed:
            raise self._lost(worker) from None

    def _receive(self, worker: _Worker) -> FromWorker:
        try:
            message: FromWorker = worker.channel.receive()
        except Closed:
            raise self._lost(worker) from None
        return message

    def _lost(self, worker: _Worker) -> ExecutorLost:
        """End what is left of the workers, and say how the first one to be missed ended."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            worker.process.wait(STOP_TIMEOUT_S)
        status = worker.process.returncode
        self._kill()
        how = "stopped answering" if status is None else f"ended with status {status}"
        return ExecutorLost(f"worker process {worker.process.pid} {how}")

    def _kill(self) -> None:
        workers, self._workers = self._workers, []
        for worker in workers:
            worker.channel.close()
            worker.process.kill()
            worker.process.wait()


def _spawn(threads: int | None) -> _Worker:
    ours, theirs = socket.socketpair()
    # Compute threads that wait for each other must sleep, not spin: a spinning one keeps the core from the very thread
    # it waits for as soon as anything else runs here, and a step takes ten times as long (docs/log.md, 2026-11-24).
    environment = {"OMP_WAIT_POLICY": "PASSIVE", **os.environ}
    if threads is not None:
        environment["OMP_NUM_THREADS"] = str(threads)
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-m", "headway.engine.worker", str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr,
            env=environment,
        )
    return _Worker(process, Channel(ours, FromWorker))
