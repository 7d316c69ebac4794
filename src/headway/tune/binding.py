"""Which resource gives out first beyond the operating point, by what was measured there and what the server says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from headway.bench.figures import ClassFigures, Level, Scraped
from headway.bench.report.wording import duration, number, share
from headway.tune.observation import FAILURES, MISSES

KV_FULL = 0.9
"""Share of the KV cache in use from which the next request may find no room."""
SLOTS_WAITING = 1.0
"""Requests that wait in the median while fewer run than are asked for: the server takes no more at once."""
SLOTS_SHARE = 0.9
STALLED = 2.0
"""p95 of the gaps over their median: more is not the step itself, but what some steps do besides."""


class Resource(StrEnum):
    PREFILL = "prefill"
    DECODE = "decode"
    KV_MEMORY = "KV memory"
    SLOTS = "slots"
    ADMISSION = "admission"
    CLIENT = "client"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Binding:
    resource: Resource
    why: str


def binding(level: Level, part: str | None, *, at_once: int | None = None) -> Binding:
    """Of a ``level`` beyond the point. ``part``: the target crossed; ``at_once``: requests of the closed loop."""
    if level.client.bound is not None:
        return Binding(Resource.CLIENT, level.client.bound)
    if not level.classes or not level.classes[0].offered:
        return Binding(Resource.UNKNOWN, "nothing was measured beyond the point")
    figures = level.classes[0]
    scraped = level.scraped or Scraped(engine="")
    for found in (_memory(scraped), _slots(scraped, at_once)):
        if found is not None:
            return found
    word = _broken(figures) if part in (None, MISSES) else (part or "").rpartition(" ")[2]
    return _by_part(word, figures)


def _memory(scraped: Scraped) -> Binding | None:
    preempted = _values(scraped, "preemptions")
    if len(preempted) > 1 and preempted[-1] > preempted[0]:
        return Binding(Resource.KV_MEMORY, f"{number(preempted[-1] - preempted[0])} requests were preempted for room")
    used = _values(scraped, "kv_usage")
    if used and _high(used) >= KV_FULL:
        return Binding(Resource.KV_MEMORY, f"{share(_high(used))} of the KV cache was in use")
    return None


def _slots(scraped: Scraped, at_once: int | None) -> Binding | None:
    waiting, running = _values(scraped, "waiting"), _values(scraped, "running")
    if at_once is None or not waiting or not running or _median(waiting) < SLOTS_WAITING:
        return None
    if _median(running) >= SLOTS_SHARE * at_once:
        return None
    return Binding(
        Resource.SLOTS,
        f"{number(_median(running))} requests ran while {number(_median(waiting))} waited: it takes no more at once",
    )


def _broken(figures: ClassFigures) -> str:
    """The most frequent cause of misses."""
    return max(figures.misses, key=lambda cause: figures.misses[cause], default="")


def _by_part(part: str, figures: ClassFigures) -> Binding:
    gaps = figures.latencies.get("itl") or figures.latencies.get("chunk_gap")
    if part == "ttft":
        first = figures.latencies.get("ttft")
        said = f": {duration(first.p95)} at p95" if first is not None else ""
        return Binding(Resource.PREFILL, f"first tokens come late{said}; prompts wait for the ones before them")
    if part == "itl" and gaps is not None:
        said = f"gaps are {duration(gaps.p50)} in the median and {duration(gaps.p95)} at p95"
        if gaps.p95 > STALLED * gaps.p50:
            return Binding(Resource.PREFILL, f"{said}: steps with prompts in them hold up the others")
        return Binding(Resource.DECODE, f"{said}: each step takes as long as its batch")
    if part == "e2e":
        first, whole = figures.latencies.get("ttft"), figures.latencies.get("e2e")
        if first is not None and whole is not None and first.mean > whole.mean / 2:
            return Binding(
                Resource.PREFILL, f"{share(first.mean / whole.mean)} of a request's time passes before its first token"
            )
        return Binding(Resource.DECODE, "most of a request's time passes between its tokens")
    if part in (FAILURES, "refused"):
        return Binding(Resource.ADMISSION, "the server refuses requests or fails them")
    return Binding(Resource.UNKNOWN, f"requests end as {part}" if part else "no target was crossed")


def _values(scraped: Scraped, name: str) -> list[float]:
    return [value for value in scraped.series.get(name, []) if value is not None]


def _median(values: Sequence[float]) -> float:
    return sorted(values)[len(values) // 2]


def _high(values: Sequence[float]) -> float:
    return sorted(values)[len(values) * 9 // 10]
