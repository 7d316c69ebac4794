"""Changing promises and caps while the server runs, through a door of its own."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from headway.models.source import resolve
from headway.policy.slo import Objective, ServiceClasses
from headway.serve.admin import CAPS_MAX, admin_access
from headway.serve.lifecycle import ServeConfig, serve
from headway.serve.server import bind
from tests.fakes import FakeText, ScriptedExecutor
from tests.http_client import CHAT, Connection, Response, chat, fetch
from tests.running_server import HOST, WAIT_S, RunningServer, running_server

KEY = "a-key-of-the-operator"
CONFIG = "/admin/config"


@dataclass
class AdminServer:
    server: RunningServer
    port: int
    changes: list[tuple[ServiceClasses, Mapping[str, int]]] = field(default_factory=list)
    """What the driver was told."""

    def ask(self, method: str, body: Any = None, key: str = KEY, path: str = CONFIG) -> Response:
        return fetch(self.port, method, path, body, {"Authorization": f"Bearer {key}"})


@pytest.fixture
def executor() -> ScriptedExecutor:
    return ScriptedExecutor()


@pytest.fixture
def admin(executor: ScriptedExecutor, monkeypatch: pytest.MonkeyPatch) -> Iterator[AdminServer]:
    config = ServeConfig(admin_port=0, admin_key=KEY, api_keys=("ann:key-of-ann",))
    with running_server(executor, config) as server:
        listener = bind(HOST, 0)
        result = AdminServer(server, listener.getsockname()[1])
        configure = server.node.driver.configure

        def record(*, classes: ServiceClasses, caps: Mapping[str, int]) -> None:
            result.changes.append((classes, caps))
            configure(classes=classes, caps=caps)

        monkeypatch.setattr(server.node.driver, "configure", record)
        asyncio.run_coroutine_threadsafe(server.node.start_admin(listener), server.loop).result(WAIT_S)
        yield result


def test_it_tells_and_changes_promises_and_caps(admin: AdminServer) -> None:
    before = admin.ask("GET").json()
    assert before["classes"]["conversational"] == {"ttft_ms": 300.0, "itl_ms": 100.0, "e2e_ms": None}
    assert set(before["caps"]) == set(CAPS_MAX)
    change = {"classes": {"conversational": {"ttft_ms": 250.5, "itl_ms": None}}, "caps": {"max_running": 8}}
    after = admin.ask("PATCH", change).json()
    assert after == admin.ask("GET").json()
    assert after["classes"]["conversational"] == {"ttft_ms": 250.5, "itl_ms": None, "e2e_ms": None}
    assert after["classes"]["interactive"] == before["classes"]["interactive"]
    assert after["caps"] == {**before["caps"], "max_running": 8}
    [(classes, caps)] = admin.changes
    assert classes["conversational"].objective == Objective(ttft_s=0.2505)
    assert caps == after["caps"]
    assert admin.server.node.service.classes is classes


def test_what_it_tells_is_what_it_takes(admin: AdminServer) -> None:
    state = admin.ask("GET").json()
    assert admin.ask("PATCH", state).json() == state
    assert admin.ask("PATCH", {}).json() == state


def test_new_requests_are_promised_what_was_changed(admin: AdminServer) -> None:
    assert admin.ask("PATCH", {"classes": {"interactive": {"ttft_ms": 86_400_000}}}).status == 200
    reply = fetch(admin.server.port, "POST", CHAT, chat(), {"Authorization": "Bearer key-of-ann"})
    assert reply.status == 200
    status = fetch(admin.server.port, "GET", "/status", headers={"Authorization": "Bearer key-of-ann"}).json()
    assert status["classes"]["interactive"]["target_ms"]["ttft"] == 86_400_000


BAD: list[tuple[Any, str, str]] = [
    (b"{", "invalid_json", ""),
    ({"bogus": 1}, "unsupported_parameter", "bogus"),
    ({"classes": []}, "invalid_type", "classes"),
    ({"classes": {"turbo": {}}}, "unsupported_parameter", "classes.turbo"),
    ({"classes": {"conversational": 3}}, "invalid_type", "classes.conversational"),
    ({"classes": {"conversational": {"ttft": 3}}}, "unsupported_parameter", "classes.conversational.ttft"),
    ({"classes": {"conversational": {"tpot_ms": 3}}}, "unsupported_parameter", "classes.conversational.tpot_ms"),
    ({"classes": {"conversational": {"ttft_ms": 0}}}, "invalid_value", "classes.conversational.ttft_ms"),
    ({"classes": {"conversational": {"ttft_ms": "9"}}}, "invalid_type", "classes.conversational.ttft_ms"),
    ({"classes": {"batch": {"ttft_ms": 9}}}, "invalid_value", "classes.batch"),
    ({"caps": {"max_running": 0}}, "invalid_value", "caps.max_running"),
    ({"caps": {"max_running": 1 << 40}}, "invalid_value", "caps.max_running"),
    ({"caps": {"max_running": 1.5}}, "invalid_type", "caps.max_running"),
    ({"caps": {"max_bogus": 1}}, "unsupported_parameter", "caps.max_bogus"),
    ({"caps": 5}, "invalid_type", "caps"),
    ({"caps": None}, "invalid_type", "caps"),
    ({"caps": {"max_running": None}}, "invalid_type", "caps.max_running"),
    ({"classes": None}, "invalid_type", "classes"),
    ({"classes": {"conversational": None}}, "invalid_type", "classes.conversational"),
]
"""Null takes a part of a promise back. For a whole class, or for caps, it was answered with 200 and changed nothing, so
an operator could believe that a promise or a cap was gone."""


def test_a_cap_holds_for_who_comes_next(executor: ScriptedExecutor, admin: AdminServer) -> None:
    executor.hold()
    assert admin.ask("PATCH", {"caps": {"max_queued_requests": 1, "max_running": 1}}).status == 200
    headers = {"Authorization": "Bearer key-of-ann"}
    with Connection(admin.server.port) as first, Connection(admin.server.port) as second:
        first.request("POST", CHAT, chat(), headers)
        assert executor.in_step.wait(WAIT_S)
        second.request("POST", CHAT, chat(), headers)
        admin.server.wait_until(lambda: admin.server.stats().waiting == 1)
        assert fetch(admin.server.port, "POST", CHAT, chat(), headers).error["code"] == "queue_full"
        executor.free()
        assert first.read_response().status == second.read_response().status == 200


def test_caps_that_are_turned_again_and_again_do_not_fill_the_log(
    admin: AdminServer, caplog: pytest.LogCaptureFixture
) -> None:
    """As ``headway tune`` does, before every probe."""
    caplog.set_level(logging.INFO, "headway.serve.admin")
    for batch in range(1, 6):
        assert admin.ask("PATCH", {"caps": {"max_running": batch}}).status == 200
    assert caplog.messages == []
    assert admin.ask("PATCH", {"classes": {"conversational": {"ttft_ms": 250}}}).status == 200
    [line] = caplog.messages
    assert "250" in line


def test_a_change_that_cannot_be_meant_changes_nothing(admin: AdminServer) -> None:
    before = admin.ask("GET").json()
    for body, code, param in BAD:
        full = body if isinstance(body, bytes) else {"classes": {"conversational": {"e2e_ms": 7}}, **body}
        reply = admin.ask("PATCH", full)
        assert (reply.status, reply.error["code"], reply.error["param"] or "") == (400, code, param), body
    assert admin.ask("GET").json() == before
    assert not admin.changes


@pytest.mark.parametrize("key", ["", "key-of-ann", KEY[:-1], KEY + "x", f"admin:{KEY}"])
def test_case_13_only_its_own_key_opens_it(admin: AdminServer, key: str) -> None:
    for method in ("GET", "PATCH", "POST"):
        for path in (CONFIG, "/", "/v1/models"):
            assert admin.ask(method, {} if method != "GET" else None, key, path).status == 401
    assert not admin.changes


def test_case_13_it_is_nowhere_else(admin: AdminServer) -> None:
    for method in ("GET", "PATCH"):
        headers = {"Authorization": "Bearer key-of-ann"}
        assert fetch(admin.server.port, method, CONFIG, headers=headers).status == 404
    assert fetch(admin.server.port, "GET", CONFIG, headers={"Authorization": f"Bearer {KEY}"}).status == 401
    assert admin.ask("GET", path="/v1/models").status == 404, "and there is nothing else"
    assert admin.ask("POST", {}).headers["allow"] == "GET, PATCH, HEAD"


def test_a_page_cannot_rebind_its_way_in(admin: AdminServer) -> None:
    headers = {"Authorization": f"Bearer {KEY}", "Host": "evil.example"}
    assert fetch(admin.port, "GET", CONFIG, headers=headers).status == 403


@pytest.mark.parametrize(
    "setting",
    [
        {"admin_port": 8001},
        {"admin_key": KEY},
        {"admin_port": 70_000, "admin_key": KEY},
        {"admin_port": 8001, "admin_key": "too-short"},
        {"admin_port": 8001, "admin_key": "with a space in between"},
        {"admin_port": 8001, "admin_key": "with:a:colon:in:between"},
        {"admin_port": 8001, "admin_key": KEY, "api_keys": (f"ann:{KEY}",)},
    ],
    ids=str,
)
def test_case_40_an_admin_port_without_a_good_key_is_refused(setting: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="admin"):
        ServeConfig(**setting)


@pytest.mark.parametrize("taken_setting", ["port", "admin_port"])
def test_case_40_a_taken_port_is_one_line_and_leaves_the_other_free(taken_setting: str) -> None:
    lines: list[str] = []
    with socket.create_server((HOST, 0)) as taken, socket.create_server((HOST, 0)) as probe:
        taken_port, other_port = taken.getsockname()[1], probe.getsockname()[1]
        probe.close()
        settings = {"port": other_port, "admin_port": other_port, taken_setting: taken_port}
        config = ServeConfig(**settings, admin_key=KEY)
        source, executor = resolve("random:tiny"), ScriptedExecutor()
        assert serve(config, source, executor, lambda source: FakeText(), report=lines.append) == 2
        bind(HOST, other_port).close()
    assert len(lines) == 1
    assert f"port {taken_port}" in lines[0]


def test_the_key_is_shown_nowhere() -> None:
    assert KEY not in repr(ServeConfig(admin_port=0, admin_key=KEY))
    assert KEY not in repr(admin_access(KEY))
