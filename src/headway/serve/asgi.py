"""The few pieces of ASGI that the edge needs: types, header look-up, reading a body, sending one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

from headway.serve.errors import ApiError, Reason
from headway.serve.limits import EdgeLimits

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = Iterable[tuple[bytes, bytes]]


class ClientGone(Exception):
    """The client left before its request was complete; there is nobody to answer."""


def header(scope: Scope, name: bytes) -> bytes | None:
    """The first value of a header; ``name`` in lower case."""
    for key, value in scope["headers"]:
        if key == name:
            return bytes(value)
    return None


async def send_body(
    send: Send, status: int, body: bytes, *, content_type: str = "application/json", headers: Headers = ()
) -> None:
    """A whole reply."""
    fields = [(b"content-type", content_type.encode()), (b"content-length", str(len(body)).encode()), *headers]
    await send({"type": "http.response.start", "status": status, "headers": fields})
    await send({"type": "http.response.body", "body": body})


async def send_error(send: Send, error: ApiError, headers: Headers = ()) -> None:
    """An error reply. When the server can't serve now it also closes, so that the client looks elsewhere."""
    fields = [(name.encode(), value.encode()) for name, value in error.headers().items()]
    if error.status == 503 or error.reason in (Reason.BODY_TOO_LARGE, Reason.REQUEST_TIMEOUT):
        fields.append((b"connection", b"close"))
    await send_body(send, error.status, error.body(), headers=[*fields, *headers])


async def read_json_body(scope: Scope, receive: Receive, limits: EdgeLimits) -> bytes:
    """The request's body. Raises ``ApiError`` (408, 413, 415) and ``ClientGone``."""
    media_type = (header(scope, b"content-type") or b"").split(b";")[0].strip().lower()
    if media_type != b"application/json":
        # This also keeps web pages of other origins out: a browser asks before it sends this type across.
        raise ApiError(Reason.UNSUPPORTED_MEDIA_TYPE, "Send the body as JSON, with 'Content-Type: application/json'.")
    announced = header(scope, b"content-length")
    if announced is not None and int(announced) > limits.body_bytes:
        if header(scope, b"expect") is None:  # else the client waits for our word, and sends nothing
            await _discard(receive, limits.discard_s)
        raise _too_large(limits)
    try:
        async with asyncio.timeout(limits.body_s):
            return await _read(receive, limits)
    except TimeoutError:
        raise ApiError(Reason.REQUEST_TIMEOUT, f"The body did not arrive within {limits.body_s:g} s.") from None


async def _read(receive: Receive, limits: EdgeLimits) -> bytes:
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        size += len(message["body"])
        if size > limits.body_bytes:
            parts.clear()
            await _discard(receive, limits.discard_s)
            raise _too_large(limits)
        parts.append(message["body"])
        if not message["more_body"]:
            return b"".join(parts)


async def _discard(receive: Receive, seconds: float) -> None:
    """Drop the rest of a body, for a while: a client that is still sending would miss a reply."""
    try:
        async with asyncio.timeout(seconds):
            while (await receive()).get("more_body", False):
                pass
    except TimeoutError:
        return


def _too_large(limits: EdgeLimits) -> ApiError:
    return ApiError(Reason.BODY_TOO_LARGE, f"Request bodies are limited to {limits.body_bytes} bytes.")
