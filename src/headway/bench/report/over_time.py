"""The charts of one level over its time: latency against targets, what came and went, the server's own numbers, how
well the client did, and single requests around the worst moment."""

from __future__ import annotations

import math
import statistics
from bisect import bisect_right
from collections.abc import Mapping, Sequence

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
        span = _Span(level)
        charts += [_latency(span, seconds, part) for part in ("ttft", "itl")]
        charts = [each for each in charts if any(value is not None for value in each.series[0].values)]
        charts += [_requests(span, seconds), _tokens(span, seconds), *_server(span, points)]
        charts += _client(span, seconds, records, is_wide=len(charts) % 2 == 0)
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


class _Span:
    """The time of a level: the same axis for all its charts, what is outside the window dimmed."""

    def __init__(self, level: Level) -> None:
        first, last = level.timeline[0], level.timeline[-1]
        last_s = last.at_s + last.step_s
        start_s, end_s = level.window_s
        outside = [(first.at_s, start_s), (end_s, last_s)] if end_s > start_s else []
        self.level = level
        self.dimmed = [(low_s, high_s) for low_s, high_s in outside if high_s > low_s]
        self.axis = Axis(label="time", unit="s", least=first.at_s, most=last_s)

    def chart(
        self,
        title: str,
        y: Axis,
        x_values: list[float],
        series: list[Series],
        *,
        note: str = "",
        targets_s: Mapping[str, float] | None = None,
        is_wide: bool = False,
    ) -> Chart:
        aims = targets_s or {}
        return Chart(
            title=title,
            x=self.axis,
            y=y,
            x_values=[round(each, 3) for each in x_values],
            series=series,
            marks=[
                Mark(axis="y", value=target_s, label=f"{name or 'target'} {duration(target_s)}")
                for name, target_s in aims.items()
            ],
            note=note,
            sync="time",
            pass_below=next(iter(aims.values())) if len(aims) == 1 else None,
            dimmed=self.dimmed,
            height=190,
            is_wide=is_wide,
        )


def _middles(seconds: Sequence[Second]) -> list[float]:
    return [each.at_s + each.step_s / 2.0 for each in seconds]


def _latency(span: _Span, seconds: Sequence[Second], part: str) -> Chart:
    aims = {held.name: target for held in classes_held(span.level) if (target := targets(held).get(part)) is not None}
    values = [rounded(each.ttft_p95_s if part == "ttft" else each.itl_p95_s) for each in seconds]
    name = f"p95 {PART_WORDS[part]}"
    return span.chart(
        name,
        Axis(label=name, unit="s", log=True),
        _middles(seconds),
        [Series(label=name, values=values, color="a")],
        note=f"Of what came in each {duration(max(each.step_s for each in seconds))}.",
        targets_s=aims,
    )


def _requests(span: _Span, seconds: Sequence[Second]) -> Chart:
    series = [Series(label="in flight", values=[float(each.in_flight) for each in seconds], color="a", style="steps")]
    refused: list[float | None] = [rounded(each.refused / each.step_s) for each in seconds]
    failed: list[float | None] = [rounded(each.failed / each.step_s) for each in seconds]
    if any(refused):
        series.append(Series(label="refused a second", values=refused, color="undecided", style="steps"))
    if any(failed):
        series.append(Series(label="failed a second", values=failed, color="missed", style="steps"))
    return span.chart("Requests in flight", Axis(label="requests"), _middles(seconds), series)


def _tokens(span: _Span, seconds: Sequence[Second]) -> Chart:
    name = "output tokens a second"
    rates: list[float | None] = [rounded(each.tokens / each.step_s) for each in seconds]
    series = [Series(label=name, values=rates, color="c", style="steps")]
    return span.chart("Throughput", Axis(label=name), _middles(seconds), series)


def _server(span: _Span, points: int) -> list[Chart]:
    """What the server said of itself, in as many charts as it has kinds of numbers for."""
    scraped = span.level.scraped
    if scraped is None or not scraped.at_s:
        return []
    step = max(1, math.ceil(len(scraped.at_s) / points))
    charts = []
    for title, y, lines in _SERVER_CHARTS:
        series = []
        for name, label, color in lines:
            values = [rounded(each) for each in scraped.series.get(name, [])[::step]]
            if any(each is not None for each in values):
                series.append(Series(label=label, values=values, color=color, style="steps"))
        if series and (title not in _ONLY_IF_ANY or any(any(each.values) for each in series)):
            said = f"{title} ({scraped.engine}'s own numbers)"
            charts.append(span.chart(said, y, scraped.at_s[::step], series))
    return charts


def _client(span: _Span, seconds: Sequence[Second], records: Sequence[Record], *, is_wide: bool) -> list[Chart]:
    """How late requests were sent: what the client itself added."""
    edges = [each.at_s for each in seconds]
    worst: list[float | None] = [None] * len(seconds)
    for record in records:
        at = max(0, bisect_right(edges, record.intended_s) - 1)
        if record.sent_s is not None:
            worst[at] = max(worst[at] or LEAST_SLIP_S, record.slip_s)
    if not any(worst):
        return []
    name = "largest slip"
    return [
        span.chart(
            "Client: how late requests were sent",
            Axis(label=name, unit="s", log=True),
            _middles(seconds),
            [Series(label=name, values=[rounded(each) for each in worst], color="e", style="steps")],
            note="Small against the latencies above, or the client measures itself.",
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
        x=Axis(label="time", unit="s"),
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
