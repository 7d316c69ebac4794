"""One line about a busy server, for the terminal."""

from __future__ import annotations

from headway.policy.objectives import parts_ms
from headway.policy.slo import ServiceClass, ServiceClasses
from headway.policy.stats import Stats
from headway.serve.attainment import SloOutcome
from headway.serve.telemetry import ClassTelemetry, Telemetry


class StatusLine:
    """Makes a line about the last minute's latencies and what else happened since the last line; None while nothing
    happens, so that a quiet server is quiet.
    """

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry
        self._tokens = 0
        self._shed = 0
        self._demoted = 0

    def next(self, stats: Stats, classes: ServiceClasses, now: float, elapsed_s: float) -> str | None:
        telemetry = self._telemetry
        tokens, self._tokens = telemetry.tokens_out - self._tokens, telemetry.tokens_out
        shed, self._shed = self._count(SloOutcome.SHED) - self._shed, self._count(SloOutcome.SHED)
        demoted, self._demoted = self._count(SloOutcome.DEMOTED) - self._demoted, self._count(SloOutcome.DEMOTED)
        if not (stats.running or stats.waiting or tokens or shed):
            return None
        segments = [_segment(classes[name], each, now) for name, each in telemetry.classes.items()]
        parts = [
            *filter(None, segments),
            f"{stats.running} running {stats.waiting} waiting",
            f"{tokens / elapsed_s:.0f} tok/s",
            f"KV {100 * stats.kv_blocks_used / max(1, stats.kv_blocks_total):.0f} %",
            f"shed {shed}",
        ]
        if demoted:
            parts.append(f"demoted {demoted}")
        return " | ".join(parts)

    def _count(self, outcome: SloOutcome) -> int:
        return sum(each.outcomes[outcome] for each in self._telemetry.classes.values())


def _segment(service_class: ServiceClass, telemetry: ClassTelemetry, now: float) -> str | None:
    """One class: what was measured against what was promised; None without traffic."""
    shown = []
    for part, target in parts_ms(service_class.objective).items():
        value, _ = telemetry.latencies[part].p95(now)
        if value is not None and (target is not None or (service_class.is_batch and part != "e2e")):
            shown.append(f"{part.upper()} {1000 * value:.0f}{'' if target is None else f'/{target:g}'} ms")
    return f"{service_class.name} p95 {' '.join(shown)}" if shown else None
