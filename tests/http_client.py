"""A blocking HTTP/1.1 client on a bare socket: it sends exactly what a test says, and reads what comes, bounded."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

TIMEOUT_S = 20.0


@dataclass(frozen=True)
class Response:
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        """The error object, checked to be one."""
        error = self.json()["error"]
        assert set(error) == {"message", "type", "param", "code"}, error
        assert isinstance(error["message"], str)
        assert error["message"]
        return dict(error)


class Connection:
    """One connection; ``with`` closes it."""

    def __init__(self, port: int, *, timeout_s: float = TIMEOUT_S, receive_buffer: int | None = None) -> None:
        self.socket = socket.socket()
        if receive_buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(timeout_s)
        self.socket.connect(("127.0.0.1", port))
        self._file = self.socket.makefile("rb")

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        self._file.close()
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def request(
        self, method: str, path: str, body: bytes | dict[str, Any] | None = None, headers: dict[str, str] | None = None
    ) -> None:
        """Send a well-formed request."""
        fields = {"Host": "localhost", **(headers or {})}
        data = b""
        if body is not None:
            data = json.dumps(body).encode() if isinstance(body, dict) else body
            fields = {"Content-Type": "application/json", "Content-Length": str(len(data)), **fields}
        lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        self.send(f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode("latin-1") + data)

    def read_head(self) -> tuple[int, dict[str, str]]:
        line = self._file.readline()
        if not line:
            raise EOFError("the server closed the connection")
        status = int(line.split()[1])
        headers = {}
        while (line := self._file.readline().strip()) != b"":
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.strip().lower()] = value.strip()
        return status, headers

    def read_response(self, *, head: bool = False) -> Response:
        status, headers = self.read_head()
        if status == 100:
            return self.read_response(head=head)
        if head or status == 204:
            return Response(status, headers, b"")
        if headers.get("transfer-encoding") == "chunked":
            return Response(status, headers, b"".join(self.chunks()))
        return Response(status, headers, self.read(int(headers["content-length"])))

    def chunks(self) -> Iterator[bytes]:
        """Chunks of a body as they come. Raises ``EOFError`` if the body is cut off."""
        while True:
            line = self._file.readline()
            if not line:
                raise EOFError("the body was cut off")
            size = int(line, 16)
            data = self.read(size)
            self.read(2)
            if size == 0:
                return
            yield data

    def events(self) -> Iterator[str]:
        """The data of server-sent events as they come; comments as ``":..."``."""
        rest = b""
        for chunk in self.chunks():
            rest += chunk
            *whole, rest = rest.split(b"\n\n")
            for event in whole:
                text = event.decode()
                yield text.removeprefix("data: ")
        assert rest == b"", rest

    def at_end(self) -> bool:
        """Whether the server has closed the connection; waits for it, up to the timeout."""
        try:
            return self._file.read(1) == b""
        except ConnectionError:
            return True

    def rest(self) -> bytes:
        """All that comes until the server closes the connection, up to the timeout. A reset is an end as well."""
        data = b""
        with contextlib.suppress(ConnectionError):
            while more := self._file.read(1):
                data += more
        return data

    def read(self, size: int) -> bytes:
        """So many bytes. Raises ``EOFError`` if there are fewer."""
        data = self._file.read(size)
        if len(data) < size:
            raise EOFError("the body was cut off")
        return data


def fetch(
    port: int,
    method: str,
    path: str,
    body: bytes | dict[str, Any] | None = None,
    headers: dict[str, str] | None = None,
) -> Response:
    """One request on its own connection."""
    with Connection(port) as connection:
        connection.request(method, path, body, headers)
        return connection.read_response(head=method == "HEAD")


def chat(content: str = "hi", **options: Any) -> dict[str, Any]:
    """The body of a chat request to the fake model."""
    return {"model": "fake-model", "messages": [{"role": "user", "content": content}], "max_tokens": 8, **options}


def completion(prompt: Any = "hi", **options: Any) -> dict[str, Any]:
    """The body of a completion request to the fake model."""
    return {"model": "fake-model", "prompt": prompt, "max_tokens": 8, **options}


CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
