"""An OpenAI-style front end to OpenVINO GenAI's continuous batching, which has no server of its own on package indexes.

``PYTHON benchmarks/cpu_openvino.py FOLDER --port PORT`` with a Python that has ``openvino_genai``; nothing of Headway's
is needed. Streaming completions of token ids, greedy, exactly ``max_tokens``. The text of a token is its number: it is
the engine that is measured, and a tokenizer would only cost it time. HTTP has a process of its own, as the engine's
``step`` keeps the interpreter to itself.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import multiprocessing
from multiprocessing.connection import Connection
from typing import Any

HOST = "127.0.0.1"
BODY_BYTES_MAX = 1 << 22
STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"


# ---- the engine's process --------------------------------------------------------------------------------------------


def compute(link: Connection, arguments: argparse.Namespace) -> None:
    """Takes (number, tokens, count) or (number, None, 0), which cancels; gives lists of (number, tokens, is_over)."""
    import numpy as np
    import openvino  # type: ignore[import-not-found]
    import openvino_genai  # type: ignore[import-not-found]

    scheduling = openvino_genai.SchedulerConfig()
    scheduling.cache_size = arguments.cache_gb
    if arguments.step_tokens:
        scheduling.max_num_batched_tokens = arguments.step_tokens
    settings = {"INFERENCE_NUM_THREADS": arguments.threads, **json.loads(arguments.settings)}
    engine = openvino_genai.ContinuousBatchingPipeline(arguments.folder, scheduling, "CPU", settings)
    link.send([])
    running: dict[int, Any] = {}
    while True:
        while link.poll(0 if running else None):
            number, tokens, count = link.recv()
            if tokens is None:
                if number in running:
                    running.pop(number).cancel()
                continue
            wanted = openvino_genai.GenerationConfig()
            wanted.max_new_tokens = wanted.min_new_tokens = count
            wanted.ignore_eos, wanted.do_sample = True, False
            prompt = openvino.Tensor(np.array([tokens], dtype=np.int64))
            running[number] = engine.add_request(number, prompt, wanted)
        if engine.has_non_finished_requests():
            engine.step()
        news = []
        for number, handle in list(running.items()):
            written = []
            while handle.can_read():
                written += [token for output in handle.read().values() for token in output.generated_ids]
            is_over = handle.get_status() != openvino_genai.GenerationStatus.RUNNING
            if written or is_over:
                news.append((number, written, is_over))
            if is_over:
                del running[number]
        if news:
            link.send(news)


# ---- the front end's process -----------------------------------------------------------------------------------------


class Front:
    """Requests by number; what the engine says of each goes into its queue."""

    def __init__(self, link: Connection) -> None:
        self._link = link
        self._numbers = itertools.count(1)
        self._queues: dict[int, asyncio.Queue[tuple[list[int], bool]]] = {}
        self.is_ready = False

    def listen(self) -> None:
        """There is something to be read."""
        try:
            news = self._link.recv()
        except EOFError:
            raise SystemExit("the engine has ended") from None
        self.is_ready = True
        for number, tokens, is_over in news:
            if number in self._queues:
                self._queues[number].put_nowait((tokens, is_over))

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            fields = dict(line.lower().split(":", 1) for line in head[1:] if ":" in line)
            size = min(int(fields.get("content-length", 0)), BODY_BYTES_MAX)
            body = await reader.readexactly(size)
            method, path = head[0].split()[:2]
            if method == "GET":
                status = "200 OK" if self.is_ready else "503 Service Unavailable"
                writer.write(f"HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".encode())
            elif path == "/v1/completions":
                await self._complete(json.loads(body), reader, writer)
            await writer.drain()
        writer.close()

    async def _complete(
        self, asked: dict[str, Any], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        number, queue = next(self._numbers), asyncio.Queue[tuple[list[int], bool]]()
        self._queues[number] = queue
        leaving = asyncio.ensure_future(reader.read(1))  # a client says no more until it goes
        leaving.add_done_callback(lambda _: queue.put_nowait(([], True)))
        self._link.send((number, asked["prompt"], asked["max_tokens"]))
        writer.write(STREAM)
        seen = 0
        try:
            is_over = False
            while not is_over:
                tokens, is_over = await queue.get()
                for token in tokens:
                    seen += 1
                    writer.write(_event(choices=[{"index": 0, "text": f" {token}", "finish_reason": None}]))
            usage = {"prompt_tokens": len(asked["prompt"]), "completion_tokens": seen}
            ended = {"index": 0, "text": "", "finish_reason": "length"}
            writer.write(_event(choices=[ended], usage=usage) + b"data: [DONE]\n\n")
        finally:
            del self._queues[number]
            if seen < asked["max_tokens"]:
                self._link.send((number, None, 0))
            leaving.cancel()


def _event(**fields: object) -> bytes:
    return b"data: " + json.dumps({"object": "text_completion", **fields}).encode() + b"\n\n"


async def serve(link: Connection, port: int) -> None:
    front = Front(link)
    asyncio.get_running_loop().add_reader(link.fileno(), front.listen)
    async with await asyncio.start_server(front.serve, HOST, port) as server:
        await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", help="a model in OpenVINO's form, as optimum-cli export openvino writes it")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--cache-gb", type=int, default=1, help="of the KV cache")
    parser.add_argument("--step-tokens", type=int, help="most tokens in one step; OpenVINO's own choice if not given")
    parser.add_argument("--settings", default="{}", help="more settings of the device, as JSON")
    arguments = parser.parse_args()
    spawning = multiprocessing.get_context("spawn")
    ours, theirs = spawning.Pipe()
    process = spawning.Process(target=compute, args=(theirs, arguments), daemon=True)
    process.start()
    theirs.close()
    asyncio.run(serve(ours, arguments.port))


if __name__ == "__main__":
    main()
