"""Case 18: what can't be in time even if it is let in now is refused at once, is told not to come again, and costs
nothing."""

from __future__ import annotations

import pytest

from tests.fakes import ScriptedExecutor
from tests.faults.loads import knowing
from tests.http_client import COMPLETIONS, completion, fetch
from tests.running_server import running_server

LONG = "p" * 1500
"""Takes three quarters of a second."""


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_case_18_a_deadline_that_can_not_be_met(stream: bool) -> None:
    executor = ScriptedExecutor()
    with running_server(executor, make_policy=knowing) as server:
        body = completion(LONG, stream=stream, service_tier="default")
        reply = fetch(server.port, "POST", COMPLETIONS, body, {"X-Request-Timeout-Ms": "100", "x-slo-ttft-ms": "5000"})
        assert reply.status == 429
        assert reply.headers["x-should-retry"] == "false"
        assert "retry-after" not in reply.headers
        assert executor.tokens_planned() == 0
        good = fetch(server.port, "POST", COMPLETIONS, body, {"X-Request-Timeout-Ms": "20000", "x-slo-ttft-ms": "5000"})
        assert good.status == 200


def test_case_18_a_promise_that_can_never_be_kept_is_a_mistake_of_the_clients() -> None:
    executor = ScriptedExecutor()
    with running_server(executor, make_policy=knowing) as server:
        body = completion(LONG, service_tier="priority")
        reply = fetch(server.port, "POST", COMPLETIONS, body)
        assert reply.status == 400
        assert reply.error["code"] == "objective_impossible"
        assert reply.headers.get("x-should-retry") == "false"
        assert executor.tokens_planned() == 0
