"""The Prometheus view of a server: ``headway_*``, and the same numbers by the names that vLLM's dashboards read."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import Collector, CollectorRegistry

from headway import __version__
from headway.policy.events import FinishReason
from headway.policy.stats import Stats
from headway.serve.histogram import Histogram
from headway.serve.service import Service

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
    responses: dict[tuple[str, ...], int] = {
        (route, str(status)): count for (route, status), count in list(telemetry.responses.items())
    }
    outcomes: dict[tuple[str, ...], int] = {(*key,): count for key, count in list(telemetry.outcomes.items())}
    yield _build_info(service)
    yield _gauge("headway_ready", "1 if the server is ready", float(service.not_ready() is None))
    yield _labelled("headway_http_responses", "Replies by route and status", ("route", "status"), responses)
    yield _labelled("headway_requests", "Generation requests by outcome", ("route", "outcome"), outcomes)
    yield from _latencies(service)
    yield _gauge("headway_event_loop_lag_max_seconds", "The worst event-loop stall so far", telemetry.loop_lag_max_s)
    yield _counter("headway_worker_restarts", "Times the engine was lost and started again", service.driver.restarts)
    stats = service.driver.stats()
    if stats is not None:
        yield from _policy(stats)
        yield from _compatible(service, stats)


def _latencies(service: Service) -> Iterator[Metric]:
    telemetry = service.telemetry
    for name, text, histogram in (
        ("time_to_first_token", "From the last byte of a request to its first token", telemetry.first_token),
        ("inter_token_latency", "Gaps between the tokens of one stream", telemetry.token_gap),
        ("time_per_output_token", "Mean gap of a finished choice", telemetry.token_mean),
        ("request_duration", "From the last byte of a request to the end of its reply", telemetry.end_to_end),
        ("request_queue_time", "From submission to the first step", telemetry.queue),
        ("event_loop_lag", "How late the event loop ran a timer", telemetry.loop_lag),
    ):
        yield _histogram(f"headway_{name}_seconds", text, histogram)


def _policy(stats: Stats) -> Iterator[Metric]:
    for name, text, value in (
        ("requests_running", "Requests that hold KV cache", stats.running),
        ("requests_waiting", "Requests in the queue", stats.waiting),
        ("waiting_tokens", "Prompt tokens in the queue", stats.waiting_tokens),
        ("kv_blocks_total", "KV cache blocks", stats.kv_blocks_total),
        ("kv_blocks_used", "KV cache blocks held by requests", stats.kv_blocks_used),
        ("kv_blocks_cached", "KV cache blocks kept for prefixes", stats.kv_blocks_cached),
        ("kv_usage_ratio", "Share of KV cache blocks held by requests", _kv_usage(stats)),
    ):
        yield _gauge(f"headway_{name}", text, value)
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
        yield _counter(f"headway_{name}", text, value)
    finished: dict[tuple[str, ...], int] = {(reason.value,): count for reason, count in stats.finished.items()}
    yield _labelled("headway_finished", "Choices by finish reason", ("reason",), finished)
    rejected: dict[tuple[str, ...], int] = {(reason.value,): count for reason, count in stats.rejected.items()}
    yield _labelled("headway_rejected", "Choices refused by the policy", ("reason",), rejected)


def _compatible(service: Service, stats: Stats) -> Iterator[Metric]:
    """The names of vLLM's metrics, with its labels, for dashboards and autoscalers made for it."""
    labels = {"model_name": service.card.name, "engine": "0"}
    telemetry = service.telemetry
    for name, text, value in (
        ("num_requests_running", "Requests that hold KV cache", stats.running),
        ("num_requests_waiting", "Requests in the queue", stats.waiting),
        ("kv_cache_usage_perc", "Share of KV cache in use; 1 is all", _kv_usage(stats)),
    ):
        yield _gauge(f"vllm:{name}", text, value, labels)
    for name, text, value in (
        ("prompt_tokens", "Prompt tokens", stats.prompt_tokens),
        ("generation_tokens", "Tokens generated", stats.output_tokens),
        ("num_preemptions", "Preemptions", stats.preemptions),
        ("prefix_cache_queries", "Tokens looked up in the prefix cache", stats.prompt_tokens),
        ("prefix_cache_hits", "Tokens found in the prefix cache", stats.cached_tokens),
    ):
        yield _counter(f"vllm:{name}", text, value, labels)
    for name, text, histogram in (
        ("time_to_first_token_seconds", "Time to first token", telemetry.first_token),
        ("inter_token_latency_seconds", "Gaps between tokens", telemetry.token_gap),
        ("request_time_per_output_token_seconds", "Mean gap of a request", telemetry.token_mean),
        ("e2e_request_latency_seconds", "End to end", telemetry.end_to_end),
        ("request_queue_time_seconds", "Time in the queue", telemetry.queue),
    ):
        yield _histogram(f"vllm:{name}", text, histogram, labels)
    names = (*labels, "finished_reason")
    success: dict[tuple[str, ...], int] = {
        (*labels.values(), reason.value): stats.finished[reason] for reason in (FinishReason.STOP, FinishReason.LENGTH)
    }
    yield _labelled("vllm:request_success", "Finished requests", names, success)


def _kv_usage(stats: Stats) -> float:
    return stats.kv_blocks_used / stats.kv_blocks_total if stats.kv_blocks_total else 0.0


def _build_info(service: Service) -> Metric:
    labels = {"version": __version__, "python": platform.python_version(), "model": service.card.name}
    return _gauge("headway_build_info", "What runs here", 1.0, labels)


def _gauge(name: str, text: str, value: float, labels: dict[str, str] | None = None) -> Metric:
    labels = labels or {}
    family = GaugeMetricFamily(name, text, labels=list(labels))
    family.add_metric(list(labels.values()), value)
    return family


def _counter(name: str, text: str, value: float, labels: dict[str, str] | None = None) -> Metric:
    labels = labels or {}
    family = CounterMetricFamily(name, text, labels=list(labels))
    family.add_metric(list(labels.values()), value)
    return family


def _labelled(name: str, text: str, labels: tuple[str, ...], values: Mapping[tuple[str, ...], int]) -> Metric:
    family = CounterMetricFamily(name, text, labels=list(labels))
    for key, value in list(values.items()):
        family.add_metric(list(key), value)
    return family


def _histogram(name: str, text: str, histogram: Histogram, labels: dict[str, str] | None = None) -> Metric:
    labels = labels or {}
    family = HistogramMetricFamily(name, text, labels=list(labels))
    family.add_metric(list(labels.values()), histogram.cumulative(), histogram.total)
    return family
