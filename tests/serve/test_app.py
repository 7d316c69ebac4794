"""What holds for every request: request ids, error bodies, models, metrics, cross-origin rules."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families

from headway.policy.scheduler import SchedulerConfig
from headway.serve.lifecycle import ServeConfig
from tests.fakes import ScriptedExecutor
from tests.http_client import CHAT, COMPLETIONS, Connection, chat, completion, fetch
from tests.running_server import MODEL, RunningServer, running_server

ORIGIN = "https://app.example"


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with running_server(config=ServeConfig(cors_origins=(ORIGIN,))) as server:
        yield server


def test_models(server: RunningServer) -> None:
    card = fetch(server.port, "GET", "/v1/models").json()
    assert card["object"] == "list"
    [model] = card["data"]
    assert model == {
        "id": MODEL,
        "object": "model",
        "created": 1,
        "owned_by": "headway",
        "root": MODEL,
        "max_model_len": 2048,
        "description": "a fake",
    }
    assert fetch(server.port, "GET", f"/v1/models/{MODEL}").json() == model
    assert fetch(server.port, "GET", "/v1/models/other").error["code"] == "model_not_found"


def test_tokenize_and_back(server: RunningServer) -> None:
    reply = fetch(server.port, "POST", "/tokenize", {"prompt": "h\u20ac"}).json()
    assert reply == {"tokens": [104, 226, 130, 172], "count": 4, "max_model_len": 2048}
    assert fetch(server.port, "POST", "/detokenize", {"tokens": reply["tokens"]}).json() == {"prompt": "h\u20ac"}
    rendered = fetch(server.port, "POST", "/tokenize", {"messages": chat()["messages"], "model": MODEL}).json()
    assert rendered["count"] == len("user:hi\nassistant:")
    assert fetch(server.port, "POST", "/detokenize", {"tokens": [257]}).status == 400
    assert fetch(server.port, "POST", "/tokenize", {"prompt": "x", "model": "other"}).status == 404


@pytest.mark.parametrize("path", ["/health", "/health/live", "/health/ready", "/ping", "/version"])
def test_probes_answer(server: RunningServer, path: str) -> None:
    assert fetch(server.port, "GET", path).status == 200


def test_every_reply_has_a_request_id_and_a_date(server: RunningServer) -> None:
    ids = set()
    for method, path in (("GET", "/version"), ("GET", "/nothing"), ("POST", CHAT), ("GET", CHAT), ("BAD!", "/")):
        reply = fetch(server.port, method, path)
        ids.add(reply.headers["x-request-id"])
    assert len(ids) == 5
    assert "date" in fetch(server.port, "GET", "/version").headers
    assert "server" not in fetch(server.port, "GET", "/version").headers


def test_a_fault_of_ours_is_a_500_that_tells_nothing(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise RuntimeError("a secret of ours")

    monkeypatch.setattr(server.node.service.text, "encode", fail, raising=False)
    reply = fetch(server.port, "POST", COMPLETIONS, completion())
    assert reply.status == 500
    assert reply.error["code"] == "internal_error"
    assert b"secret" not in reply.body
    assert "a secret of ours" in caplog.text
    monkeypatch.undo()
    assert fetch(server.port, "POST", COMPLETIONS, completion()).status == 200


def test_a_full_queue_is_429_with_advice() -> None:
    executor = ScriptedExecutor()
    executor.hold()
    config = ServeConfig(scheduler=SchedulerConfig(max_running=1, max_queued_requests=1))
    with (
        running_server(executor, config) as server,
        Connection(server.port) as first,
        Connection(server.port) as second,
    ):
        first.request("POST", CHAT, chat())
        assert executor.in_step.wait(10)
        second.request("POST", CHAT, chat())
        server.wait_until(lambda: server.stats().waiting == 1)
        reply = fetch(server.port, "POST", CHAT, chat())
        assert reply.status == 429
        assert reply.error["type"] == "rate_limit_error"
        assert int(reply.headers["retry-after-ms"]) > 0
        assert fetch(server.port, "POST", COMPLETIONS, completion(["a", "b"])).status == 429
        executor.free()
        assert first.read_response().status == second.read_response().status == 200


def test_pages_of_an_allowed_origin_may_ask(server: RunningServer) -> None:
    asking = {"Origin": ORIGIN, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x-a, x-b"}
    reply = fetch(server.port, "OPTIONS", CHAT, headers=asking)
    assert reply.status == 204
    assert reply.headers["access-control-allow-origin"] == ORIGIN
    assert reply.headers["access-control-allow-headers"] == "x-a, x-b"
    plain = fetch(server.port, "GET", "/v1/models", headers={"Origin": ORIGIN})
    assert plain.headers["access-control-allow-origin"] == ORIGIN
    assert "Origin" in plain.headers["vary"]
    exposed = plain.headers["access-control-expose-headers"].split(", ")
    assert set(exposed) == {"x-request-id", "retry-after", "retry-after-ms", "x-should-retry"}, "all that clients read"


def test_pages_of_other_origins_may_not(server: RunningServer) -> None:
    asking = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    reply = fetch(server.port, "OPTIONS", CHAT, headers=asking)
    assert reply.status == 405
    assert "access-control-allow-origin" not in reply.headers


def test_cross_origin_is_off_unless_asked_for() -> None:
    with running_server() as server:
        reply = fetch(server.port, "GET", "/version", headers={"Origin": ORIGIN})
        assert not any(name.startswith("access-control") for name in reply.headers)


def test_metrics_tell_what_happened() -> None:
    with running_server() as server:
        assert fetch(server.port, "POST", CHAT, chat(max_tokens=5)).status == 200
        assert fetch(server.port, "POST", CHAT, b"{").status == 400
        server.wait_idle()
        reply = fetch(server.port, "GET", "/metrics")
        assert reply.headers["content-type"].startswith("text/plain")
        families = text_string_to_metric_families(reply.body.decode())
    samples = {
        (each.name, frozenset(each.labels.items())): each.value for family in families for each in family.samples
    }

    def value(name: str, **labels: str) -> float:
        return float(samples[name, frozenset(labels.items())])

    assert value("headway_requests_total", route=CHAT, outcome="length") == 1
    assert value("headway_requests_total", route=CHAT, outcome="invalid_json") == 1
    assert value("headway_http_responses_total", route=CHAT, status="400") == 1
    assert value("headway_output_tokens_total") == 5
    assert value("headway_time_to_first_token_seconds_count", service_class="interactive") == 1
    assert value("headway_inter_token_latency_seconds_count", service_class="interactive") == 4
    assert value("headway_inter_token_latency_seconds_count", service_class="batch") == 0
    assert value("headway_time_per_output_token_seconds_count") == 1
    assert value("headway_request_duration_seconds_count", service_class="interactive") == 1
    assert value("headway_request_queue_time_seconds_count") == 1
    assert value("headway_slo_requests_total", service_class="interactive", outcome="in_slo") == 1
    assert value("headway_policy_choices_total", service_class="interactive", fate="offered") == 1
    assert value("headway_ready") == 1
    labels = {"model_name": MODEL, "engine": "0"}
    assert value("vllm:num_requests_running", **labels) == 0
    assert value("vllm:num_requests_waiting", **labels) == 0
    assert value("vllm:kv_cache_usage_perc", **labels) == 0
    assert value("vllm:generation_tokens_total", **labels) == 5
    assert value("vllm:time_to_first_token_seconds_count", **labels) == 1
    assert value("vllm:request_success_total", finished_reason="length", **labels) == 1
