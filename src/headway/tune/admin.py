"""A running Headway's promises and caps, through its admin listener: read, change, and put back as they were."""

from __future__ import annotations

import http.client
import threading
from typing import Any

import msgspec

from headway.bench.target import Target, TargetError

PATH = "/admin/config"
TIMEOUT_S = 10.0
ANSWER_BYTES_MAX = 1 << 20


class Admin:
    """Blocks for ``TIMEOUT_S`` at most each time. Raises ``TargetError`` of one line. From several threads one after
    the other: a change that nobody waits for any more is not to overtake the one that puts all back."""

    def __init__(self, url: str, key: str) -> None:
        self._target = Target.at(url, key=key)
        self._url = url
        self._one_at_a_time = threading.Lock()

    def read(self) -> dict[str, Any]:
        """``classes`` and ``caps``, in the form that ``change`` takes."""
        return self._exchange("GET", None)

    def change(self, change: dict[str, Any]) -> dict[str, Any]:
        """All of it or nothing; what it is then."""
        return self._exchange("PATCH", change)

    def _exchange(self, method: str, change: dict[str, Any] | None) -> dict[str, Any]:
        with self._one_at_a_time:
            status, body = self._ask(method, change)
        if status in (http.client.UNAUTHORIZED, http.client.FORBIDDEN):
            raise TargetError(f"the admin endpoint at {self._url} refuses the key; it is in HEADWAY_ADMIN_KEY there")
        if status != http.client.OK:
            raise TargetError(f"the admin endpoint at {self._url} answers {status}: {_said(body)}")
        try:
            return msgspec.json.decode(body, type=dict[str, Any])
        except (msgspec.MsgspecError, UnicodeDecodeError):
            raise TargetError(f"{self._url} is not the admin endpoint of a Headway server") from None

    def _ask(self, method: str, change: dict[str, Any] | None) -> tuple[int, bytes]:
        target, tls = self._target, self._target.tls()
        if tls is None:
            connection = http.client.HTTPConnection(target.host, target.port, timeout=TIMEOUT_S)
        else:
            connection = http.client.HTTPSConnection(target.host, target.port, timeout=TIMEOUT_S, context=tls)
        headers = {**target.headers(), "content-type": "application/json", "connection": "close"}
        try:
            connection.request(method, PATH, None if change is None else msgspec.json.encode(change), headers)
            reply = connection.getresponse()
            return reply.status, reply.read(ANSWER_BYTES_MAX)
        except (OSError, http.client.HTTPException) as error:
            raise TargetError(f"the admin endpoint at {self._url} does not answer: {error}") from None
        finally:
            connection.close()


def _said(body: bytes) -> str:
    return " ".join(body.decode("utf-8", "replace").split())[:300]
