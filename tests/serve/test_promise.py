"""What a request is promised, by tier and headers; and what its client hears when the promise can't be kept."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import openai
import pytest

from headway.policy.events import Demoted, Event, Finished, FinishReason, Queued, Rejected, RejectReason, TokenOut
from headway.policy.objectives import MS_MAX, read_classes
from headway.policy.request import RequestSpec
from headway.policy.scheduler import SchedulerConfig
from headway.policy.slo import BATCH, CONVERSATIONAL, INTERACTIVE, Objective, ServiceClass, ServiceClasses
from headway.serve.lifecycle import ServeConfig
from headway.serve.limits import EdgeLimits
from tests.fakes import ScriptedExecutor
from tests.http_client import CHAT, COMPLETIONS, Connection, Response, chat, completion, fetch
from tests.running_server import MODEL, WAIT_S, RunningServer, running_server

VOICE = ServiceClass(name="voice", objective=Objective(ttft_s=0.1, itl_s=0.05), tiers=("phone",), weight=3.0)
HELLO = [{"role": "user", "content": "hi"}]


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    classes = ServiceClasses((CONVERSATIONAL, INTERACTIVE, BATCH, VOICE))
    with running_server(config=ServeConfig(classes=classes, api_keys=("ann:key-of-ann",))) as server:
        yield server


@pytest.fixture
def specs(server: RunningServer, monkeypatch: pytest.MonkeyPatch) -> list[RequestSpec]:
    """All that the driver is handed."""
    seen: list[RequestSpec] = []
    submit = server.node.driver.submit

    def record(spec: RequestSpec) -> Queued | Rejected:
        seen.append(spec)
        return submit(spec)

    monkeypatch.setattr(server.node.driver, "submit", record)
    return seen


def ask(server: RunningServer, body: dict[str, Any], **headers: str) -> Response:
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    return fetch(server.port, "POST", CHAT, body, {"Authorization": "Bearer key-of-ann", **fields})


@pytest.mark.parametrize(
    ("tier", "expected", "served"),
    [
        (None, INTERACTIVE, None),
        ("auto", INTERACTIVE, "default"),
        ("default", INTERACTIVE, "default"),
        ("interactive", INTERACTIVE, "default"),
        ("priority", CONVERSATIONAL, "priority"),
        ("scale", CONVERSATIONAL, "priority"),
        ("conversational", CONVERSATIONAL, "priority"),
        ("flex", BATCH, "flex"),
        ("batch", BATCH, "flex"),
        ("phone", VOICE, "phone"),
        ("voice", VOICE, "phone"),
    ],
)
def test_a_tier_picks_a_class_and_the_reply_names_the_one_served(
    server: RunningServer, specs: list[RequestSpec], tier: str | None, expected: ServiceClass, served: str | None
) -> None:
    reply = ask(server, chat() if tier is None else chat(service_tier=tier))
    assert reply.json().get("service_tier") == served
    [spec] = specs
    assert (spec.service_class, spec.objective, spec.weight) == (expected.name, expected.objective, expected.weight)
    assert spec.may_demote is (tier in (None, "auto"))


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
def test_every_chunk_of_a_stream_names_the_tier(server: RunningServer, path: str) -> None:
    body = (chat if path == CHAT else completion)(service_tier="scale", stream=True)
    with Connection(server.port) as connection:
        connection.request("POST", path, body, {"Authorization": "Bearer key-of-ann"})
        connection.read_head()
        *chunks, _ = connection.events()
    assert {json.loads(chunk)["service_tier"] for chunk in chunks} == {"priority"}


def test_a_tier_that_is_none_is_refused_with_the_names_of_all(server: RunningServer) -> None:
    error = ask(server, chat(service_tier="turbo")).error
    assert (error["code"], error["param"]) == ("invalid_value", "service_tier")
    for name in ("auto", "default", "priority", "flex", "scale", "voice", "phone", "batch", "not 'turbo'"):
        assert name in error["message"]


@pytest.mark.parametrize(
    ("tier", "allow", "may_demote"),
    [
        ("auto", "false", False),
        (None, "false", False),
        ("default", "true", True),
        ("priority", "true", True),
        ("flex", "true", False),
    ],
)
def test_a_header_says_whether_late_is_better_than_never(
    server: RunningServer, specs: list[RequestSpec], tier: str | None, allow: str, may_demote: bool
) -> None:
    assert ask(server, chat(service_tier=tier), X_SLO_Allow_Degraded=allow).status == 200
    assert specs[0].may_demote is may_demote


@pytest.mark.parametrize(
    ("headers", "objective"),
    [
        ({"x-slo-ttft-ms": "250"}, Objective(ttft_s=0.25, itl_s=0.1)),
        ({"X-SLO-ITL-MS": "40.5"}, Objective(ttft_s=0.3, itl_s=0.0405)),
        ({"x-slo-e2e-ms": "9000"}, Objective(ttft_s=0.3, itl_s=0.1, e2e_s=9.0)),
        ({"x-llm-d-slo-ttft-ms": "1", "x-llm-d-slo-tpot-ms": "20"}, Objective(ttft_s=0.001, itl_s=0.02)),
        ({"x-slo-tpot-ms": "20", "x-slo-itl-ms": "20.0"}, Objective(ttft_s=0.3, itl_s=0.02)),
    ],
)
def test_headers_replace_parts_of_the_objective(
    server: RunningServer, specs: list[RequestSpec], headers: dict[str, str], objective: Objective
) -> None:
    assert ask(server, chat(service_tier="priority"), **headers).status == 200
    assert specs[0].objective == objective
    assert specs[0].service_class == "conversational"


@pytest.mark.parametrize("name", ["x-slo-ttft-ms", "x-slo-itl-ms", "x-slo-e2e-ms", "x-llm-d-slo-tpot-ms"])
@pytest.mark.parametrize(
    "value", ["", "0", "-5", "0.9", "86400001", "1e3", "nan", "inf", "300ms", "1,5", "0x10", "1.", "9" * 400, "\xb2"]
)
def test_an_objective_that_cannot_be_meant_is_refused(server: RunningServer, name: str, value: str) -> None:
    reply = ask(server, chat(), **{name: value})
    assert reply.status == 400
    assert (reply.error["code"], reply.error["param"]) == ("invalid_header", name)
    assert f"between 1 and {MS_MAX}" in reply.error["message"]


@pytest.mark.parametrize(
    ("headers", "words"),
    [
        ({"x-slo-ttft-ms": "100", "x-llm-d-slo-ttft-ms": "200"}, "contradicts 'x-slo-ttft-ms'"),
        ({"x-slo-allow-degraded": "yes"}, "must be 'true' or 'false'"),
    ],
)
def test_headers_that_contradict_or_say_nothing_are_refused(
    server: RunningServer, headers: dict[str, str], words: str
) -> None:
    error = ask(server, chat(), **headers).error
    assert error["code"] == "invalid_header"
    assert words in error["message"]


def test_batch_work_cannot_ask_for_a_promise(server: RunningServer) -> None:
    error = ask(server, chat(service_tier="flex"), X_SLO_TTFT_MS="100").error
    assert (error["code"], error["param"]) == ("invalid_header", "x-slo-ttft-ms")


def test_the_policy_knows_who_asked_and_when(server: RunningServer, specs: list[RequestSpec]) -> None:
    before_s = time.monotonic()
    assert ask(server, chat()).status == 200
    [spec] = specs
    assert spec.arrived_s is not None
    assert before_s <= spec.arrived_s <= time.monotonic()
    assert spec.tenant == "ann"
    assert b"key-of-ann" not in repr(spec).encode(), "who it is, and not the secret"


# ---- what the policy may answer: a door of our own in front of the driver --------------------------------------------

Answer = Callable[[RequestSpec], Rejected | list[Event]]


def answering(server: RunningServer, monkeypatch: pytest.MonkeyPatch, answer: Answer) -> list[RequestSpec]:
    """Have ``answer`` decide in place of the policy: a refusal, or the events to come."""
    seen: list[RequestSpec] = []

    def submit(spec: RequestSpec) -> Queued | Rejected:
        seen.append(spec)
        answered = answer(spec)
        if isinstance(answered, Rejected):
            return answered
        server.node.streams.deliver(answered)
        return Queued(spec.request_id)

    monkeypatch.setattr(server.node.driver, "submit", submit)
    return seen


def demoted(spec: RequestSpec) -> list[Event]:
    tokens = [TokenOut(spec.request_id, index, ord("x")) for index in range(2)]
    finished = Finished(spec.request_id, FinishReason.LENGTH, len(spec.prompt), 2, 0)
    return [Demoted(spec.request_id, "batch"), *tokens, finished]


def overloaded(retry_after_s: float | None) -> Answer:
    return lambda spec: Rejected(spec.request_id, RejectReason.OVERLOADED, "busy", retry_after_s=retry_after_s)


def shed(spec: RequestSpec) -> list[Event]:
    return [Finished(spec.request_id, FinishReason.SHED, len(spec.prompt), 0, 0, retry_after_s=0.5)]


@pytest.mark.parametrize("tier", ["auto", None])
def test_who_is_served_late_is_told_by_the_tier(monkeypatch: pytest.MonkeyPatch, tier: str | None) -> None:
    """Also if no tier was asked for: late is not what was promised by silence."""
    with running_server() as server, Connection(server.port) as connection:
        answering(server, monkeypatch, demoted)
        assert fetch(server.port, "POST", CHAT, chat(service_tier=tier)).json()["service_tier"] == "flex"
        connection.request("POST", CHAT, chat(service_tier=tier, stream=True))
        connection.read_head()
        *chunks, _ = connection.events()
        assert {json.loads(chunk)["service_tier"] for chunk in chunks} == {"flex"}
        batch = fetch(server.port, "GET", "/status").json()["classes"]["batch"]
        assert batch["measured_ms"]["ttft"]["n"] == 2, "latencies count where it was served"


@pytest.mark.parametrize("stream", [False, True])
def test_a_queued_request_that_is_refused_later_gets_a_status_and_advice(
    monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    with running_server() as server:
        answering(server, monkeypatch, shed)
        reply = fetch(server.port, "POST", CHAT, chat(stream=stream))
        assert reply.status == 429
        assert (reply.error["type"], reply.error["code"]) == ("rate_limit_error", "overloaded")
        assert (reply.headers["retry-after"], reply.headers["retry-after-ms"]) == ("1", "500")
        assert reply.headers["x-should-retry"] == "true"


def test_a_stream_that_has_begun_with_pings_ends_with_an_error_event(monkeypatch: pytest.MonkeyPatch) -> None:
    config = ServeConfig(edge=EdgeLimits(ping_s=0.02))
    with running_server(config=config) as server, Connection(server.port) as connection:
        seen = answering(server, monkeypatch, lambda spec: [])
        connection.request("POST", CHAT, chat(stream=True))
        assert connection.read_head()[0] == 200
        events = connection.events()
        assert next(events) == ": ping"
        server.node.streams.deliver(shed(seen[0]))
        *_, last = events
        assert json.loads(last)["error"]["code"] == "overloaded"


def test_the_official_client_tries_a_refused_request_again_when_told_when(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([overloaded(0.01), overloaded(0.01), demoted])
    with running_server() as server, official(server) as client:
        seen = answering(server, monkeypatch, lambda spec: next(answers)(spec))
        reply = client.chat.completions.create(model=MODEL, messages=HELLO, service_tier="auto")
        assert reply.service_tier == "flex"
        assert len(seen) == 3


def test_case_18_the_official_client_does_not_try_again_what_cannot_be_on_time(monkeypatch: pytest.MonkeyPatch) -> None:
    with running_server() as server, official(server) as client:
        seen = answering(server, monkeypatch, overloaded(None))
        with pytest.raises(openai.RateLimitError) as refused:
            client.chat.completions.create(model=MODEL, messages=HELLO)
        assert refused.value.code == "overloaded"
        assert refused.value.response.headers["x-should-retry"] == "false"
        assert "retry-after" not in refused.value.response.headers
        assert len(seen) == 1


def test_case_08_what_is_impossible_even_on_an_idle_machine_is_400(monkeypatch: pytest.MonkeyPatch) -> None:
    def impossible(spec: RequestSpec) -> Rejected:
        return Rejected(spec.request_id, RejectReason.IMPOSSIBLE, "too long for its promise", retry_after_s=3.0)

    with running_server() as server, official(server) as client:
        answering(server, monkeypatch, impossible)
        with pytest.raises(openai.BadRequestError) as refused:
            client.chat.completions.create(model=MODEL, messages=HELLO)
        assert refused.value.code == "objective_impossible"
        assert refused.value.response.headers["x-should-retry"] == "false"


def official(server: RunningServer) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"http://127.0.0.1:{server.port}/v1", api_key="none", timeout=20, max_retries=5)


def test_outcomes_are_counted_in_the_class_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    answers: Iterator[Answer] = iter([overloaded(None), shed, demoted, lambda spec: demoted(spec)[1:]])
    config = ServeConfig(classes=read_classes({"patient": {"ttft_ms": 1e7}}))
    with running_server(config=config) as server:
        answering(server, monkeypatch, lambda spec: next(answers)(spec))
        for _ in range(4):
            fetch(server.port, "POST", CHAT, chat(service_tier="patient"))
        fetch(server.port, "POST", CHAT, b"{")
        server.wait_idle()
        classes = fetch(server.port, "GET", "/status").json()["classes"]
        metrics = fetch(server.port, "GET", "/metrics").body.decode()
    assert {name: n for name, n in classes["patient"]["requests"].items() if n} == {
        "in_slo": 1,
        "demoted": 1,
        "shed": 2,
    }
    assert classes["patient"]["attainment"] == {"share": 0.25, "n": 4}
    assert classes["interactive"]["attainment"] == {"share": None, "n": 0}
    assert 'headway_slo_requests_total{outcome="shed",service_class="patient"} 2.0' in metrics
    assert 'headway_slo_target_seconds{metric="ttft",service_class="patient"} 10000.0' in metrics
    assert 'headway_time_to_first_token_seconds_bucket{le="10000.0",service_class="batch"}' in metrics


def test_what_is_denied_is_told_by_class_and_reason() -> None:
    caps = SchedulerConfig(max_running=1, max_queued_requests=1)
    executor = ScriptedExecutor()
    executor.hold()
    with running_server(executor, ServeConfig(scheduler=caps)) as server:
        with Connection(server.port) as first, Connection(server.port) as second:
            first.request("POST", CHAT, chat())
            assert executor.in_step.wait(WAIT_S)
            second.request("POST", CHAT, chat())
            server.wait_until(lambda: server.stats().waiting == 1)
            assert fetch(server.port, "POST", CHAT, chat(service_tier="priority")).error["code"] == "queue_full"
            executor.free()
            assert first.read_response().status == second.read_response().status == 200
        classes = fetch(server.port, "GET", "/status").json()["classes"]
        metrics = fetch(server.port, "GET", "/metrics").body.decode()
    assert classes["conversational"]["denied"] == {"refused": {"queue_full": 1}, "shed": {}, "demoted": {}}
    assert classes["interactive"]["denied"] == {"refused": {}, "shed": {}, "demoted": {}}
    counted = 'headway_denied_choices_total{fate="refused",reason="queue_full",service_class="conversational"} 1.0'
    assert counted in metrics
