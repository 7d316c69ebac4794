"""The policy that keeps promises behind real sockets: who can't be on time hears so at once, or is told how late."""

from __future__ import annotations

from collections.abc import Iterator

import openai
import pytest

from headway.policy.plan import Executor, ExecutorInfo
from headway.policy.policies import build
from headway.policy.policy import Policy
from tests.fakes import ScriptedExecutor
from tests.http_client import fetch
from tests.running_server import MODEL, RunningServer, running_server

HELLO = [{"role": "user", "content": "hi"}]
AT_ONCE = {"x-slo-ttft-ms": "1"}
"""Sooner than any step ends."""


def headway(executor: Executor, info: ExecutorInfo) -> Policy:
    return build("headway")


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with running_server(ScriptedExecutor(step_s=0.002), make_policy=headway) as server:
        yield server


@pytest.fixture
def client(server: RunningServer) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(
        base_url=f"http://127.0.0.1:{server.port}/v1", api_key="none", timeout=20, max_retries=0
    ) as client:
        yield client


@pytest.mark.parametrize("tier", ["auto", "priority", "flex"])
def test_what_can_be_on_time_is_served_as_asked(client: openai.OpenAI, tier: str) -> None:
    reply = client.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=4, service_tier=tier)
    assert reply.service_tier == {"auto": "default"}.get(tier, tier)


def test_case_18_what_cannot_be_on_time_is_refused_and_nothing_is_computed(
    server: RunningServer, client: openai.OpenAI
) -> None:
    before = server.stats().output_tokens
    with pytest.raises(openai.APIStatusError) as refused:
        client.chat.completions.create(model=MODEL, messages=HELLO, service_tier="priority", extra_headers=AT_ONCE)
    assert refused.value.code in ("overloaded", "objective_impossible")
    server.wait_idle()
    assert server.stats().output_tokens == before


def test_who_allows_it_is_served_late_and_told_so(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(
        model=MODEL, messages=HELLO, max_tokens=4, stream=True, extra_headers=AT_ONCE
    )
    assert {chunk.service_tier for chunk in stream} == {"flex"}


def test_what_the_policy_knows_is_shown(server: RunningServer, client: openai.OpenAI) -> None:
    client.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=4)
    server.wait_idle()
    state = fetch(server.port, "GET", "/status").json()
    assert state["step"] == {"tokens": 1, "sequences": 1}
    assert state["policy"]["model_samples"] >= 4
    assert state["policy"].keys() == server.stats().policy.keys()
    metrics = fetch(server.port, "GET", "/metrics").body.decode()
    for name in server.stats().policy:
        help_text = next(line for line in metrics.splitlines() if line.startswith(f"# HELP headway_policy_{name} "))
        assert " ".join(help_text.split()[3:]) != name, "each number is explained"
    assert "headway_step_sequences 1.0" in metrics
