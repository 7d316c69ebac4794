"""The Prometheus view of a server: ``headway_*``, and the same numbers by the names that vLLM's dashboards read."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import Collector, CollectorRegistry

from headway import __version__
from headway.policy.events import FinishReason
from headway.policy.ledger import Denial
from headway.policy.stats import Stats
from headway.serve.attainment import SloOutcome
from headway.serve.histogram import Histogram
from headway.serve.service import Service
from headway.serve.state import kv_usage

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4


def exposition(service: Service) -> bytes:
    """All metrics as text. Waits for the policy, so not for the event loop."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Snapshot(list(_families(service))))
    return generate_latest(registry)


class _Snapshot(Collector):
    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def _families(service: Service) -> Iterator[Metric]:
    telemetry = service.telemetry
    yield _gauge("headway_build_info", "What runs here", _build_info(service), _BUILD_LABELS)
    yield _gauge("headway_ready", "1 if the server is ready", {(): float(service.not_ready() is None)})
    responses = {(route, str(status)): count for (route, status), count in list(telemetry.responses.items())}
    yield _counter("headway_http_responses", "Replies by route and status", responses, ("route", "status"))
    outcomes = dict(list(telemetry.outcomes.items()))
    yield _counter("headway_requests", "Generation requests by outcome", outcomes, ("route", "outcome"))
    lag_s, restarts = telemetry.loop_lag_max_s, service.driver.restarts
    yield _gauge("headway_event_loop_lag_max_seconds", "The worst event-loop stall so far", {(): lag_s})
    yield _counter("headway_worker_restarts", "Times the engine was lost and started again", {(): restarts})
    for name, text, histogram in (
        ("time_per_output_token", "Mean gap of a finished choice", telemetry.token_mean),
        ("request_queue_time", "From submission to the first step", telemetry.queue),
        ("event_loop_lag", "How late the event loop ran a timer", telemetry.loop_lag),
    ):
        yield _histogram(f"headway_{name}_seconds", text, {(): histogram})
    yield from _promises(service)
    stats = service.driver.stats()
    if stats is not None:
        yield from _policy(stats)
        yield from _compatible(service, stats)


_CLASS = ("service_class",)
_LATENCIES = {
    "ttft": ("time_to_first_token", "From the last byte of a request to its first token"),
    "itl": ("inter_token_latency", "Gaps between the tokens of one stream"),
    "e2e": ("request_duration", "From the last byte of a request to the end of its reply"),
}


def _promises(service: Service) -> Iterator[Metric]:
    """What was measured against what was promised, by service class."""
    classes, now = service.telemetry.classes, service.clock()
    targets: dict[tuple[str, ...], float] = {}
    for part, (name, text) in _LATENCIES.items():
        histograms = {(key,): each.latencies[part].histogram for key, each in classes.items()}
        yield _histogram(f"headway_{name}_seconds", text, histograms, _CLASS)
        p95 = {(key,): each.latencies[part].p95(now)[0] for key, each in classes.items()}
        measured = {key: value for key, value in p95.items() if value is not None}
        yield _gauge(
            f"headway_{part}_p95_seconds",
            f"p95 of the last minute of headway_{name}_seconds, to half a percent",
            measured,
            _CLASS,
        )
        promised = {key: getattr(each.objective, f"{part}_s") for key, each in service.classes.items()}
        targets |= {(key, part): value for key, value in promised.items() if value is not None}
    yield _gauge("headway_slo_target_seconds", "What new requests are promised", targets, (*_CLASS, "metric"))
    kept = {(key, outcome.value): each.outcomes[outcome] for key, each in classes.items() for outcome in SloOutcome}
    yield _counter("headway_slo_requests", "Requests by the class asked for and outcome", kept, (*_CLASS, "outcome"))
    attainment = {(key,): each.attainment(now)[0] for key, each in classes.items()}
    known = {key: value for key, value in attainment.items() if value is not None}
    goodput = {(key,): each.goodput(now) for key, each in classes.items()}
    yield _gauge(
        "headway_goodput_requests_per_second", "Requests in SLO a second, over the last minute", goodput, _CLASS
    )
    yield _gauge("headway_slo_attainment_ratio", "Share of the last minute's requests in SLO", known, _CLASS)


_POLICY_TEXTS = {
    "step_time_s": "How long the last step was allowed to take",
    "prompt_tokens_per_s": "How fast prompts are worked off beside the decodes that run",
    "load": "Work offered lately over what can be done",
    "headroom": "Share of what can be done that nobody has asked for",
    "ttft_margin": "By what the predicted time to the first token is multiplied",
    "itl_margin": "By what the predicted time of a step is multiplied",
    "model_error": "Median relative error of the predicted time of a step",
    "model_coverage": "Share of steps within their predicted 95th percentile",
    "model_samples": "Steps that the step-time model has seen",
}
_FATES = ("offered", *Denial, "in_slo", "late_ttft", "late_itl", "late_e2e", "unfinished")


def _policy(stats: Stats) -> Iterator[Metric]:
    for name, text, value in (
        ("requests_running", "Requests that hold KV cache", stats.running),
        ("requests_waiting", "Requests in the queue", stats.waiting),
        ("waiting_tokens", "Prompt tokens in the queue", stats.waiting_tokens),
        ("kv_blocks_total", "KV cache blocks", stats.kv_blocks_total),
        ("kv_blocks_used", "KV cache blocks held by requests", stats.kv_blocks_used),
        ("kv_blocks_cached", "KV cache blocks kept for prefixes", stats.kv_blocks_cached),
        ("kv_usage_ratio", "Share of KV cache blocks held by requests", kv_usage(stats)),
        ("step_tokens", "Tokens of the last step", stats.step_tokens),
        ("step_sequences", "Requests in the last step: the batch size", stats.step_sequences),
        *((f"policy_{name}", _POLICY_TEXTS.get(name, name), value) for name, value in stats.policy.items()),
    ):
        yield _gauge(f"headway_{name}", text, {(): value})
    for name, text, value in (
        ("steps", "Steps of the engine", stats.steps),
        ("prompt_tokens", "Prompt tokens of scheduled requests", stats.prompt_tokens),
        ("cached_tokens", "Prompt tokens found in the prefix cache", stats.cached_tokens),
        ("output_tokens", "Tokens drawn", stats.output_tokens),
        ("preemptions", "Preemptions for want of KV cache", stats.preemptions),
        ("displaced_requests", "Requests put back because the engine was lost", stats.displaced),
        ("stale_results", "Step results that came too late", stats.stale_results),
        ("ignored_aborts", "Aborts of requests that were not there", stats.ignored_aborts),
    ):
        yield _counter(f"headway_{name}", text, {(): value})
    by_class = {(name, kind): getattr(each, kind) for name, each in stats.classes.items() for kind in _FATES}
    text = "What the policy did with choices that asked for a class"
    yield _counter("headway_policy_choices", text, by_class, (*_CLASS, "fate"))
    denied = {(name, *key): count for name, each in stats.classes.items() for key, count in each.denied.items()}
    text = "Choices that were not served as asked: refused at the door, shed later, or demoted"
    yield _counter("headway_denied_choices", text, denied, (*_CLASS, "fate", "reason"))
    finished = {(reason.value,): count for reason, count in stats.finished.items()}
    yield _counter("headway_finished", "Choices by finish reason", finished, ("reason",))
    rejected = {(reason.value,): count for reason, count in stats.rejected.items()}
    yield _counter("headway_rejected", "Choices refused by the policy", rejected, ("reason",))


def _compatible(service: Service, stats: Stats) -> Iterator[Metric]:
    """The names of vLLM's metrics, with its labels, for dashboards and autoscalers made for it."""
    labels, of_model = ("model_name", "engine"), (service.card.name, "0")
    telemetry = service.telemetry
    for name, text, value in (
        ("num_requests_running", "Requests that hold KV cache", stats.running),
        ("num_requests_waiting", "Requests in the queue", stats.waiting),
        ("kv_cache_usage_perc", "Share of KV cache in use; 1 is all", kv_usage(stats)),
    ):
        yield _gauge(f"vllm:{name}", text, {of_model: value}, labels)
    for name, text, value in (
        ("prompt_tokens", "Prompt tokens", stats.prompt_tokens),
        ("generation_tokens", "Tokens generated", stats.output_tokens),
        ("num_preemptions", "Preemptions", stats.preemptions),
        ("prefix_cache_queries", "Tokens looked up in the prefix cache", stats.prompt_tokens),
        ("prefix_cache_hits", "Tokens found in the prefix cache", stats.cached_tokens),
    ):
        yield _counter(f"vllm:{name}", text, {of_model: value}, labels)
    for name, text, histogram in (
        ("time_to_first_token_seconds", "Time to first token", telemetry.all_classes("ttft")),
        ("inter_token_latency_seconds", "Gaps between tokens", telemetry.all_classes("itl")),
        ("request_time_per_output_token_seconds", "Mean gap of a request", telemetry.token_mean),
        ("e2e_request_latency_seconds", "End to end", telemetry.all_classes("e2e")),
        ("request_queue_time_seconds", "Time in the queue", telemetry.queue),
    ):
        yield _histogram(f"vllm:{name}", text, {of_model: histogram}, labels)
    success = {(*of_model, reason.value): stats.finished[reason] for reason in (FinishReason.STOP, FinishReason.LENGTH)}
    yield _counter("vllm:request_success", "Finished requests", success, (*labels, "finished_reason"))


_BUILD_LABELS = ("version", "python", "model")


def _build_info(service: Service) -> dict[tuple[str, ...], float]:
    return {(__version__, platform.python_version(), service.card.name): 1.0}


# A family is its samples by their label values, in the order of ``labels``.


def _gauge(name: str, text: str, values: Mapping[Any, float], labels: Sequence[str] = ()) -> Metric:
    family = GaugeMetricFamily(name, text, labels=labels)
    for key, value in values.items():
        family.add_metric(key, value)
    return family


def _counter(name: str, text: str, values: Mapping[Any, float], labels: Sequence[str] = ()) -> Metric:
    family = CounterMetricFamily(name, text, labels=labels)
    for key, value in values.items():
        family.add_metric(key, value)
    return family


def _histogram(name: str, text: str, values: Mapping[Any, Histogram], labels: Sequence[str] = ()) -> Metric:
    family = HistogramMetricFamily(name, text, labels=labels)
    for key, histogram in values.items():
        family.add_metric(key, histogram.cumulative(), histogram.total)
    return family
