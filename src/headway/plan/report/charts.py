"""The charts of a plan: what a GPU gives against what a user gets, and how each option behaves as its load grows."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from headway.bench.report.sections import COLORS, Axis, Chart, Mark, Series
from headway.bench.report.wording import duration
from headway.plan.outcome import Plan, Point
from headway.plan.report.wording import option_name

OPTIONS_MAX = len(COLORS)

Pair = tuple[float, float]


def pareto(plan: Plan) -> Chart | None:
    """Tokens a second of a GPU over those of a user: every load that was tried, and what no other beats on both."""
    options = plan.options[:OPTIONS_MAX]
    lines: list[tuple[Series, list[Pair]]] = []
    for color, option in zip(COLORS, options, strict=False):
        tried = [(each.user_tokens_per_s, each.tokens_per_s_per_gpu) for each in option.points]
        lines.append((Series(label=option_name(option), values=[], color=color, style="points"), tried))
    front = [(each.user_tokens_per_s, each.tokens_per_s_per_gpu) for each in plan.front]
    if len(front) > 1:
        lines.append((Series(label="Pareto front", values=[], color="muted", style="points", is_dashed=True), front))
    best = plan.best
    mark = [] if best is None else [Mark(axis="x", value=best.forecast.user_tokens_per_s, label="best", color="kept")]
    return _joined(
        lines,
        title="What a GPU gives, and what a user gets",
        x=Axis(label="tokens a second of one stream"),
        y=Axis(label="output tokens a second of one GPU"),
        marks=mark,
        note="A point for each load that was simulated. Up and to the right is better; the line is what nothing beats.",
    )


def attainment_over_rate(plan: Plan) -> Chart | None:
    marks = [
        Mark(axis="y", value=plan.asked.target, label=f"{100 * plan.asked.target:g} %", color="muted"),
        Mark(axis="x", value=plan.asked.load.rate, label="your load", color="kept"),
    ]
    return _over_rate(
        plan,
        lambda point: point.attainment,
        title="In SLO, as the load grows",
        y=Axis(label="share of requests in SLO", unit="share", most=1.0),
        marks=marks,
        note="All replicas of each option together, at the number that your load needs.",
    )


def latency_over_rate(plan: Plan, part: str) -> Chart | None:
    """p95 of "ttft" or "itl"; None where nothing was promised of it."""
    words = {"ttft": "TTFT", "itl": "ITL"}[part]
    targets = sorted(
        {target for each in plan.asked.load.promises if (target := getattr(each, f"{part}_s")) is not None}
    )
    if not targets:
        return None
    marks = [Mark(axis="y", value=each, label=f"target {duration(each)}") for each in targets]
    return _over_rate(
        plan,
        lambda point: getattr(point, f"{part}_p95_s"),
        title=f"p95 {words}, as the load grows",
        y=Axis(label=f"p95 {words}", unit="s", log=True),
        marks=[*marks, Mark(axis="x", value=plan.asked.load.rate, label="your load", color="kept")],
        note="Of the requests that were taken in.",
    )


def _over_rate(
    plan: Plan, value: Callable[[Point], float | None], *, title: str, y: Axis, marks: Sequence[Mark], note: str
) -> Chart | None:
    lines: list[tuple[Series, list[Pair]]] = []
    for color, option in zip(COLORS, plan.options, strict=False):
        points = [
            (point.rate * option.replicas, found)
            for point in sorted(option.points, key=lambda each: each.rate)
            if (found := value(point)) is not None
        ]
        lines.append((Series(label=option_name(option), values=[], color=color, style="points"), points))
    x = Axis(label="requests a second")
    return _joined(lines, title=title, x=x, y=y, marks=marks, note=note, sync="rate")


def _joined(
    lines: Sequence[tuple[Series, Sequence[Pair]]],
    *,
    title: str,
    x: Axis,
    y: Axis,
    marks: Sequence[Mark],
    note: str,
    sync: str | None = None,
) -> Chart | None:
    """Series on the x values of all of them; None if fewer than two points are there."""
    places = sorted((at, number, value) for number, (_, points) in enumerate(lines) for at, value in points)
    if len(places) < 2:
        return None
    series = [
        Series(
            label=line.label,
            values=[_rounded(value) if owner == number else None for _, owner, value in places],
            color=line.color,
            style=line.style,
            is_dashed=line.is_dashed,
        )
        for number, (line, points) in enumerate(lines)
        if points
    ]
    return Chart(
        title=title,
        x=x,
        y=y,
        x_values=[_rounded(at) for at, _, _ in places],
        series=series,
        marks=list(marks),
        note=note,
        sync=sync,
    )


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")
