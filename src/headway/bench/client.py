"""A lean streaming client: raw asyncio sockets, one connection a request, times at socket read.

One event with text is counted as one token, which holds for Headway's own server: it sends one event a token. (A token
that ends in the middle of a character has no text of its own and is not seen.)
"""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import msgspec


@dataclass(slots=True)
class Timing:
    """One streamed request: when it was sent and when each token came (seconds, ``time.perf_counter``)."""

    sent_s: float
    tokens_s: list[float] = field(default_factory=list)

    @property
    def ttft_s(self) -> float:
        return self.tokens_s[0] - self.sent_s

    @property
    def gaps_s(self) -> list[float]:
        return [later - earlier for earlier, later in zip(self.tokens_s, self.tokens_s[1:], strict=False)]


class StreamError(Exception):
    """The server refused the request, or its stream broke off. The message has what the server said."""


class _Delta(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    text: str | None = None
    delta: _Delta | None = None


class _Event(msgspec.Struct):
    choices: list[_Choice] = []
    error: dict[str, object] | None = None


_decode = msgspec.json.Decoder(_Event).decode


async def stream(
    host: str, port: int, path: str, body: dict[str, object], on_text: Callable[[str], None] | None = None
) -> Timing:
    """POST ``body`` to ``path`` and read the stream to its end. ``on_text`` gets each piece of text as it comes.

    Raises ``StreamError`` unless the stream is whole: status 200, some text, ``[DONE]`` at the end.
    """
    reader, writer = await asyncio.open_connection(host, port)
    payload = json.dumps({**body, "stream": True}).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: application/json\r\n"
    try:
        writer.write(f"{head}Connection: close\r\nContent-Length: {len(payload)}\r\n\r\n".encode() + payload)
        timing = Timing(time.perf_counter())
        status = await reader.readline()
        if b" 200 " not in status:
            raise StreamError((status + await reader.read()).decode(errors="replace"))
        whole = False
        while line := await reader.readline():
            now_s = time.perf_counter()
            if line.startswith(b"data: [DONE]"):
                whole = True
            elif line.startswith(b"data: ") and (text := _text(line[6:])):
                timing.tokens_s.append(now_s)
                if on_text is not None:
                    on_text(text)
        if not whole or not timing.tokens_s:
            raise StreamError("the stream ended early")
        return timing
    finally:
        writer.close()


async def closed_loop(
    host: str, port: int, path: str, bodies: Iterable[dict[str, object]], concurrency: int
) -> list[Timing]:
    """Send all bodies, ``concurrency`` at a time: a slot sends its next request when its last one has ended."""
    waiting = iter(bodies)
    timings: list[Timing] = []

    async def slot() -> None:
        for body in waiting:
            timings.append(await stream(host, port, path, body))

    async with asyncio.TaskGroup() as group:
        for _ in range(concurrency):
            group.create_task(slot())
    return timings


def percentile(values: list[float], share: float) -> float:
    """The smallest value that at least ``share`` (0 to 1) of the values do not exceed."""
    rank = math.ceil(share * len(values) - 1e-9)  # 0.95 * 20 is a little more than 19 in binary
    return sorted(values)[max(rank, 1) - 1]


def _text(data: bytes) -> str:
    event = _decode(data)
    if event.error is not None:
        raise StreamError(str(event.error.get("message", event.error)))
    return "".join(each.text or (each.delta and each.delta.content) or "" for each in event.choices)
