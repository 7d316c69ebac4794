"""Promises and caps while the server runs: ``GET`` and ``PATCH /admin/config``, on a listener of their own.

That listener is on loopback, has its own key, and exists only if the operator asked for it. What requests were promised
when they came stays as it was: changes are for those that come after.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any, Protocol

from headway.policy.config import SchedulerConfig
from headway.policy.objectives import MS_MAX, MS_MIN, PARTS, parts_ms, with_parts
from headway.policy.slo import ServiceClasses
from headway.serve.asgi import Receive, Scope, Send, read_json_body, send_body
from headway.serve.auth import Access, HostCheck, Keyring, Tenant
from headway.serve.errors import ApiError, Reason
from headway.serve.fields import Fields, unsupported
from headway.serve.json_body import decode_object
from headway.serve.replies import encode
from headway.serve.routing import Table
from headway.serve.service import Service

logger = logging.getLogger(__name__)

ADMIN_HOST = "127.0.0.1"
KEY_LENGTH_MIN = 16
CAPS_MAX = {
    "max_running": 65_536,
    "max_step_tokens": 1 << 20,
    "max_queued_requests": 1 << 20,
    "max_queued_tokens": 1 << 32,
}
"""The hard caps behind the model, and the most that each may be. The least is 1."""


class Configurable(Protocol):
    """What the driver does for this: changes all at once, between two steps. Waits for the policy."""

    def configure(self, *, classes: ServiceClasses, caps: Mapping[str, int]) -> None: ...


def admin_access(key: str) -> Access:
    """Raises ValueError for a key that is easy to guess or can't be sent."""
    if len(key) < KEY_LENGTH_MIN or not key.isprintable() or " " in key or ":" in key:
        raise ValueError(
            f"the admin key must have at least {KEY_LENGTH_MIN} printable characters, none of them a space or a colon"
        )
    return Access(Keyring((f"admin:{key}",), salt_key=b""), HostCheck(ADMIN_HOST))


def caps_of(config: SchedulerConfig) -> dict[str, int]:
    return {
        "max_running": config.max_running,
        "max_step_tokens": config.max_step_tokens,
        "max_queued_requests": config.max_queued_requests,
        "max_queued_tokens": config.max_queued_tokens,
    }


class Admin:
    """The admin listener's handlers, and the caps as they are now."""

    def __init__(self, driver: Configurable, caps: Mapping[str, int]) -> None:
        self._driver = driver
        self._caps = dict(caps)
        self._one_at_a_time = asyncio.Lock()
        self.table: Table = {"/admin/config": {"GET": self._get, "PATCH": self._patch}}

    async def _get(self, service: Service, tenant: Tenant, scope: Scope, receive: Receive, send: Send) -> None:
        await send_body(send, 200, encode(self._state(service)))

    async def _patch(self, service: Service, tenant: Tenant, scope: Scope, receive: Receive, send: Send) -> None:
        with service.bodies.one() as body:
            await read_json_body(scope, receive, service.bodies, body)
            async with self._one_at_a_time:
                await asyncio.to_thread(self._change, service, body.data)
        await self._get(service, tenant, scope, receive, send)

    def _change(self, service: Service, body: bytes) -> None:
        """All of it or, with an ``ApiError`` (400), nothing."""
        fields = Fields(decode_object(body, service.request_limits))
        classes = _read_classes(fields, service.classes)
        caps = self._caps | _read_caps(fields)
        fields.finish()
        # Other promises are news; caps are turned many times a minute while somebody looks for good ones.
        level = logging.DEBUG if classes == service.classes else logging.INFO
        self._driver.configure(classes=classes, caps=caps)
        service.classes, self._caps = classes, caps
        logger.log(level, "the admin endpoint has set %s", encode(self._state(service)).decode())

    def _state(self, service: Service) -> dict[str, Any]:
        """In the form that ``PATCH`` takes."""
        classes = {
            name: {f"{part}_ms": value for part, value in parts_ms(each.objective).items()}
            for name, each in service.classes.items()
        }
        return {"classes": classes, "caps": self._caps}


def _read_classes(fields: Fields, classes: ServiceClasses) -> ServiceClasses:
    fields.refuse_null("classes", "an object")
    tables = fields.object("classes")
    for name, _ in tables.items() if tables is not None else ():
        assert tables is not None
        if name not in classes:
            raise unsupported(tables.at(name), f"is not a service class; there are {', '.join(classes)}")
        tables.refuse_null(name, "an object")
        objective = with_parts(classes[name].objective, _read_parts(tables.object(name) or Fields({})))
        try:
            classes = classes.with_objective(name, objective)
        except ValueError as error:
            raise ApiError(Reason.INVALID_VALUE, f"{error}.", param=tables.at(name)) from None
    return classes


def _read_parts(table: Fields) -> dict[str, float | None]:
    """Null takes a promise back."""
    parts: dict[str, float | None] = {}
    for key, value in table.items():
        part = key.removesuffix("_ms")
        if part not in PARTS or key == part:
            raise unsupported(table.at(key), f"is not one of {', '.join(f'{each}_ms' for each in PARTS)}")
        parts[part] = None if value is None else table.number(key, 0.0, MS_MIN, MS_MAX)
    return parts


def _read_caps(fields: Fields) -> dict[str, int]:
    fields.refuse_null("caps", "an object")
    table = fields.object("caps") or Fields({})
    for name in CAPS_MAX:
        table.refuse_null(name, "an integer")
    given = {name: table.integer(name, 1, most) for name, most in CAPS_MAX.items()}
    table.finish()
    return {name: value for name, value in given.items() if value is not None}
