"""A running Headway's caps, through its own admin handlers' form."""

from __future__ import annotations

import asyncio
import copy
import http.server
import json
import threading
from typing import Any

import pytest

from headway.bench.target import TargetError
from headway.policy.slo import Objective
from headway.tune.admin import Admin
from headway.tune.engines import HeadwayCaps, Interrupted, Knobs, interruptible

BEFORE: dict[str, Any] = {
    "classes": {
        "conversational": {"ttft_ms": 300.0, "itl_ms": 100.0, "e2e_ms": None},
        "batch": {"ttft_ms": None, "itl_ms": None, "e2e_ms": None},
    },
    "caps": {"max_running": 1024, "max_step_tokens": 8192, "max_queued_requests": 2048, "max_queued_tokens": 1 << 20},
}


class FakeAdmin(Admin):
    def __init__(self) -> None:
        self.state = copy.deepcopy(BEFORE)

    def read(self) -> dict[str, Any]:
        return copy.deepcopy(self.state)

    def change(self, change: dict[str, Any]) -> dict[str, Any]:
        for name, table in change.get("classes", {}).items():
            self.state["classes"][name].update(table)
        self.state["caps"].update(change.get("caps", {}))
        return self.read()


def test_a_static_point_has_caps_and_no_promise_and_everything_is_put_back() -> None:
    admin = FakeAdmin()

    async def go() -> None:
        engine = await HeadwayCaps.at(
            admin, {"conversational": Objective(itl_s=0.05), "unknown": Objective(itl_s=0.05)}
        )
        await engine.use(Knobs(batch=12, tokens=1024))
        assert admin.state["caps"]["max_running"] == 12
        assert admin.state["caps"]["max_step_tokens"] == 1024
        assert admin.state["classes"]["conversational"] == {"ttft_ms": None, "itl_ms": None, "e2e_ms": None}
        await engine.use_adaptive()
        assert admin.state["caps"] == BEFORE["caps"]
        assert admin.state["classes"]["conversational"] == {"ttft_ms": None, "itl_ms": 50.0, "e2e_ms": None}
        await engine.close()

    asyncio.run(go())
    assert admin.state == BEFORE


class SlowAdminServer(http.server.ThreadingHTTPServer):
    """An admin endpoint whose first change is held up: ``has_come`` when it is there, until ``may_go_on``."""

    daemon_threads = True

    def __init__(self) -> None:
        self.state = copy.deepcopy(BEFORE)
        self.has_come, self.may_go_on = threading.Event(), threading.Event()
        super().__init__(("127.0.0.1", 0), _SlowAdmin)


class _SlowAdmin(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self._answer()

    def do_PATCH(self) -> None:
        server = self.server
        assert isinstance(server, SlowAdminServer)
        change = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if not server.has_come.is_set():
            server.has_come.set()
            server.may_go_on.wait(10.0)
        server.state["caps"].update(change["caps"])
        self._answer()

    def _answer(self) -> None:
        assert isinstance(self.server, SlowAdminServer)
        data = json.dumps(self.server.state).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args: Any) -> None:
        """Not of interest."""


def test_a_change_under_way_when_interrupted_does_not_come_after_all_was_put_back() -> None:
    """The server kept the caps of the last probe."""
    server = SlowAdminServer()
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()

    async def go() -> None:
        engine = await HeadwayCaps.at(Admin(f"http://127.0.0.1:{server.server_address[1]}", "k" * 16), {})
        stop = asyncio.Event()
        setting = asyncio.create_task(interruptible(engine.use(Knobs(batch=12)), stop))
        await asyncio.to_thread(server.has_come.wait)
        stop.set()
        with pytest.raises(Interrupted):
            await setting
        closing = asyncio.create_task(engine.close())
        await asyncio.wait((closing,), timeout=0.2)  # it has had its chance to come first
        server.may_go_on.set()
        await closing

    try:
        asyncio.run(go())
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    assert server.state == BEFORE


def test_an_admin_endpoint_that_is_not_there_is_one_line() -> None:
    with pytest.raises(TargetError, match="does not answer"):
        Admin("http://127.0.0.1:9", "k" * 16).read()
