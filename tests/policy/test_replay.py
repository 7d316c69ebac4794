"""Number 24: what a real server's scheduler was asked, and when, is all that its plans depend on."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from headway.engine.executor import WorkerExecutor
from headway.engine.options import EngineOptions
from headway.models.source import resolve
from headway.policy.plan import Executor, ExecutorInfo
from headway.policy.policies import build
from headway.policy.policy import Policy
from headway.policy.scheduler import SchedulerConfig
from headway.serve.lifecycle import ServeConfig
from tests.fakes import INFO, ScriptedExecutor
from tests.http_client import CHAT, Connection, chat, fetch
from tests.policy.replay import Recording, RecordingScheduler
from tests.running_server import RunningServer, running_server

TIERS = ("priority", "default", "flex", "auto")
CLIENTS = 24


def headway(executor: Executor, info: ExecutorInfo) -> Policy:
    return build("headway")


@pytest.fixture(autouse=True)
def recording(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headway.serve.driver.Scheduler", RecordingScheduler)


def visited(server: RunningServer) -> Recording:
    """What clients of all kinds had asked of the scheduler when the last had gone. One leaves in the middle."""

    def ask(number: int) -> int:
        body = chat(f"{number % 5} " * (1 + 3 * number), max_tokens=3 + number, service_tier=TIERS[number % 4])
        return fetch(server.port, "POST", CHAT, body).status

    with ThreadPoolExecutor(6) as pool:
        statuses = list(pool.map(ask, range(CLIENTS)))
    with Connection(server.port) as connection:
        connection.request("POST", CHAT, chat(max_tokens=150, stream=True, service_tier="flex"))
        assert connection.read_head()[0] == 200
    server.wait_idle()
    assert 200 in statuses
    scheduler = server.node.driver._scheduler
    assert isinstance(scheduler, RecordingScheduler)
    return scheduler.recording


def test_a_servers_run_is_replayed_plan_by_plan() -> None:
    """A small cache, a lost engine, preemptions and refusals are part of it."""
    executor = ScriptedExecutor(ExecutorInfo(16, 120, INFO.context_tokens, INFO.vocab_size), step_s=0.001)
    config = ServeConfig(scheduler=SchedulerConfig(max_step_tokens=256, kv_lookahead_tokens=0))
    with running_server(executor, config, make_policy=headway) as server:
        executor.lose()
        recording = visited(server)
        calls = {name for name, _, _ in recording.calls}
        assert {"submit", "plan", "apply", "expire", "abort", "executor_lost"} <= calls
        assert recording.replay(build("headway")) > 50


@pytest.mark.slow
def test_a_run_of_a_real_engine_is_replayed_plan_by_plan() -> None:
    executor = WorkerExecutor(resolve("random:tiny"), EngineOptions(dtype="fp32", kv_tokens=8192, threads=1))
    with running_server(executor, make_policy=headway) as server:
        recording = visited(server)
        assert recording.replay(build("headway")) > 50


def test_another_answer_is_found_and_told() -> None:
    executor = ScriptedExecutor(step_s=0.001)
    with running_server(executor, make_policy=headway) as server:
        recording = visited(server)
    with pytest.raises(AssertionError, match=r"^24: call \d+, \w+, gave"):
        recording.replay(build("prefill-first"))
