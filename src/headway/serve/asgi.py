"""The few pieces of ASGI that the edge needs: types, header look-up, reading a body, sending one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

from headway.serve.bodies import Bodies, Body, too_large
from headway.serve.errors import ApiError, Reason

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


async def read_json_body(scope: Scope, receive: Receive, bodies: Bodies, body: Body) -> None:
    """Read all of the request's body. Raises ``ApiError`` (408, 413, 415, 429, 503) and ``ClientGone``."""
    media_type = (header(scope, b"content-type") or b"").split(b";")[0].strip().lower()
    if media_type != b"application/json":
        # This also keeps web pages of other origins out: a browser asks before it sends this type across.
        raise ApiError(Reason.UNSUPPORTED_MEDIA_TYPE, "Send the body as JSON, with 'Content-Type: application/json'.")
    announced = header(scope, b"content-length")
    if announced is not None and int(announced) > bodies.limits.body_bytes:
        if header(scope, b"expect") is None:  # else the client waits for our word, and sends nothing
            await _discard(receive, bodies.limits.discard_s)
        raise too_large(bodies.limits)
    try:
        async with bodies.reading():
            await _read(receive, body)
    except ApiError as error:
        if error.status in (413, 429):
            body.drop()
            await _discard(receive, bodies.limits.discard_s)
        raise


async def _read(receive: Receive, body: Body) -> None:
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        body.add(message["body"])
        if not message["more_body"]:
            return


async def _discard(receive: Receive, seconds: float) -> None:
    """Drop the rest of a body, for a while: a client that is still sending would miss a reply."""
    try:
        async with asyncio.timeout(seconds):
            while (await receive()).get("more_body", False):
                pass
    except TimeoutError:
        return
