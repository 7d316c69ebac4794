"""One small question to a server, blocking: for what is asked a few times, never for what is measured."""

from __future__ import annotations

import http.client
import time

import msgspec

from headway.bench.target import Target

BODY_BYTES_MAX = 16 << 20
PART_BYTES = 64 << 10


def ask(target: Target, path: str, *, timeout_s: float, body: dict[str, object] | None = None) -> tuple[int, bytes]:
    """Status and body of the answer to a GET, or, with a ``body``, a POST.

    Raises OSError (its subclass TimeoutError once ``timeout_s`` are over, however slowly bytes come) or HTTPException.
    """
    give_up_s = time.monotonic() + timeout_s
    tls = target.tls()
    if tls is None:
        connection = http.client.HTTPConnection(target.host, target.port, timeout=timeout_s)
    else:
        connection = http.client.HTTPSConnection(target.host, target.port, timeout=timeout_s, context=tls)
    headers = {**target.headers(), "connection": "close", "accept": "*/*"}
    payload = None
    if body is not None:
        payload = msgspec.json.encode(body)
        headers["content-type"] = "application/json"
    try:
        connection.request("GET" if payload is None else "POST", path, payload, headers)
        reply = connection.getresponse()
        parts, size = [], 0
        while part := reply.read1(PART_BYTES):
            parts.append(part)
            size += len(part)
            if size > BODY_BYTES_MAX:
                raise http.client.HTTPException(f"the answer is larger than {BODY_BYTES_MAX >> 20} MiB")
            if time.monotonic() > give_up_s:
                raise TimeoutError(f"no whole answer within {timeout_s:g} s")
        return reply.status, b"".join(parts)
    finally:
        connection.close()
