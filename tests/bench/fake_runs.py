"""Runs that nobody ran: a small queue model gives records as a server would, and the figures are taken from them.

For tests of what is shown and kept, and for looking at a report (``python -m tests.bench.fake_runs DIRECTORY``).
"""

from __future__ import annotations

import heapq
import math
import random
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from headway.bench.figures import ClassFigures, ClientHealth, Level, Quantiles, Run, Scraped, Second
from headway.bench.loads import ClosedLoop, Load, OpenLoop
from headway.bench.record import Outcome, Record
from headway.bench.report.html import page
from headway.policy.slo import NO_PROMISE, Objective

INTERACTIVE = Objective(ttft_s=0.5, itl_s=0.04)


@dataclass
class FakeServer:
    """``slots`` requests at once; a step takes ``step_s`` and a share more for each that runs."""

    slots: int = 16
    step_s: float = 0.012
    step_each_s: float = 0.0013
    prefill_s: float = 0.09
    failing: float = 0.0
    refusing: float = 0.0
    reports_queue: bool = True
    classes: Mapping[str, Objective] = field(default_factory=lambda: {"": INTERACTIVE})


def records_of(server: FakeServer, load: Load, rng: random.Random, slip_s: float = 0.0) -> list[Record]:
    """What the load generator would have kept of ``load`` against ``server``."""
    arrivals: list[float] = []
    if isinstance(load, OpenLoop):
        at_s = rng.expovariate(load.rate)
        while at_s < load.seconds:
            arrivals.append(at_s)
            at_s += rng.expovariate(load.rate)
    else:
        arrivals = [2.0 * number / load.concurrency for number in range(load.concurrency)]
    running: list[float] = []
    records: list[Record] = []
    waiting = list(arrivals)
    heapq.heapify(waiting)
    while waiting:
        intended_s = heapq.heappop(waiting)
        record = _reply(server, running, intended_s, len(records), rng, slip_s)
        if record.ended_s > load.seconds + 10.0:
            record = Record(
                index=record.index,
                intended_s=intended_s,
                ended_s=load.seconds + 10.0,
                outcome=Outcome.CUT,
                service_class=record.service_class,
            )
        records.append(record)
        if isinstance(load, ClosedLoop) and record.ended_s < load.seconds:
            heapq.heappush(waiting, record.ended_s + 1e-4)
    return records


def _reply(
    server: FakeServer, running: list[float], intended_s: float, index: int, rng: random.Random, slip_s: float
) -> Record:
    name = rng.choice(list(server.classes))
    sent_s = intended_s + rng.expovariate(1.0 / (slip_s + 2e-4))
    prompt, tokens = int(rng.lognormvariate(5.0, 0.7)) + 8, min(256, int(rng.lognormvariate(4.0, 0.6)) + 2)
    record = Record(
        index=index,
        service_class=name,
        intended_s=intended_s,
        sent_s=sent_s,
        ended_s=sent_s + 0.003,
        prompt_tokens=prompt,
        max_tokens=tokens,
    )
    while running and running[0] <= sent_s:
        heapq.heappop(running)
    chance = rng.random()
    if chance < server.refusing or (server.refusing and len(running) >= server.slots * 2):
        record.outcome, record.status, record.code, record.error = Outcome.REFUSED, 429, "overloaded", "overloaded"
        return record
    if chance > 1.0 - server.failing:
        kinds = (Outcome.BROKEN, Outcome.TIMEOUT, Outcome.ERROR, Outcome.CONNECT, Outcome.MALFORMED)
        record.outcome, record.ended_s = rng.choice(kinds), sent_s + rng.uniform(0.01, 2.0)
        record.error = f"{record.outcome}: <b>no</b>"
        return record
    begun_s = sent_s
    if len(running) >= server.slots:
        begun_s = max(sent_s, heapq.heappop(running))
    batch = min(server.slots, len(running) + 1)
    at_s = begun_s + server.prefill_s * (0.5 + prompt / 300.0) * rng.uniform(0.9, 1.3)
    record.queue_s = begun_s - sent_s if server.reports_queue else None
    record.chunk_s = [at_s]
    for _ in range(tokens - 1):
        at_s += (server.step_s + server.step_each_s * batch) * rng.uniform(0.85, 1.2)
        at_s += 0.15 if rng.random() < 0.002 * batch / 4 else 0.0
        record.chunk_s.append(at_s)
    heapq.heappush(running, at_s)
    record.chunk_tokens = [1] * tokens
    record.ended_s, record.usage_completion = at_s + 1e-3, tokens
    record.status, record.finish_reason = 200, "length"
    return record


def quantiles(values: Sequence[float], misses: int | None = None) -> Quantiles:
    ordered, n = sorted(values), len(values)

    def at(share: float) -> float:
        return ordered[max(0, math.ceil(share * n - 1e-9) - 1)]

    spread = 1.96 * math.sqrt(n * 0.05 * 0.95)
    low, high = math.floor(0.95 * n - spread), math.ceil(0.95 * n + spread)
    rank = math.ceil(0.95 * (n + (misses or 0)) - 1e-9)
    return Quantiles(
        n=n,
        mean=sum(ordered) / n,
        p50=at(0.5),
        p90=at(0.9),
        p95=at(0.95),
        p99=at(0.99),
        max=ordered[-1],
        p95_low=ordered[low - 1] if low >= 1 else None,
        p95_high=ordered[high - 1] if high <= n else None,
        p95_with_misses=ordered[rank - 1] if misses is not None and rank <= n else None,
    )


def wilson(k: int, n: int) -> tuple[float, float]:
    z, share = 1.96, k / n
    middle, half = share + z * z / (2 * n), z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return (middle - half) / (1 + z * z / n), (middle + half) / (1 + z * z / n)


def broken_part(record: Record, objective: Objective) -> str | None:
    if not record.is_ok:
        return str(record.outcome)
    gaps = list(record.gaps_s())
    ttft_s, e2e_s = record.ttft_s, record.e2e_s
    assert ttft_s is not None
    assert e2e_s is not None
    return objective.broken(ttft_s, objective.late_gaps_of(gaps), len(gaps), e2e_s)


def figures(
    name: str, records: Sequence[Record], objectives: Mapping[str, Objective], window_s: tuple[float, float]
) -> ClassFigures:
    """Of the ``records`` intended in the window."""
    seconds = window_s[1] - window_s[0]
    broken = [broken_part(each, objectives.get(each.service_class, NO_PROMISE)) for each in records]
    whole = [each for each in records if each.is_ok]
    misses: dict[str, int] = {}
    for part in broken:
        if part is not None:
            misses[part] = misses.get(part, 0) + 1
    good, lost = broken.count(None), len(records) - len(whole)
    objective = objectives.get(name, NO_PROMISE)
    low_high = wilson(good, len(records)) if records else (None, None)
    latencies: dict[str, Quantiles] = {}
    per_request = {
        "ttft": [each.ttft_s for each in whole if each.ttft_s is not None],
        "tpot": [each.tpot_s for each in whole if each.tpot_s is not None],
        "e2e": [each.e2e_s for each in whole if each.e2e_s is not None],
        "stall": [max(each.chunk_gaps_s()) for each in whole if len(each.chunk_s) > 1],
        "queue": [each.queue_s for each in whole if each.queue_s is not None],
    }
    for key, values in per_request.items():
        if values:
            latencies[key] = quantiles(values, lost)
    gaps = [gap_s for each in whole for gap_s in each.gaps_s()]
    if gaps:
        latencies["itl"] = latencies["chunk_gap"] = quantiles(gaps)
    return ClassFigures(
        name=name,
        ttft_target_s=objective.ttft_s,
        itl_target_s=objective.itl_s,
        e2e_target_s=objective.e2e_s,
        offered=len(records),
        ok=len(whole),
        good=good,
        misses=misses,
        attainment=good / len(records) if records else None,
        attainment_low=low_high[0],
        attainment_high=low_high[1],
        request_rate=len(records) / seconds,
        completed_rate=len(whole) / seconds,
        goodput=good / seconds,
        throughput=sum(each.tokens for each in whole) / seconds,
        prompt_tokens=sum(each.prompt_tokens for each in whole),
        output_tokens=sum(each.tokens for each in whole),
        latencies=latencies,
    )


def timeline(records: Sequence[Record], objectives: Mapping[str, Objective], seconds: float) -> list[Second]:
    points = [Second(at_s=float(at_s)) for at_s in range(math.ceil(seconds))]
    ttft: list[list[float]] = [[] for _ in points]
    gaps: list[list[float]] = [[] for _ in points]

    def index_of(at_s: float) -> int:
        return min(len(points) - 1, max(0, int(at_s)))

    for record in records:
        points[index_of(record.intended_s)].sent += 1
        end = points[index_of(record.ended_s)]
        end.ended += 1
        end.good += broken_part(record, objectives.get(record.service_class, NO_PROMISE)) is None
        end.refused += record.outcome is Outcome.REFUSED
        end.failed += record.outcome not in (Outcome.OK, Outcome.REFUSED, Outcome.CUT)
        for second in range(int(record.intended_s), min(len(points), int(record.ended_s) + 1)):
            points[second].in_flight += 1
        if record.ttft_s is not None:
            ttft[index_of(record.chunk_s[0])].append(record.ttft_s)
        for at_s, gap_s in zip(record.chunk_s[1:], record.chunk_gaps_s(), strict=True):
            points[index_of(at_s)].tokens += 1
            gaps[index_of(at_s)].append(gap_s)
    for point, of_ttft, of_gaps in zip(points, ttft, gaps, strict=True):
        point.ttft_p95_s = quantiles(of_ttft).p95 if of_ttft else None
        point.itl_p95_s = quantiles(of_gaps).p95 if of_gaps else None
    return points


def level_of(server: FakeServer, load: Load, seed: int, *, slip_s: float = 0.0) -> tuple[Level, list[Record]]:
    """One level as it would be measured, and its records."""
    records = records_of(server, load, random.Random(seed), slip_s)
    window_s = (min(5.0, load.seconds / 5.0), load.seconds)
    inside = [
        each for each in records if window_s[0] <= each.intended_s < window_s[1] and each.outcome is not Outcome.CUT
    ]
    classes = [figures("", inside, server.classes, window_s)]
    if len(server.classes) > 1:
        for name in server.classes:
            of_class = [each for each in inside if each.service_class == name]
            classes.append(figures(name, of_class, server.classes, window_s))
    slips = sorted(each.slip_s for each in records) or [0.0]
    points = timeline(records, server.classes, load.seconds)
    asked: dict[str, object] = {"kind": "open", "rate": load.rate} if isinstance(load, OpenLoop) else {}
    if isinstance(load, ClosedLoop):
        asked = {"kind": "closed", "concurrency": load.concurrency}
    level = Level(
        name=load.name,
        load={**asked, "seconds": load.seconds},
        seed=seed,
        elapsed_s=load.seconds + 1.5,
        window_s=window_s,
        classes=classes,
        timeline=points,
        client=ClientHealth(
            processes=2,
            slip_p50_s=slips[len(slips) // 2],
            slip_p99_s=slips[int(0.99 * (len(slips) - 1))],
            slip_max_s=slips[-1],
            lag_p99_s=0.0011,
            lag_max_s=0.0043,
            cpu_s=2.1,
            cpu_share=0.12,
            cpu_us_per_token=11.2,
        ),
        scraped=Scraped(
            engine="headway",
            at_s=[point.at_s for point in points],
            series={
                "running": [float(min(server.slots, point.in_flight)) for point in points],
                "waiting": [float(max(0, point.in_flight - server.slots)) for point in points],
                "kv_usage": [min(1.0, point.in_flight / (2.0 * server.slots)) for point in points],
            },
        ),
    )
    return level, records


Fake = tuple[Run, dict[int, list[Record]]]


def run_of(name: str, levels: Sequence[tuple[Level, list[Record]]]) -> Fake:
    run = Run(
        id=name,
        started_at="2026-11-24T15:30:00Z",
        command="headway bench http://127.0.0.1:8000 --rate 1,2,4,6,8 --ttft-ms 500 --itl-ms 40",
        target={
            "url": "http://127.0.0.1:8000/v1",
            "api": "chat",
            "model": "smollm2-135m",
            "engine": "headway",
            "version": "0.1.0",
        },
        workload={"name": "synthetic", "in": "lognormal(96, 0.8, 16, 256)", "out": "lognormal(54, 0.6, 2, 256)"},
        machine={"cpu": "2 cores", "memory_gib": 24},
        versions={"headway": "0.1.0", "python": "3.11.9"},
        levels=[level for level, _ in levels],
    )
    return run, {number: records for number, (_, records) in enumerate(levels)}


def fake_run(kind: str, *, seconds: float = 20.0) -> Fake:
    """One of ``KINDS``."""
    return run_of(kind, KINDS[kind](seconds))


Levels = list[tuple[Level, list[Record]]]


def _open(seconds: float) -> Levels:
    return [
        level_of(FakeServer(), OpenLoop(rate=rate, seconds=seconds), int(rate))
        for rate in (1.0, 2.0, 4.0, 6.0, 8.0, 10.0)
    ]


def _closed(seconds: float) -> Levels:
    return [
        level_of(FakeServer(reports_queue=False), ClosedLoop(concurrency=at_once, seconds=seconds), at_once)
        for at_once in (1, 2, 4, 6, 8, 12, 16, 24, 32)
    ]


def _failures(seconds: float) -> Levels:
    server = FakeServer(failing=0.12, refusing=0.05)
    levels = [level_of(server, OpenLoop(rate=rate, seconds=seconds), int(rate)) for rate in (3.0, 9.0)]
    levels[1][0].warnings.append("7 connections were refused by the machine, not by the server")
    return levels


def _client_bound(seconds: float) -> Levels:
    level, records = level_of(FakeServer(), OpenLoop(rate=5.0, seconds=seconds), 1, slip_s=0.15)
    level.client.bound = "requests were sent 690 ms late at p99; use more processes or a lower rate"
    level.client.cpu_share = 0.99
    return [(level, records)]


def _partial(seconds: float) -> Levels:
    first = level_of(FakeServer(), OpenLoop(rate=2.0, seconds=seconds), 1)
    level, records = level_of(FakeServer(), OpenLoop(rate=4.0, seconds=seconds / 3), 1)
    level.state, level.reason = "partial", "interrupted"
    level.scraped = None
    return [first, (level, records)]


def _single(seconds: float) -> Levels:
    return [level_of(FakeServer(), OpenLoop(rate=3.0, seconds=seconds), 1)]


def _none_good(seconds: float) -> Levels:
    return [level_of(FakeServer(failing=1.0), OpenLoop(rate=3.0, seconds=seconds), 1)]


def _batch(seconds: float) -> Levels:
    server = FakeServer(classes={"": NO_PROMISE}, reports_queue=False)
    return [level_of(server, ClosedLoop(concurrency=at_once, seconds=seconds), 1) for at_once in (8, 32)]


def _classes(seconds: float) -> Levels:
    server = FakeServer(
        classes={
            "interactive": INTERACTIVE,
            "conversational": Objective(ttft_s=2.0, itl_s=0.1),
            "batch": NO_PROMISE,
        }
    )
    return [level_of(server, OpenLoop(rate=rate, seconds=seconds), int(rate)) for rate in (2.0, 5.0, 8.0)]


def _empty(seconds: float) -> Levels:
    return []


def _no_requests(seconds: float) -> Levels:
    level = Level(name="4 requests/s, Poisson", state="partial", reason="the server went away", classes=[])
    return [(level, [])]


KINDS = {
    "open": _open,
    "closed": _closed,
    "failures": _failures,
    "client-bound": _client_bound,
    "partial": _partial,
    "single": _single,
    "none-good": _none_good,
    "batch": _batch,
    "classes": _classes,
    "empty": _empty,
    "no-requests": _no_requests,
}


def write_pages(directory: Path) -> None:
    """A page of each kind, to look at."""
    directory.mkdir(parents=True, exist_ok=True)
    for kind in KINDS:
        run, records = fake_run(kind, seconds=60.0)
        (directory / f"{kind}.html").write_text(page(run, records), encoding="utf-8")


if __name__ == "__main__":
    write_pages(Path(sys.argv[1]))
