"""A running Headway's caps, through its own admin handlers' form."""

from __future__ import annotations

import asyncio
import copy
from typing import Any

import pytest

from headway.bench.target import TargetError
from headway.policy.slo import Objective
from headway.tune.admin import Admin
from headway.tune.engines import HeadwayCaps, Knobs

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


def test_an_admin_endpoint_that_is_not_there_is_one_line() -> None:
    with pytest.raises(TargetError, match="does not answer"):
        Admin("http://127.0.0.1:9", "k" * 16).read()
