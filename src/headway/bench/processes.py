"""The load generator in several processes: one schedule, dealt out by the parent; one stream of records back.

Processes are started afresh and share nothing. Ctrl-C does not reach them: the parent decides. In an open loop call
number i belongs to process i modulo their number, so that all together send what one alone would have. In a closed loop
the slots are divided, and the next call goes to whoever has room for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import replace

import msgspec

from headway.bench.generate import LoadStats, Options
from headway.bench.loads import ClosedLoop, Load, OpenLoop
from headway.bench.record import Record
from headway.bench.schedule import Plan, Planned
from headway.bench.target import Target
from headway.bench.worker import (
    Channel,
    Done,
    Failed,
    FromWorker,
    Gone,
    NoMore,
    PackedCalls,
    Records,
    Setup,
    Start,
    Stop,
    Want,
    packed,
)
from headway.bench.workload_interface import Workload

PROCESSES_MAX = 64
SLOTS_A_PROCESS = 64
RATE_A_PROCESS = 50.0
"""Requests a second. A process can do many times as much; more of them only make room for bursts."""
READY_TIMEOUT_S = 60.0
LEAD_S = 0.1
"""Between the word to start and time 0."""
BATCH = 64
"""Calls sent to a process at once, at most."""
BATCH_BYTES = 32 << 20
"""Nor many more bytes: so many and one call more are far from what a message may have."""
OVERTIME_S = 10.0
"""A process that has not ended so long after it should have is killed."""


class ProcessError(Exception):
    """No load generator process could be started, or none became ready. One line."""


def processes_for(loads: Iterable[Load]) -> int:
    """As many as the loads can use, and half of the cores at most: the server may need the others."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores // 2, PROCESSES_MAX, max(_useful(each) for each in loads)))


async def run_processes(
    target: Target,
    workload: Workload,
    load: Load,
    *,
    processes: int,
    on_record: Callable[[Record], None],
    stop: asyncio.Event,
    options: Options | None = None,
    on_start: Callable[[float], None] | None = None,
) -> list[LoadStats]:
    """``generate.run_load`` in ``processes`` processes; one ``LoadStats`` for each.

    ``on_start`` is told time 0 when all are ready, shortly before it comes. When a process dies, the others end as if
    stopped: its ``LoadStats.error`` says so, and all records that came are kept. Raises ``ProcessError`` if they don't
    start, ValueError if calls, load and API don't fit.
    """
    options = options or Options()
    parts = _parts(load, processes)
    plan = Plan(load, workload.calls(options.seed), options.seed, own_rate=workload.rate)
    async with contextlib.AsyncExitStack() as stack:
        workers = []
        for number, part in enumerate(parts):
            own = replace(options, process=number, processes=len(parts))
            workers.append(await stack.enter_async_context(_worker(number, _setup(target, part, own))))
        stats = await _Parent(workers, plan, load, on_record, stop, options, on_start).run()
    stats[0].has_run_dry = plan.has_run_dry
    return stats


class _Worker:
    """What the parent knows of one process."""

    def __init__(self, number: int, process: subprocess.Popen[bytes], channel: Channel) -> None:
        self.channel = channel
        self.room = 0
        self.is_ready = False
        self.is_over = False
        self._batch: list[msgspec.Raw] = []
        self._batch_bytes = 0
        self.stats = LoadStats(process=number)
        self.refusal: str | None = None
        self._process = process

    def add(self, planned: Planned) -> None:
        """To be sent with others."""
        self.room -= 1
        body = packed(planned)
        self._batch.append(msgspec.Raw(body))
        self._batch_bytes += len(body)
        if len(self._batch) >= BATCH or self._batch_bytes >= BATCH_BYTES:
            self.flush()

    def flush(self) -> None:
        if self._batch:
            self.channel.send(PackedCalls(self._batch))
            self._batch, self._batch_bytes = [], 0

    async def note_death(self) -> None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            await asyncio.to_thread(self._process.wait, 1.0)
        status = self._process.poll()
        self.stats.error = f"load generator process {self.stats.process} died" + (
            "" if status is None else f" (exit status {status})"
        )


class _Parent:
    """Deals out the plan, and collects what comes back."""

    def __init__(
        self,
        workers: list[_Worker],
        plan: Plan,
        load: Load,
        on_record: Callable[[Record], None],
        stop: asyncio.Event,
        options: Options,
        on_start: Callable[[float], None] | None,
    ) -> None:
        self._workers = workers
        self._plan = plan
        self._is_open = isinstance(load, OpenLoop)
        self._seconds = load.seconds + options.drain_s + options.grace_s + OVERTIME_S
        self._on_record = on_record
        self._on_start = on_start or (lambda start_s: None)
        self._stop = stop
        self._changed = asyncio.Event()
        self._is_fed = asyncio.Event()

    async def run(self) -> list[LoadStats]:
        loop = asyncio.get_running_loop()
        feeding = loop.create_task(self._feed())
        stopping = loop.create_task(self._pass_on_stop())
        listening = [loop.create_task(self._listen(each)) for each in self._workers]
        everyone = asyncio.gather(*listening)
        try:
            await self._start(feeding)
            await asyncio.wait((everyone,), timeout=self._seconds)
            if everyone.done():
                everyone.result()
            for worker in self._workers:
                if not worker.is_over:
                    worker.stats.error = f"load generator process {worker.stats.process} did not end in time"
            if feeding.done() and not feeding.cancelled():
                feeding.result()
        finally:
            for task in (feeding, stopping, everyone):
                task.cancel()
            await asyncio.gather(feeding, stopping, everyone, return_exceptions=True)
        for worker in self._workers:
            if worker.refusal is not None:
                raise ValueError(worker.refusal)
        return [each.stats for each in self._workers]

    async def _start(self, feeding: asyncio.Task[None]) -> None:
        """When all are ready and have their first calls; raises what kept the first calls from being made."""
        try:
            async with asyncio.timeout(READY_TIMEOUT_S):
                await self._until(lambda: all(each.is_ready or each.is_over for each in self._workers))
        except TimeoutError:
            raise ProcessError(f"the load generator was not ready within {READY_TIMEOUT_S:g} s") from None
        dead = [each.stats.error for each in self._workers if each.is_over and each.stats.error]
        if dead:
            raise ProcessError(f"{dead[0]} before it was ready")
        fed = asyncio.ensure_future(self._is_fed.wait())
        await asyncio.wait((fed, feeding), return_when=asyncio.FIRST_COMPLETED)
        fed.cancel()
        if feeding.done():
            feeding.result()
        start_s = time.perf_counter() + LEAD_S
        for worker in self._workers:
            worker.channel.send(Start(start_s))
        self._on_start(start_s)

    # ---- to them -----------------------------------------------------------------------------------------------------

    async def _feed(self) -> None:
        for planned in self._plan:
            worker = await self._room_for(planned.index)
            if worker is None or self._stop.is_set():
                break
            worker.add(planned)
            await asyncio.sleep(0)  # making a call may take a while
        for worker in self._workers:
            if not worker.is_over:
                worker.flush()
                worker.channel.send(NoMore())

    async def _room_for(self, index: int) -> _Worker | None:
        """Whose call that is, once it has room; None if there is nobody any more."""
        while True:
            if self._is_open:
                worker = self._workers[index % len(self._workers)]
            else:
                worker = max(self._workers, key=lambda each: each.room)
            if any(each.is_over for each in self._workers):
                return None
            if worker.room > 0:
                return worker
            for each in self._workers:
                each.flush()
            if all(each.is_ready for each in self._workers):
                self._is_fed.set()
            await self._change()

    async def _pass_on_stop(self) -> None:
        await self._stop.wait()
        self._end_all()

    def _end_all(self) -> None:
        for worker in self._workers:
            if not worker.is_over:
                worker.channel.send(Stop())

    # ---- from them ---------------------------------------------------------------------------------------------------

    async def _listen(self, worker: _Worker) -> None:
        try:
            while not worker.is_over:
                self._take(worker, await worker.channel.receive())
                self._changed.set()
        except Gone:
            await worker.note_death()
            worker.is_over = True
            self._changed.set()
            self._end_all()

    def _take(self, worker: _Worker, message: FromWorker) -> None:
        if isinstance(message, Want):
            worker.room += message.calls
            worker.is_ready = True
        elif isinstance(message, Records):
            for record in message.records:
                self._on_record(record)
        elif isinstance(message, Done):
            worker.stats = message.stats
            worker.is_over = True
        elif isinstance(message, Failed):
            worker.refusal = message.message
            worker.is_over = True
            self._end_all()

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            await self._change()

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()


@contextlib.asynccontextmanager
async def _worker(number: int, setup: Setup) -> AsyncIterator[_Worker]:
    ours, theirs = socket.socketpair()
    try:
        process = await asyncio.to_thread(_spawn, theirs)
    except OSError as error:
        ours.close()
        raise ProcessError(f"no load generator process could be started: {error}") from None
    finally:
        theirs.close()
    channel = await Channel.on(ours, FromWorker)
    try:
        channel.send(setup)
        yield _Worker(number, process, channel)
    finally:
        await channel.close()
        await asyncio.to_thread(_end, process)


def _spawn(connection: socket.socket) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "headway.bench.worker", str(connection.fileno())],
        pass_fds=[connection.fileno()],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )


def _end(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(1.0)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _parts(load: Load, processes: int) -> list[Load]:
    """The load of each process; fewer processes than asked for if there is not a slot for each."""
    whole = load.concurrency if isinstance(load, ClosedLoop) else load.in_flight_max
    count = min(processes, PROCESSES_MAX, whole)
    shares = [whole // count + (number < whole % count) for number in range(count)]
    if isinstance(load, ClosedLoop):
        return [replace(load, concurrency=share) for share in shares]
    return [replace(load, in_flight_max=share) for share in shares]


def _setup(target: Target, part: Load, options: Options) -> Setup:
    if isinstance(part, OpenLoop):
        return Setup(target, options, open_loop=part)
    return Setup(target, options, closed_loop=part)


def _useful(load: Load) -> int:
    if isinstance(load, ClosedLoop):
        return -(-load.concurrency // SLOTS_A_PROCESS)
    return -(-int(load.rate) // int(RATE_A_PROCESS)) if load.rate else PROCESSES_MAX
