"""One line about a busy server, for the terminal."""

from __future__ import annotations

from headway.policy.stats import Stats
from headway.serve.histogram import quantile
from headway.serve.telemetry import Telemetry


class StatusLine:
    """Makes a line about the time since the last one; None while nothing happens, so that a quiet server is quiet."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry
        self._tokens = 0
        self._refused = 0

    def next(self, stats: Stats, elapsed_s: float) -> str | None:
        telemetry = self._telemetry
        tokens, self._tokens = telemetry.tokens_out - self._tokens, telemetry.tokens_out
        total_refused = sum(stats.rejected.values())
        refused, self._refused = total_refused - self._refused, total_refused
        first_token = quantile(telemetry.first_token.take_recent(), 0.95)
        gap = quantile(telemetry.token_gap.take_recent(), 0.95)
        if not (stats.running or stats.waiting or tokens or refused):
            return None
        parts = [
            f"{stats.running} running {stats.waiting} waiting",
            f"{tokens / elapsed_s:.0f} tok/s",
            f"KV {100 * stats.kv_blocks_used / max(1, stats.kv_blocks_total):.0f} %",
            f"p95 TTFT {_ms(first_token)} ITL {_ms(gap)}",
        ]
        if refused:
            parts.append(f"{refused} refused")
        return " | ".join(parts)


def _ms(seconds: float | None) -> str:
    return "-" if seconds is None else f"{1000 * seconds:.0f} ms"
