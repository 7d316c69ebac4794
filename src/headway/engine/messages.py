"""What the serving process and its workers say to each other, and how it is framed on a stream socket.

A frame is a four-byte big-endian length and a MessagePack body of one of the types below. Every type is explicit and
checked on arrival; nothing that is received is ever executed.
"""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import msgspec

from headway.engine.options import EngineOptions
from headway.models.source import ModelSource
from headway.policy.plan import ExecutorInfo, StepPlan, StepResult

FRAME_BYTES_MAX = 256 * 1024 * 1024
"""The longest frame. A plan for 1,000 requests of 100,000 tokens each, with their histories, is about as long."""


class Load(msgspec.Struct, tag=True, frozen=True):
    """To a worker, once and first: load this model as tensor-parallel rank ``rank`` of ``size``.

    ``rendezvous`` is a file that the ranks of one model find each other by; empty for a single rank.
    """

    source: ModelSource
    options: EngineOptions
    rank: int = 0
    size: int = 1
    rendezvous: str = ""


class Step(msgspec.Struct, tag=True, frozen=True):
    """To a worker: run this plan."""

    plan: StepPlan


class Progress(msgspec.Struct, tag=True, frozen=True):
    """From a worker that loads. ``fraction`` of the stage done, 0 to 1, or None when that can't be told."""

    stage: str
    fraction: float | None = None


class Ready(msgspec.Struct, tag=True, frozen=True):
    """From a worker: loaded, waiting for plans."""

    info: ExecutorInfo


class Refused(msgspec.Struct, tag=True, frozen=True):
    """From a worker: the model can't be loaded, and trying again won't help. ``message`` is one line for the user."""

    message: str


class Done(msgspec.Struct, tag=True, frozen=True):
    """From a worker: the result of the last plan."""

    result: StepResult


ToWorker = Load | Step
FromWorker = Progress | Ready | Refused | Done


class Closed(Exception):
    """The other side is gone."""


class Channel:
    """One end of a connection between the serving process and a worker. Used by one thread on each side."""

    def __init__(self, connection: socket.socket, receives: Any) -> None:
        self._connection = connection
        self._encoder = msgspec.msgpack.Encoder(enc_hook=_encode_path)
        self._decoder = msgspec.msgpack.Decoder(receives, dec_hook=_decode_path)

    def send(self, message: ToWorker | FromWorker) -> None:
        """Send one message; raises ``Closed`` when nobody is there to read it."""
        body = self._encoder.encode(message)
        assert len(body) <= FRAME_BYTES_MAX, f"a message of {len(body)} bytes"
        try:
            self._connection.sendall(len(body).to_bytes(4, "big") + body)
        except OSError as error:
            raise Closed(str(error)) from error

    def receive(self) -> Any:
        """Wait for the next message; raises ``Closed`` when none will come, or when what came is no message."""
        length = int.from_bytes(self._read(4), "big")
        if length > FRAME_BYTES_MAX:
            raise Closed(f"a frame of {length} bytes")
        try:
            return self._decoder.decode(self._read(length))
        except msgspec.DecodeError as error:
            raise Closed(f"not a message: {error}") from error

    def close(self) -> None:
        self._connection.close()

    def fileno(self) -> int:
        """For waiting on several channels at once."""
        return self._connection.fileno()

    def _read(self, length: int) -> bytearray:
        buffer = bytearray(length)
        view = memoryview(buffer)
        while len(view):
            try:
                count = self._connection.recv_into(view)
            except OSError as error:
                raise Closed(str(error)) from error
            if count == 0:
                raise Closed("end of stream")
            view = view[count:]
        return buffer


def _encode_path(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    raise NotImplementedError(f"{type(value).__name__} is not part of any message")


def _decode_path(kind: type, value: Any) -> Any:
    if issubclass(kind, Path):
        return Path(value)
    raise NotImplementedError(f"{kind.__name__} is not part of any message")
