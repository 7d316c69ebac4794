"""A server that streams tokens at a given pace and does nothing else: what the clients' own cost is measured against.

``python -m benchmarks.stream_server --gap 0.02 --first 0.05`` prints its port. Chat and completions, streaming only.
All streams get a token together, every ``gap`` seconds, as from an engine that batches, each in an event and a write of
its own, with usage in it for a client that asks for that. With a gap of 0 they get them as fast as they are taken. A
client that does not read gets nothing more until it does. ``GET /sent`` says how many tokens were sent, and how often
the server itself was late.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from http import HTTPStatus
from typing import Any

import httptools

HOST = "127.0.0.1"
MODEL = "paced"
TOKENS_MAX = 65_536
BODY_BYTES_MAX = 16 * 1024 * 1024
TEXT = " the"
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
LAST = b"0\r\n\r\n"


def event(data: bytes) -> bytes:
    """As a chunk of its own."""
    return b"%x\r\ndata: %b\n\n\r\n" % (len(data) + 8, data)


def _chunk(choices: list[dict[str, object]], kind: str, **fields: object) -> bytes:
    head = {"id": f"{kind}-0123456789abcdef0123456789abcdef", "object": kind, "created": 1700000000, "model": MODEL}
    return event(json.dumps({**head, "choices": choices, **fields}, separators=(",", ":")).encode())


CHAT = "chat.completion.chunk"
TEXT_COMPLETION = "text_completion"
TOKEN = {
    CHAT: _chunk([{"index": 0, "delta": {"content": TEXT}, "logprobs": None, "finish_reason": None}], CHAT),
    TEXT_COMPLETION: _chunk([{"index": 0, "text": TEXT, "logprobs": None, "finish_reason": None}], TEXT_COMPLETION),
}
END = {
    CHAT: _chunk([{"index": 0, "delta": {}, "logprobs": None, "finish_reason": "length"}], CHAT),
    TEXT_COMPLETION: _chunk([{"index": 0, "text": "", "logprobs": None, "finish_reason": "length"}], TEXT_COMPLETION),
}


def with_usage(token: bytes) -> bytes:
    """The data of the event with room for three counts."""
    data = token.partition(b"data: ")[2].rstrip()
    usage = b'"usage":{"prompt_tokens":%d,"completion_tokens":%d,"total_tokens":%d}}'
    return data.replace(b"%", b"%%")[:-1] + b"," + usage


COUNTED_TOKEN = {kind: with_usage(token) for kind, token in TOKEN.items()}


class Pace:
    """The clock of all streams. ``late``: how many of the ``ticks`` came more than a whole gap after their time."""

    def __init__(self, gap_s: float, first_s: float) -> None:
        self.first_s = first_s
        self.running: dict[Connection, float] = {}
        """Since when each may have its next token."""
        self.sent = 0
        self.ticks = 0
        self.late = 0
        self._gap_s = gap_s
        self._due_s = 0.0
        self._is_ticking = False

    def join(self, connection: Connection) -> None:
        loop = asyncio.get_running_loop()
        self.running[connection] = loop.time() + self.first_s
        if not self._is_ticking:
            self._is_ticking = True
            self._due_s = loop.time() + self._gap_s
            loop.call_at(self._due_s, self._tick)

    def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        for connection, from_s in tuple(self.running.items()):
            if from_s <= now and connection.takes:
                self.sent += 1
                connection.send_token()
        self.ticks += 1
        self.late += now - self._due_s > self._gap_s
        self._due_s += self._gap_s
        if self._due_s < now:  # don't make up for ticks that were missed
            self._due_s = now
        self._is_ticking = bool(self.running)
        if self._is_ticking:
            loop.call_at(self._due_s, self._tick)


class Connection(asyncio.Protocol):
    """One client's connection, kept alive: a stream at a time."""

    takes = True

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._left = 0
        self._tokens = 0
        self._prompt_tokens = 0
        self._has_usage = False
        self._counts = False
        self._kind = CHAT
        self._url = b""
        self._body = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._parser = httptools.HttpRequestParser(self)

    def connection_lost(self, error: Exception | None) -> None:
        self._pace.running.pop(self, None)

    def pause_writing(self) -> None:
        self.takes = False

    def resume_writing(self) -> None:
        self.takes = True

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._transport.close()

    def on_message_begin(self) -> None:
        self._url = b""
        self._body.clear()

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_body(self, body: bytes) -> None:
        self._body += body
        if len(self._body) > BODY_BYTES_MAX:
            self._transport.close()

    def on_message_complete(self) -> None:
        path = self._url.decode().partition("?")[0]
        if path in ("/v1/chat/completions", "/v1/completions"):
            self._begin(CHAT if "chat" in path else TEXT_COMPLETION)
        elif path == "/v1/models":
            self._answer({"object": "list", "data": [{"id": MODEL, "object": "model", "owned_by": "benchmarks"}]})
        elif path in ("/health", "/"):
            self._answer({})
        elif path == "/sent":
            self._answer({"tokens": self._pace.sent, "ticks": self._pace.ticks, "late": self._pace.late})
        else:
            self._refuse(HTTPStatus.NOT_FOUND, f"there is no {path}")

    def _begin(self, kind: str) -> None:
        try:
            body: dict[str, Any] = json.loads(self._body)
            wanted = body.get("max_completion_tokens") or body.get("max_tokens") or 16
            tokens = int(wanted)
        except (ValueError, TypeError, AttributeError):
            self._refuse(HTTPStatus.BAD_REQUEST, "the body must be an object of JSON, max_tokens a number")
            return
        if not body.get("stream") or not 0 < tokens <= TOKENS_MAX:
            self._refuse(HTTPStatus.BAD_REQUEST, f"only streams are served, of at most {TOKENS_MAX} tokens")
            return
        self._kind = kind
        self._tokens = self._left = tokens
        self._prompt_tokens = max(1, len(self._body) // 4)
        options = body.get("stream_options") or {}
        self._has_usage = bool(options.get("include_usage"))
        self._counts = bool(options.get("continuous_usage_stats"))
        self._transport.write(HEAD)
        self._pace.join(self)

    def send_token(self) -> None:
        self._left -= 1
        if self._counts:
            written, prompt = self._tokens - self._left, self._prompt_tokens
            self._transport.write(event(COUNTED_TOKEN[self._kind] % (prompt, written, prompt + written)))
        else:
            self._transport.write(TOKEN[self._kind])
        if self._left == 0:
            del self._pace.running[self]
            self._transport.write(END[self._kind] + self._usage() + event(b"[DONE]") + LAST)

    def _usage(self) -> bytes:
        if not self._has_usage:
            return b""
        prompt, written = self._prompt_tokens, self._tokens
        usage = {"prompt_tokens": prompt, "completion_tokens": written, "total_tokens": prompt + written}
        return _chunk([], self._kind, usage=usage)

    def _refuse(self, status: HTTPStatus, message: str) -> None:
        self._answer(
            {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": None}}, status
        )

    def _answer(self, content: dict[str, object], status: HTTPStatus = HTTPStatus.OK) -> None:
        data = json.dumps(content).encode()
        head = f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: application/json\r\n"
        self._transport.write(f"{head}content-length: {len(data)}\r\n\r\n".encode() + data)


async def serve(gap_s: float, first_s: float, port: int) -> None:
    pace = Pace(gap_s, first_s)
    server = await asyncio.get_running_loop().create_server(lambda: Connection(pace), HOST, port, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.stream_server", description=__doc__)
    parser.add_argument("--gap", type=float, default=0.02, help="seconds between tokens of a stream; 0: no wait")
    parser.add_argument("--first", type=float, default=0.05, help="seconds to the first token, at least")
    parser.add_argument("--port", type=int, default=0, help="0: any that is free")
    arguments = parser.parse_args()
    asyncio.run(serve(arguments.gap, arguments.first, arguments.port))


if __name__ == "__main__":
    main()
