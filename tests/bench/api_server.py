"""A small OpenAI-compatible server in threads, for tests of what happens around a run: discovery, refusals, deaths."""

from __future__ import annotations

import contextlib
import http.server
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

HOST = "127.0.0.1"
MODEL = "the-model"


@dataclass
class ApiServer:
    """``key``: without it 401. ``rejects``: fields of a body that are answered with 400. ``dies_after``: so many
    completions, then nobody listens any more. ``events``: instead of good ones, of completions from the second on."""

    port: int = 0
    key: str | None = None
    rejects: frozenset[str] = frozenset()
    dies_after: int | None = None
    events: bytes | None = None
    gap_s: float = 0.002
    bodies: list[dict[str, Any]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"


@contextlib.contextmanager
def api_server(state: ApiServer) -> Iterator[ApiServer]:
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            if not self._may_come_in():
                return
            if self.path == "/v1/models":
                self._json(200, {"object": "list", "data": [{"id": MODEL, "object": "model", "owned_by": "tests"}]})
            else:
                self._json(404, {"error": {"message": "no such path"}})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            if not self._may_come_in():
                return
            if self.path != "/v1/chat/completions":
                self._json(404, {"error": {"message": "no such path"}})
                return
            unknown = state.rejects & body.keys()
            if unknown:
                self._json(400, {"error": {"message": f"unknown field {min(unknown)}"}})
                return
            state.bodies.append(body)
            if state.dies_after is not None and len(state.bodies) > state.dies_after:
                threading.Thread(target=die, daemon=True).start()
                self.close_connection = True
                return
            if body.get("stream"):
                self._stream(body["max_tokens"])
            else:
                self._whole(body["max_tokens"])

        def _stream(self, tokens: int) -> None:
            self.send_response(200)
            self.send_header("content-type", "text/event-stream")
            self.send_header("connection", "close")
            self.end_headers()
            self.close_connection = True
            if state.events is not None and len(state.bodies) > 1:
                self.wfile.write(state.events)
                return
            for number in range(tokens):
                time.sleep(state.gap_s)
                self._event({"choices": [{"index": 0, "delta": {"content": f" {number}"}, "finish_reason": None}]})
            self._event({"choices": [{"index": 0, "delta": {}, "finish_reason": "length"}]})
            self._event({"choices": [], "usage": {"prompt_tokens": 8, "completion_tokens": tokens}})
            self.wfile.write(b"data: [DONE]\n\n")

        def _whole(self, tokens: int) -> None:
            time.sleep(tokens * state.gap_s)
            choice = {"index": 0, "message": {"role": "assistant", "content": " x" * tokens}, "finish_reason": "length"}
            self._json(200, {"choices": [choice], "usage": {"prompt_tokens": 8, "completion_tokens": tokens}})

        def _event(self, value: object) -> None:
            self.wfile.write(b"data: " + json.dumps(value).encode() + b"\n\n")
            self.wfile.flush()

        def _may_come_in(self) -> bool:
            if state.key is None or self.headers.get("authorization") == f"Bearer {state.key}":
                return True
            self._json(401, {"error": {"message": "wrong key"}})
            return False

        def _json(self, status: int, value: object) -> None:
            data = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *args: Any) -> None:
            pass

    class Server(http.server.ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *args: Any) -> None:
            """A client that leaves is part of the tests."""

    server = Server((HOST, 0), Handler)

    def die() -> None:
        server.shutdown()
        server.server_close()

    state.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield state
    finally:
        die()
        thread.join(5.0)
