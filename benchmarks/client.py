"""A lean streaming client for closed loops: raw asyncio sockets, one connection a request slot, times at socket read.

It counts one SSE event with text as one token, which holds for Headway's own server: one event a token.
"""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass, field


@dataclass(slots=True)
class Timing:
    """One streamed request: when it was sent and when each token came (seconds, monotonic)."""

    sent_s: float
    tokens_s: list[float] = field(default_factory=list)

    @property
    def ttft_s(self) -> float:
        return self.tokens_s[0] - self.sent_s

    @property
    def gaps_s(self) -> list[float]:
        return [later - earlier for earlier, later in zip(self.tokens_s, self.tokens_s[1:], strict=False)]


async def complete(host: str, port: int, body: dict[str, object]) -> Timing:
    """Stream one completion to its end over a connection of its own; raises RuntimeError on anything but a full one."""
    reader, writer = await asyncio.open_connection(host, port)
    payload = json.dumps(body).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: application/json\r\n"
    try:
        writer.write(f"{head}Connection: close\r\nContent-Length: {len(payload)}\r\n\r\n".encode() + payload)
        timing = Timing(time.perf_counter())
        status = await reader.readline()
        if b" 200 " not in status:
            raise RuntimeError((status + await reader.read()).decode(errors="replace"))
        finished = False
        while line := await reader.readline():
            if line.startswith(b'data: {"error"'):
                raise RuntimeError(line.decode(errors="replace"))
            if line.startswith(b"data: [DONE]"):
                finished = True
            elif line.startswith(b"data: ") and b'"text":""' not in line:
                timing.tokens_s.append(time.perf_counter())
        if not finished or not timing.tokens_s:
            raise RuntimeError("the stream ended early")
        return timing
    finally:
        writer.close()


async def closed_loop(host: str, port: int, bodies: list[dict[str, object]], concurrency: int) -> list[Timing]:
    """Send all bodies, ``concurrency`` at a time: a slot sends its next request when its last one has ended."""
    waiting = iter(bodies)
    timings: list[Timing] = []

    async def slot() -> None:
        for body in waiting:
            timings.append(await complete(host, port, body))

    async with asyncio.TaskGroup() as group:
        for _ in range(concurrency):
            group.create_task(slot())
    return timings
