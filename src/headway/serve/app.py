"""The ASGI application: everything that holds for every request, whatever it asks for.

In this order: a request id, the Host check, cross-origin rules, the API key, the route. Every error is the same JSON
object; an unexpected exception is a 500 that tells the log what happened and the client nothing.
"""

from __future__ import annotations

import logging

from headway.serve.asgi import ClientGone, Message, Receive, Scope, Send, header, send_error
from headway.serve.auth import ANONYMOUS, PUBLIC_PATHS, Access
from headway.serve.errors import ApiError, Reason
from headway.serve.request_id import new_request_id, safe_request_id
from headway.serve.routing import Routes
from headway.serve.service import Service

logger = logging.getLogger(__name__)

PREFLIGHT_AGE_S = 600
METHODS = ("GET", "HEAD", "POST", "OPTIONS", "PUT", "DELETE", "PATCH")
"""Methods that metrics and logs name; any other is ``OTHER``."""


class App:
    """One listener's application."""

    def __init__(self, service: Service, access: Access, routes: Routes) -> None:
        self._service = service
        self._access = access
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http", scope["type"]
        request_id = safe_request_id(header(scope, b"x-request-id") or b"") or new_request_id()
        reply = _Sender(send, request_id, self._cross_origin_headers(scope))
        route = self._routes.match(scope["path"])
        started_s = self._service.clock()
        try:
            await self._answer(route, scope, receive, reply)
        except ApiError as error:
            await self._refuse(error, route, reply)
        except ClientGone:
            reply.status = 499
        except Exception:
            logger.exception("request %s failed", request_id)
            await self._refuse(ApiError(Reason.INTERNAL, "The server made a mistake."), route, reply)
        method = scope["method"] if scope["method"] in METHODS else "OTHER"
        self._service.telemetry.responses[route, reply.status] += 1
        elapsed_ms = 1000 * (self._service.clock() - started_s)
        logger.debug("%s %s %s %d %.1f ms", request_id, method, route, reply.status, elapsed_ms)

    async def _answer(self, route: str, scope: Scope, receive: Receive, reply: _Sender) -> None:
        access = self._access
        access.host_check.check(header(scope, b"host"))
        if scope["method"] == "OPTIONS" and reply.cross_origin and header(scope, b"access-control-request-method"):
            await _preflight(scope, reply)
            return
        tenant = ANONYMOUS
        if scope["path"] not in PUBLIC_PATHS:
            tenant = access.keyring.tenant(header(scope, b"authorization"))
        await self._routes.find(route, scope["method"])(self._service, tenant, scope, receive, reply)

    async def _refuse(self, error: ApiError, route: str, reply: _Sender) -> None:
        if reply.status:
            return  # it began, and can't change its mind: the protocol closes a reply that isn't complete
        allow = []
        if error.reason is Reason.METHOD_NOT_ALLOWED:
            allow = [(b"allow", ", ".join(self._routes.methods(route)).encode())]
        elif error.reason is Reason.INVALID_API_KEY:
            allow = [(b"www-authenticate", b"Bearer")]
        await send_error(reply, error, allow)

    def _cross_origin_headers(self, scope: Scope) -> list[tuple[bytes, bytes]]:
        if not self._access.cors_origins:
            return []
        origin = header(scope, b"origin")
        if origin is None or origin.decode("latin-1") not in self._access.cors_origins:
            return []
        exposed = (b"access-control-expose-headers", b"x-request-id, retry-after, retry-after-ms, x-should-retry")
        return [(b"access-control-allow-origin", origin), (b"vary", b"Origin"), exposed]


class _Sender:
    """``send`` with the headers that every reply has, and a memory of the status."""

    def __init__(self, send: Send, request_id: str, cross_origin: list[tuple[bytes, bytes]]) -> None:
        self._send = send
        self._request_id = request_id
        self.cross_origin = cross_origin
        self.status = 0

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            extra = [(b"x-request-id", self._request_id.encode()), *self.cross_origin]
            message = {**message, "headers": [*message["headers"], *extra]}
        await self._send(message)


async def _preflight(scope: Scope, reply: _Sender) -> None:
    """An allowed origin may use every route, with any header: what it sends is checked like anyone's."""
    headers = [
        (b"access-control-allow-methods", b"GET, POST"),
        (b"access-control-allow-headers", header(scope, b"access-control-request-headers") or b"*"),
        (b"access-control-max-age", str(PREFLIGHT_AGE_S).encode()),
        (b"content-length", b"0"),
    ]
    await reply({"type": "http.response.start", "status": 204, "headers": headers})
    await reply({"type": "http.response.body", "body": b""})
