"""The front end to OpenVINO GenAI, with a test in the engine's place."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
from collections.abc import AsyncIterator
from multiprocessing.connection import Connection

from benchmarks import cpu_openvino
from headway.bench.launch import free_port


@contextlib.asynccontextmanager
async def front(port: int) -> AsyncIterator[Connection]:
    """The front end, and the engine's end of its link."""
    ours, theirs = multiprocessing.Pipe()
    serving = asyncio.ensure_future(cpu_openvino.serve(ours, port))
    try:
        yield theirs
    finally:
        serving.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await serving
        theirs.close()
        ours.close()


async def request(port: int, head: str, body: bytes = b"") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    while True:
        try:
            reader, writer = await asyncio.open_connection(cpu_openvino.HOST, port)
            break
        except OSError:  # not listening yet
            await asyncio.sleep(0.01)
    writer.write(f"{head} HTTP/1.1\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
    return reader, writer


async def received(link: Connection) -> object:
    return await asyncio.to_thread(link.recv)


async def status(port: int) -> bytes:
    reader, writer = await request(port, "GET /health")
    line = await reader.readline()
    writer.close()
    return line.split()[1]


def test_the_front_end_is_ready_once_the_engine_is() -> None:
    async def main(port: int) -> bytes:
        async with front(port) as link:
            before = await status(port)
            link.send([])
            async with asyncio.timeout(10.0):
                while await status(port) != b"200":
                    pass
            return before

    assert asyncio.run(main(free_port())) == b"503"


def test_the_front_end_streams_an_event_a_token() -> None:
    async def main(port: int) -> tuple[object, bytes]:
        async with front(port) as link:
            link.send([])
            reader, writer = await request(port, "POST /v1/completions", b'{"prompt": [5, 6], "max_tokens": 3}')
            asked = await received(link)
            link.send([(1, [7, 8], False)])
            link.send([(1, [9], True)])
            said = await reader.read()
            writer.close()
            return asked, said

    asked, said = asyncio.run(main(free_port()))
    assert asked == (1, [5, 6], 3)
    assert [said.count(f'"text": " {token}"'.encode()) for token in (7, 8, 9)] == [1, 1, 1]
    assert b'"usage": {"prompt_tokens": 2, "completion_tokens": 3}' in said
    assert said.endswith(b"data: [DONE]\n\n")


def test_the_front_end_cancels_what_its_client_left() -> None:
    async def main(port: int) -> list[object]:
        async with front(port) as link:
            link.send([])
            _, writer = await request(port, "POST /v1/completions", b'{"prompt": [5], "max_tokens": 3}')
            asked = await received(link)
            writer.close()
            return [asked, await received(link)]

    assert asyncio.run(main(free_port())) == [(1, [5], 3), (1, None, 0)]
