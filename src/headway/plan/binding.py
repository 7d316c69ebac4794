"""What keeps a replica from taking more, in one name and one line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice

from headway.plan.bounds import alone_s, fresh_tokens
from headway.plan.outcome import Binding, Figure, Forecast
from headway.plan.parts import LATENCY, resource
from headway.plan.records import PARTS_SAID, percent
from headway.policy.slo import Objective
from headway.sim.hardware import Hardware
from headway.sim.workload import Call


def binding(at: Forecast, promises: Mapping[str, Objective], late: float, target: float) -> Binding:
    """``at``: one replica at its capacity. ``late``: see ``alone_late``."""
    usage = at.usage
    promise, share = _closest(at, promises)
    name = resource(usage.parts, kv_peak=usage.kv_peak, busy=usage.busy)
    top = ", ".join(f"{part} {percent(value)}" for part, value in islice(usage.parts.items(), 2))
    if late > 0.5 * (1.0 - target):
        said = f"the longest prompts alone take longer than the promised TTFT, so that few others may; {top}"
        return Binding(resource=LATENCY, promise="ttft", said=said)
    near = f"; {PARTS_SAID[promise]} p95 is at {percent(share)} of its promise" if promise and share else ""
    full = f"KV cache {percent(usage.kv_peak)} full at most"
    return Binding(
        resource=name,
        promise=promise,
        said=f"{name}: a step of {usage.batch:.0f} requests goes to {top}; {full}{near}",
    )


def alone_late(calls: Sequence[Call], hardware: Hardware, request_s: float) -> float:
    """Share of the promised requests whose prompt takes longer than the promised TTFT on an idle machine."""
    promised = [pair for pair in zip(calls, fresh_tokens(calls), strict=True) if not pair[0].objective.is_empty]
    late = sum(
        call.objective.ttft_s is not None and alone_s(hardware, call, fresh, request_s)[0] > call.objective.ttft_s
        for call, fresh in promised
    )
    return late / max(1, len(promised))


def _closest(forecast: Forecast, promises: Mapping[str, Objective]) -> tuple[str | None, float]:
    """The part of a promise whose p95 is closest to it, and its share of it."""
    found: list[tuple[float, str]] = []
    for each in forecast.classes:
        objective = promises.get(each.service_class)
        if objective is None:
            continue
        for part, promised_s in (("ttft", objective.ttft_s), ("itl", objective.itl_s), ("e2e", objective.e2e_s)):
            figure: Figure | None = getattr(each, f"{part}_p95_s")
            if promised_s is not None and figure is not None:
                found.append((figure.value / promised_s, part))
    if not found:
        return None, 0.0
    share, part = max(found)
    return part, share
