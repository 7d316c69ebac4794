"""The charts of one level over its time: latency against targets, what came and went, the server's own numbers, how
well the client did, and single requests around the worst moment."""

from __future__ import annotations

import math
import statistics
from bisect import bisect_right
from collections.abc import Sequence

from headway.bench.figures import Level, Second
from headway.bench.judge import GOOD, Judge
from headway.bench.record import Record
from headway.bench.report.charts import counted, judge_of, rounded
from headway.bench.report.sections import COLORS, Axis, Chart, Color, Mark, RasterRow, Series
from headway.bench.report.standing import targets
from headway.bench.report.wording import MISS_WORDS, PART_WORDS, classes_held, duration

STALLS_A_ROW = 8
STALL_FACTOR = 4.0
"""A gap is drawn as a stall from so many times the level's median gap, and from the ITL target where there is one."""
NAME_CHARACTERS_MAX = 80
LEAST_SLIP_S = 1e-5
"""Less is drawn as this: the axis is logarithmic."""

_SERVER_CHARTS: tuple[tuple[str, Axis, tuple[tuple[str, str, Color], ...]], ...] = (
    ("Batch and queue", Axis(label="requests"), (("running", "running (batch)", "a"), ("waiting", "waiting", "b"))),
    (
        "KV memory in use",
        Axis(label="share in use", unit="share", most=1.0),
        (("kv_usage", "KV memory in use", "d"),),
    ),
    (
        "Prompt and output tokens",
        Axis(label="tokens a second"),
        (("prompt_rate", "prompt", "e"), ("generation_rate", "output", "c")),
    ),
    (
        "Refused and preempted",
        Axis(label="since the start"),
        (("shed", "refused", "undecided"), ("preemptions", "preempted", "missed")),
    ),
)
_ONLY_IF_ANY = ("Refused and preempted",)


def level_charts(level: Level, records: Sequence[Record], *, points: int, rows: int) -> list[Chart]:
    """At most so many ``points`` in time and ``rows`` of requests. Those there is nothing for are left out."""
    seconds = merged(level.timeline, points)
    charts: list[Chart] = []
    if seconds:
        dimmed = _outside(level, seconds)
        x_values = [rounded(each.at_s + each.step_s / 2.0) or 0.0 for each in seconds]
        charts += [_latency(level, seconds, x_values, dimmed, part) for part in ("ttft", "itl")]
        charts = [each for each in charts if any(value is not None for value in each.series[0].values)]
        charts.append(_requests(seconds, x_values, dimmed))
        charts.append(_tokens(seconds, x_values, dimmed))
        charts += _server(level, points, dimmed)
        charts += _client(level, records, seconds, dimmed, is_wide=len(charts) % 2 == 0)
    raster = request_raster(level, records, rows=rows)
    return charts if raster is None else [*charts, raster]


def merged(timeline: Sequence[Second], points: int) -> list[Second]:
    """At most ``points``: counts are added, p95s and what is in flight are the largest of those merged."""
    group = max(1, math.ceil(len(timeline) / points))
    if group == 1:
        return list(timeline)
    return [_sum(timeline[at : at + group]) for at in range(0, len(timeline), group)]


def _sum(parts: Sequence[Second]) -> Second:
    return Second(
        at_s=parts[0].at_s,
        step_s=sum(each.step_s for each in parts),
        sent=sum(each.sent for each in parts),
        ended=sum(each.ended for each in parts),
        good=sum(each.good for each in parts),
        refused=sum(each.refused for each in parts),
        failed=sum(each.failed for each in parts),
        tokens=sum(each.tokens for each in parts),
        in_flight=max(each.in_flight for each in parts),
        ttft_p95_s=max((each.ttft_p95_s for each in parts if each.ttft_p95_s is not None), default=None),
        itl_p95_s=max((each.itl_p95_s for each in parts if each.itl_p95_s is not None), default=None),
    )


def _outside(level: Level, seconds: Sequence[Second]) -> list[tuple[float, float]]:
    start_s, end_s = level.window_s
    last_s = seconds[-1].at_s + seconds[-1].step_s
    if end_s <= start_s:
        return []
    return [each for each in ((seconds[0].at_s, start_s), (end_s, last_s)) if each[1] > each[0]]


TIME = Axis(label="time", unit="s")


def _latency(
    level: Level, seconds: Sequence[Second], x_values: list[float], dimmed: list[tuple[float, float]], part: str
) -> Chart:
    aims = {held.name: target for held in classes_held(level) if (target := targets(held).get(part)) is not None}
    values = [each.ttft_p95_s if part == "ttft" else each.itl_p95_s for each in seconds]
    return Chart(
        title=f"p95 {PART_WORDS[part]}",
        x=TIME,
        y=Axis(label=f"p95 {PART_WORDS[part]}", unit="s", log=True),
        x_values=x_values,
        series=[Series(label=f"p95 {PART_WORDS[part]}", values=[rounded(each) for each in values], color="a")],
        marks=[
            Mark(axis="y", value=target_s, label=f"{name or 'target'} {duration(target_s)}")
            for name, target_s in aims.items()
        ],
        note=f"Of what came in each {duration(seconds[0].step_s)}.",
        sync="time",
        pass_below=next(iter(aims.values())) if len(aims) == 1 else None,
        dimmed=dimmed,
        height=190,
    )


def _requests(seconds: Sequence[Second], x_values: list[float], dimmed: list[tuple[float, float]]) -> Chart:
    series = [Series(label="in flight", values=[float(each.in_flight) for each in seconds], color="a", style="steps")]
    refused: list[float | None] = [each.refused / each.step_s for each in seconds]
    failed: list[float | None] = [each.failed / each.step_s for each in seconds]
    if any(refused):
        series.append(Series(label="refused a second", values=refused, color="undecided", style="steps"))
    if any(failed):
        series.append(Series(label="failed a second", values=failed, color="missed", style="steps"))
    return Chart(
        title="Requests in flight",
        x=TIME,
        y=Axis(label="requests"),
        x_values=x_values,
        series=series,
        sync="time",
        dimmed=dimmed,
        height=190,
    )


def _tokens(seconds: Sequence[Second], x_values: list[float], dimmed: list[tuple[float, float]]) -> Chart:
    rates: list[float | None] = [rounded(each.tokens / each.step_s) for each in seconds]
    return Chart(
        title="Throughput",
        x=TIME,
        y=Axis(label="output tokens a second"),
        x_values=x_values,
        series=[Series(label="output tokens a second", values=rates, color="c", style="steps")],
        sync="time",
        dimmed=dimmed,
        height=190,
    )


def _server(level: Level, points: int, dimmed: list[tuple[float, float]]) -> list[Chart]:
    """What the server said of itself, in as many charts as it has kinds of numbers for."""
    scraped = level.scraped
    if scraped is None or not scraped.at_s:
        return []
    step = max(1, math.ceil(len(scraped.at_s) / points))
    charts = []
    for title, y, lines in _SERVER_CHARTS:
        series = [
            Series(
                label=label, values=[rounded(each) for each in scraped.series[name][::step]], color=color, style="steps"
            )
            for name, label, color in lines
            if any(each is not None for each in scraped.series.get(name, ()))
        ]
        if not series or (title in _ONLY_IF_ANY and not any(any(each.values) for each in series)):
            continue
        charts.append(
            Chart(
                title=f"{title} ({scraped.engine}'s own numbers)",
                x=TIME,
                y=y,
                x_values=[rounded(each) or 0.0 for each in scraped.at_s[::step]],
                series=series,
                sync="time",
                dimmed=dimmed,
                height=190,
            )
        )
    return charts


def _client(
    level: Level,
    records: Sequence[Record],
    seconds: Sequence[Second],
    dimmed: list[tuple[float, float]],
    *,
    is_wide: bool,
) -> list[Chart]:
    """How late requests were sent: what the client itself added."""
    edges = [each.at_s for each in seconds]
    worst: list[float | None] = [None] * len(seconds)
    for record in records:
        at = max(0, bisect_right(edges, record.intended_s) - 1)
        if record.sent_s is not None:
            worst[at] = max(worst[at] or LEAST_SLIP_S, record.slip_s)
    if not any(worst):
        return []
    return [
        Chart(
            title="Client: how late requests were sent",
            x=TIME,
            y=Axis(label="largest slip", unit="s", log=True),
            x_values=[rounded(each.at_s + each.step_s / 2.0) or 0.0 for each in seconds],
            series=[Series(label="largest slip", values=[rounded(each) for each in worst], color="e", style="steps")],
            note="Small against the latencies above, or the client measures itself.",
            sync="time",
            dimmed=dimmed,
            height=190,
            is_wide=is_wide,
        )
    ]


def request_raster(level: Level, records: Sequence[Record], *, rows: int) -> Chart | None:
    """``rows`` requests in the order in which they were to be sent, around the one that waited longest for its first
    token: what stood in whose way is seen only between neighbours."""
    ordered = sorted(counted(level, records) or records, key=lambda each: each.intended_s)
    if not ordered:
        return None
    worst = max(range(len(ordered)), key=lambda at: ordered[at].ttft_s or 0.0)
    start = max(0, min(worst - rows // 2, len(ordered) - rows))
    shown = ordered[start : start + rows]
    judge = judge_of(level)
    itl = next((each.latencies["itl"] for each in level.classes if "itl" in each.latencies), None)
    gaps = [gap_s for each in shown for gap_s in each.chunk_gaps_s()]
    median_s = itl.p50 if itl is not None else statistics.median(gaps) if gaps else 0.0
    raster = [_raster_row(record, judge, median_s) for record in shown]
    some = (
        f"{len(shown)} of {len(ordered)} requests, around the one that waited longest"
        if start or len(shown) < len(ordered)
        else f"all {len(shown)} requests"
    )
    return Chart(
        title="Single requests",
        x=TIME,
        y=Axis(label="request", unit="count"),
        x_values=[min(row.intended_s for row in raster), max(row.end_s for row in raster)],
        note=f"A row for each request, first at the top: {some}.",
        height=min(520, 90 + 4 * len(raster)) if len(raster) > 30 else 80 + 9 * len(raster),
        is_wide=True,
        rows=raster,
    )


def _raster_row(record: Record, judge: Judge, median_s: float) -> RasterRow:
    stall_s = max(STALL_FACTOR * median_s, judge.objective(record.service_class).itl_s or 0.0)
    gaps = sorted(
        ((gap_s, at_s) for gap_s, at_s in zip(record.chunk_gaps_s(), record.chunk_s, strict=False) if gap_s > stall_s),
        reverse=True,
    )[:STALLS_A_ROW]
    sent_s = record.intended_s if record.sent_s is None else record.sent_s
    name = f"{record.index}" + (f" ({record.service_class})" if record.service_class else "")
    return RasterRow(
        name=name[:NAME_CHARACTERS_MAX],
        intended_s=round(record.intended_s, 4),
        sent_s=round(sent_s, 4),
        begun_s=None if record.queue_s is None else round(sent_s + record.queue_s, 4),
        first_s=round(record.chunk_s[0], 4) if record.chunk_s else None,
        end_s=round(record.chunk_s[-1] if record.is_ok and record.chunk_s else record.ended_s, 4),
        stalls=[
            round(each, 4) for gap_s, at_s in sorted(gaps, key=lambda gap: gap[1]) for each in (at_s, at_s + gap_s)
        ],
        miss=_miss(judge(record)),
    )


def _miss(found: str | None) -> str:
    if found is None:
        return MISS_WORDS["cut"]
    return "" if found == GOOD else MISS_WORDS.get(found, found)


PARTS_OF_TIME: tuple[tuple[str, Color], ...] = (
    ("late send", COLORS[4]),
    ("queue", COLORS[1]),
    ("first token", COLORS[3]),
    ("decode", COLORS[0]),
)


def split_of(records: Sequence[Record], low: float, high: float) -> list[float] | None:
    """Mean seconds by ``PARTS_OF_TIME`` of the whole requests whose E2E is between two quantiles, so that the parts add
    up. Where the server does not tell the queue, it is part of the first token."""
    whole = sorted((each for each in records if each.is_ok and each.chunk_s), key=lambda each: each.e2e_s or 0.0)
    if not whole:
        return None
    chosen = whole[int(low * (len(whole) - 1)) : math.ceil(high * (len(whole) - 1)) + 1]
    parts = [0.0] * len(PARTS_OF_TIME)
    for record in chosen:
        sent_s = record.intended_s if record.sent_s is None else record.sent_s
        queue_s = min(record.queue_s or 0.0, max(0.0, record.chunk_s[0] - sent_s))
        parts[0] += max(0.0, sent_s - record.intended_s)
        parts[1] += queue_s
        parts[2] += max(0.0, record.chunk_s[0] - sent_s - queue_s)
        parts[3] += record.chunk_s[-1] - record.chunk_s[0]
    return [part / len(chosen) for part in parts]
