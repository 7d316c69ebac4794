"""A process of the load generator, and what it and its parent say to each other.

A frame is a four-byte big-endian length and a MessagePack body of one of the types below, checked on arrival. The
parent decides what is sent and when; a process gets its calls a little ahead of their times, and asks for more as it
goes on. When the parent is gone, the process ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import resource
import socket
import sys
from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec

from headway.bench.generate import LoadStats, Options, generate
from headway.bench.loads import ClosedLoop, Load, OpenLoop
from headway.bench.record import Record
from headway.bench.schedule import Planned
from headway.bench.target import Target

FRAME_BYTES_MAX = 1 << 28
CALLS_AHEAD = 256
"""Calls that a process has at most before it needs them, beyond those for every slot of a closed loop."""
FLUSH_S = 0.2
GC_THRESHOLD = 50_000
"""Objects between two collections: nearly all are freed without one, and one in the middle of a burst is lag."""


class Setup(msgspec.Struct, tag=True, frozen=True):
    """To a process, first: its own part of the load, of one kind or the other."""

    target: Target
    options: Options
    open_loop: OpenLoop | None = None
    closed_loop: ClosedLoop | None = None

    @property
    def load(self) -> Load:
        load = self.open_loop or self.closed_loop
        assert load is not None
        return load


class Calls(msgspec.Struct, tag=True, frozen=True):
    planned: list[Planned]


class PackedCalls(msgspec.Struct, tag=Calls.__name__, frozen=True):
    """The same on its way: each is packed already, so that its size is known."""

    planned: list[msgspec.Raw]


class NoMore(msgspec.Struct, tag=True, frozen=True):
    """There are no more calls."""


class Start(msgspec.Struct, tag=True, frozen=True):
    """Time 0, as ``time.perf_counter``, which all processes of a machine share."""

    start_s: float


class Stop(msgspec.Struct, tag=True, frozen=True):
    """End early."""


class Want(msgspec.Struct, tag=True, frozen=True):
    """From a process: so many more calls may be sent to it. The first one says that it is ready."""

    calls: int


class Records(msgspec.Struct, tag=True, frozen=True):
    records: list[Record]


class Done(msgspec.Struct, tag=True, frozen=True):
    """From a process, last."""

    stats: LoadStats


class Failed(msgspec.Struct, tag=True, frozen=True):
    """From a process, last: calls, load and API don't fit."""

    message: str


ToWorker = Setup | Calls | NoMore | Start | Stop
"""What is received; for ``Calls``, ``PackedCalls`` are sent."""
FromWorker = Want | Records | Done | Failed

packed = msgspec.msgpack.Encoder().encode


class Gone(Exception):
    """The other side is gone."""


class Channel:
    """One end of the connection between parent and process."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, receives: Any) -> None:
        self._reader = reader
        self._writer = writer
        self._decode = msgspec.msgpack.Decoder(receives).decode

    @classmethod
    async def on(cls, connection: socket.socket, receives: Any) -> Channel:
        return cls(*await asyncio.open_connection(sock=connection), receives)

    def send(self, message: ToWorker | PackedCalls | FromWorker) -> None:
        body = packed(message)
        assert len(body) <= FRAME_BYTES_MAX, f"a message of {len(body)} bytes"
        self._writer.write(len(body).to_bytes(4, "big") + body)

    async def drain(self) -> None:
        """Wait until the other side has read most of what was sent. Raises ``Gone``."""
        try:
            await self._writer.drain()
        except OSError as error:
            raise Gone(str(error)) from error

    async def receive(self) -> Any:
        """The next message. Raises ``Gone`` when none will come."""
        try:
            length = int.from_bytes(await self._reader.readexactly(4), "big")
            if length > FRAME_BYTES_MAX:
                raise Gone(f"a frame of {length} bytes")
            return self._decode(await self._reader.readexactly(length))
        except (OSError, asyncio.IncompleteReadError, msgspec.DecodeError) as error:
            raise Gone(str(error)) from error

    async def close(self) -> None:
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()


class _Work:
    """What a process has to do, as its parent says it."""

    def __init__(self, channel: Channel, calls_ahead: int) -> None:
        self.stop = asyncio.Event()
        self.start_s: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self._records: list[Record] = []
        self._channel = channel
        self._planned: deque[Planned] = deque()
        self._taken = 0
        self._has_all = False
        self._changed = asyncio.Event()
        self._wanted_at = max(1, calls_ahead // 4)
        channel.send(Want(calls_ahead))

    async def listen(self) -> None:
        """Raises ``Gone`` when the parent is."""
        while True:
            message = await self._channel.receive()
            if isinstance(message, Calls):
                self._planned.extend(message.planned)
            elif isinstance(message, NoMore):
                self._has_all = True
            elif isinstance(message, Start):
                self.start_s.set_result(message.start_s)
            elif isinstance(message, Stop):
                self._has_all = True
                self._planned.clear()
                self.stop.set()
            self._changed.set()

    async def source(self) -> Planned | None:
        while not self._planned:
            if self._has_all:
                return None
            self._changed.clear()
            await self._changed.wait()
        self._taken += 1
        if self._taken >= self._wanted_at:
            self._channel.send(Want(self._taken))
            self._taken = 0
        return self._planned.popleft()

    def note(self, record: Record) -> None:
        self._records.append(record)

    async def report(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_S)
            self.flush()
            await self._channel.drain()

    def flush(self) -> None:
        if self._records:
            self._channel.send(Records(self._records))
            self._records = []


async def _run(connection: socket.socket) -> None:
    channel = await Channel.on(connection, ToWorker)
    setup = await channel.receive()
    assert isinstance(setup, Setup)
    slots = setup.closed_loop.concurrency if setup.closed_loop is not None else 0
    work = _Work(channel, CALLS_AHEAD + 2 * slots)
    offering = asyncio.ensure_future(_offer(setup, work))
    listening = asyncio.ensure_future(work.listen())
    others = [listening, asyncio.ensure_future(work.report())]
    try:
        await asyncio.wait((offering, *others), return_when=asyncio.FIRST_COMPLETED)
        if offering.done():
            work.flush()
            channel.send(offering.result())
            await asyncio.wait((listening,))  # the parent hangs up: else what it has not read yet could be lost
    finally:
        for task in (offering, *others):
            task.cancel()
        await asyncio.gather(offering, *others, return_exceptions=True)
        await channel.close()


async def _offer(setup: Setup, work: _Work) -> Done | Failed:
    start_s = await work.start_s
    try:
        stats = await generate(
            setup.target,
            work.source,
            setup.load,
            on_record=work.note,
            stop=work.stop,
            options=setup.options,
            start_s=start_s,
        )
    except ValueError as error:
        return Failed(str(error))
    return Done(stats)


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop where there is one: it takes a third of the processor time."""
    if sys.platform == "win32":
        return None
    import uvloop

    return uvloop.new_event_loop


def main() -> None:
    """``python -m headway.bench.worker FD``: the socket to the parent."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # one connection is one file
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD)
    with contextlib.suppress(Gone), asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(_run(socket.socket(fileno=int(sys.argv[1]))))


if __name__ == "__main__":
    main()
