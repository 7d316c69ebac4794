"""The state of a server as one JSON object, for people and scripts: ``GET /status``. Its keys are in docs/api.md."""

from __future__ import annotations

from typing import Any

from headway.policy.ledger import ClassCounters, Denial
from headway.policy.objectives import PARTS, parts_ms
from headway.policy.stats import Stats
from headway.serve.attainment import SloOutcome
from headway.serve.service import Service
from headway.serve.telemetry import ClassTelemetry


def state(service: Service) -> dict[str, Any]:
    """Waits for the policy, so not for the event loop."""
    now = service.clock()
    result: dict[str, Any] = {
        "model": service.card.name,
        "state": service.driver.state.value,
        "ready": service.not_ready() is None,
        "classes": {
            name: {
                "service_tier": service.classes.tier_of(name),
                "target_ms": parts_ms(service.classes[name].objective),
                **_measured(telemetry, now),
            }
            for name, telemetry in service.telemetry.classes.items()
        },
        "output_tokens_per_s": service.telemetry.output_rate.per_s(now),
    }
    stats = service.driver.stats()
    if stats is None:
        return result
    for name, counters in stats.classes.items():
        if name in result["classes"]:
            result["classes"][name]["denied"] = _denied(counters)
    return result | _policy(stats)


def kv_usage(stats: Stats) -> float:
    """Share of the cache that requests hold."""
    return stats.kv_blocks_used / stats.kv_blocks_total if stats.kv_blocks_total else 0.0


def _measured(telemetry: ClassTelemetry, now: float) -> dict[str, Any]:
    """The last minute's latencies and attainment, and all outcomes since the start."""
    latencies = {}
    for part in PARTS:
        value, count = telemetry.latencies[part].p95(now)
        latencies[part] = {"p95": None if value is None else round(1000 * value, 3), "n": count}
    share, count = telemetry.attainment(now)
    return {
        "measured_ms": latencies,
        "attainment": {"share": share, "n": count},
        "goodput_per_s": round(telemetry.goodput(now), 3),
        "requests": {outcome.value: telemetry.outcomes[outcome] for outcome in SloOutcome},
    }


def _denied(counters: ClassCounters) -> dict[str, dict[str, int]]:
    """Choices that were not served as asked, by what became of them and the reason."""
    denied: dict[str, dict[str, int]] = {each.value: {} for each in Denial}
    for (denial, reason), count in sorted(counters.denied.items()):
        denied[denial.value][reason] = count
    return denied


def _policy(stats: Stats) -> dict[str, Any]:
    return {
        "running": stats.running,
        "waiting": stats.waiting,
        "kv_usage": kv_usage(stats),
        "step": {"tokens": stats.step_tokens, "sequences": stats.step_sequences},
        "policy": dict(stats.policy),
        "refused": {reason.value: count for reason, count in stats.rejected.items() if count},
    }
