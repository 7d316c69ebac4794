"""Which handler answers a path and a method. A path that isn't in the table does not exist."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from headway.serve.asgi import Receive, Scope, Send
from headway.serve.auth import Tenant
from headway.serve.errors import ApiError, Reason
from headway.serve.service import Service

Handler = Callable[[Service, Tenant, Scope, Receive, Send], Awaitable[None]]
Table = Mapping[str, Mapping[str, Handler]]
"""Handlers by route and method. A route is a path, or a path that ends with ``{id}``, for any rest."""

UNMATCHED = "unmatched"
_REST = "{id}"


class Routes:
    """One listener's table."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._prefixes = {route.removesuffix(_REST): route for route in table if route.endswith(_REST)}

    def match(self, path: str) -> str:
        """The route of a path, ``UNMATCHED`` if there is none."""
        if path in self._table and not path.endswith(_REST):
            return path
        for prefix, route in self._prefixes.items():
            if path.startswith(prefix) and path != prefix:
                return route
        return UNMATCHED

    def methods(self, route: str) -> list[str]:
        """What a route answers to; nothing if it is ``UNMATCHED``. HEAD is GET without a body."""
        methods = list(self._table.get(route, ()))
        return [*methods, "HEAD"] if "GET" in methods else methods

    def find(self, route: str, method: str) -> Handler:
        """Raises ``ApiError`` (404, 405)."""
        if route == UNMATCHED:
            raise ApiError(Reason.NOT_FOUND, "There is nothing at this path.")
        if method not in self.methods(route):
            allowed = " and ".join(self._table[route])
            raise ApiError(Reason.METHOD_NOT_ALLOWED, f"{route} answers to {allowed} only.")
        return self._table[route]["GET" if method == "HEAD" else method]
