"""The charts over the levels of a run: what the server did at each load, and how long its tails are."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from headway.bench.figures import ClassFigures, Level, Quantiles, Run
from headway.bench.judge import Judge
from headway.bench.record import Outcome, Record
from headway.bench.report.sections import COLORS, Axis, Chart, Color, Mark, Series
from headway.bench.report.standing import load_of, targets
from headway.bench.report.wording import PART_WORDS, classes_held, duration, has_targets, short_name
from headway.policy.slo import NO_PROMISE, TARGET_ATTAINMENT, Objective

CLASSES_MAX = len(COLORS)
CURVES_MAX = 16
"""Levels in a chart of tails; of more, evenly spread ones."""
GRID = 160
GAPS_MAX = 100_000
"""Of each level, so many gaps at most are taken for its tail: those of every k-th request."""
ROWS_SHARE_LEAST = 1e-3

Records = Mapping[int, Sequence[Record]]


def rounded(value: float | None) -> float | None:
    """To four digits: more are not seen, and cost bytes."""
    return None if value is None or not math.isfinite(value) else float(f"{value:.4g}")


def _class_names(run: Run) -> list[str]:
    names: dict[str, None] = {}
    for level in run.levels:
        names.update(dict.fromkeys(each.name for each in classes_held(level)))
    return list(names)[:CLASSES_MAX]


def _held(level: Level, name: str) -> ClassFigures | None:
    return next((each for each in classes_held(level) if each.name == name), None)


class _Line(NamedTuple):
    """One line of an operating curve: ``which`` of the runs, its class, its kind of load."""

    which: int
    name: str
    is_closed: bool
    label: str
    color: Color


def operating_curve(run: Run, part: str, *, chosen: int | None = None, baseline: Run | None = None) -> Chart | None:
    """p95 of a part over throughput, a point for each level; None with fewer than two points.

    ``chosen``: the level to be starred. ``baseline`` is drawn behind it, thin. Open and closed loops are not joined.
    """
    runs = [run] if baseline is None else [run, baseline]
    points = sorted(
        (level.classes[0].throughput, which, number)
        for which, each in enumerate(runs)
        for number, level in enumerate(each.levels)
        if level.classes and any(part in held.latencies for held in classes_held(level))
    )
    if sum(which == 0 for _, which, _ in points) < 2:
        return None
    names = _class_names(run)
    lines = _lines(runs, names)
    series = [_operating_series(runs[line.which], part, points, line, chosen) for line in lines]
    marks = _target_marks(run, part, names)
    return Chart(
        title=f"p95 {PART_WORDS[part]} against throughput",
        x=Axis(label="output tokens a second"),
        y=Axis(label=f"p95 {PART_WORDS[part]}", unit="s", log=True),
        x_values=[rounded(throughput) or 0.0 for throughput, _, _ in points],
        series=[each for each in series if any(value is not None for value in each.values)],
        marks=marks,
        note="A point for each level, with its 95 % interval."
        + (" ★ is the level chosen." if chosen is not None else "")
        + (" Kept is below the target." if marks else ""),
        sync="operating",
        pass_below=marks[0].value if len(marks) == 1 else None,
    )


def _lines(runs: Sequence[Run], names: Sequence[str]) -> list[_Line]:
    lines: list[_Line] = []
    for which, run in enumerate(runs):
        kinds = sorted({is_closed(level) for level in run.levels})
        for number, name in enumerate(names):
            for kind in kinds:
                words = [name] if name else ["baseline" if which else "this run"]
                words += ["baseline"] if which and name else []
                words += ["closed loop" if kind else "open loop"] if len(kinds) > 1 else []
                color = COLORS[(number + len(names) * (kinds.index(kind))) % len(COLORS)]
                lines.append(_Line(which, name, kind, ", ".join(words), "muted" if which else color))
    return lines


def is_closed(level: Level) -> bool:
    return "concurrency" in level.load


def _operating_series(
    run: Run, part: str, points: Sequence[tuple[float, int, int]], line: _Line, chosen: int | None
) -> Series:
    found: list[Quantiles | None] = []
    at_level: dict[int, int] = {}
    for index, (_, which, number) in enumerate(points):
        is_here = which == line.which and is_closed(run.levels[number]) is line.is_closed
        held = _held(run.levels[number], line.name) if is_here else None
        found.append(None if held is None else held.latencies.get(part))
        if found[-1] is not None:
            at_level[number] = index
    names = [
        "" if each is None else short_name(run.levels[point[2]]) for each, point in zip(found, points, strict=True)
    ]
    return Series(
        label=line.label,
        values=[None if each is None else rounded(each.p95) for each in found],
        color=line.color,
        style="points",
        is_dashed=bool(line.which),
        low=[None if each is None else rounded(each.p95_low) for each in found],
        high=[None if each is None else rounded(each.p95_high) for each in found],
        names=names if not line.which and line.name in _class_names(run)[:1] else [],
        order=[at_level[number] for number in sorted(at_level, key=lambda number: load_of(run.levels[number]))],
        star=None if line.which or chosen is None else at_level.get(chosen),
    )


def _target_marks(run: Run, part: str, names: Sequence[str]) -> list[Mark]:
    marks: dict[str, Mark] = {}
    for level in run.levels:
        for color, name in zip(COLORS, names, strict=False):
            held = _held(level, name)
            target_s = None if held is None else targets(held).get(part)
            if target_s is not None and name not in marks:
                of_class = f"{name} " if len(names) > 1 else "target "
                marks[name] = Mark(axis="y", value=target_s, label=of_class + duration(target_s), color=color)
    if len(marks) == 1 and len(names) == 1:
        only = next(iter(marks.values()))
        return [Mark(axis="y", value=only.value, label=only.label)]
    return list(marks.values())


def gap_part(run: Run) -> str:
    """``itl`` where tokens are counted, else ``chunk_gap``: all that can be told."""
    found = [part for level in run.levels for each in level.classes for part in each.latencies]
    return "chunk_gap" if "chunk_gap" in found and "itl" not in found else "itl"


def rate_charts(run: Run) -> list[Chart]:
    """Offered, completed and good requests a second, and attainment, over the load: open and closed loops apart."""
    charts: list[Chart] = []
    for closed in (False, True):
        levels = [each for each in run.levels if each.classes and is_closed(each) is closed]
        if len(levels) < 2:
            continue

        def place(level: Level, closed: bool = closed) -> float:
            return load_of(level) if closed else level.classes[0].request_rate

        levels.sort(key=place)
        x = Axis(label="requests at once" if closed else "requests offered a second")
        x_values = [rounded(place(level)) or 0.0 for level in levels]
        charts.append(_rates(levels, x, x_values, closed))
        if any(has_targets(held) for level in levels for held in classes_held(level)):
            charts.append(_attainment(levels, x, x_values, closed))
    return charts


def _rates(levels: Sequence[Level], x: Axis, x_values: list[float], closed: bool) -> Chart:
    overall = [level.classes[0] for level in levels]
    promised = any(has_targets(held) for level in levels for held in classes_held(level))
    completed = [rounded(each.completed_rate) for each in overall]
    series = [Series(label="completed", values=completed, color="a", style="points")]
    if promised:
        good = [rounded(each.goodput) for each in overall]
        series.append(Series(label="in SLO (goodput)", values=good, color="c", style="points"))
    if not closed:
        offered: list[float | None] = [each.request_rate for each in overall]
        series.insert(0, Series(label="offered", values=offered, color="muted", style="thin", is_dashed=True))
    return Chart(
        title="Goodput" if promised else "Completed requests",
        x=x,
        y=Axis(label="requests a second"),
        x_values=x_values,
        series=series,
        note=" ".join(
            ([] if closed else ["From offered to completed is what queues or was refused."])
            + (["From completed to in SLO is what came too late."] if promised else [])
        ),
        sync="load-closed" if closed else "load-open",
    )


def _attainment(levels: Sequence[Level], x: Axis, x_values: list[float], closed: bool) -> Chart:
    names: dict[str, None] = {}
    for level in levels:
        names.update(dict.fromkeys(each.name for each in classes_held(level) if targets(each)))
    series = []
    for color, name in zip(COLORS, names, strict=False):
        held = [_held(level, name) for level in levels]
        series.append(
            Series(
                label=name or "in SLO",
                values=[None if each is None else rounded(each.attainment) for each in held],
                low=[None if each is None else rounded(each.attainment_low) for each in held],
                high=[None if each is None else rounded(each.attainment_high) for each in held],
                color=color,
                style="points",
            )
        )
    return Chart(
        title="Attainment",
        x=x,
        y=Axis(label="share of requests in SLO", unit="share", most=1.0),
        x_values=x_values,
        series=series,
        marks=[Mark(axis="y", value=TARGET_ATTAINMENT, label=f"{100 * TARGET_ATTAINMENT:.0f} %")],
        note="Kept where the whole interval is above the line. Refused and failed requests are misses.",
        sync="load-closed" if closed else "load-open",
    )


def tail_charts(run: Run, records: Records, *, chosen: int | None = None) -> list[Chart]:
    """For TTFT and gaps, and each class that was promised one: the share of them that took longer, a curve a level."""
    charts = []
    for part in ("ttft", gap_part(run)):
        names = [name for name in _class_names(run) if _target_of(run, name, part) is not None][:3] or [""]
        for name in names:
            chart = _tail(run, records, part, name, chosen)
            if chart is not None:
                charts.append(chart)
    return charts


def _target_of(run: Run, name: str, part: str) -> float | None:
    found = (targets(held).get(part) for level in run.levels for held in classes_held(level) if held.name == name)
    return next((each for each in found if each is not None), None)


def judge_of(level: Level) -> Judge:
    """Holds requests against the targets that a level's figures name."""
    objectives = {
        each.name: Objective(ttft_s=each.ttft_target_s, itl_s=each.itl_target_s, e2e_s=each.e2e_target_s)
        for each in level.classes
    }
    return Judge(objectives, objectives.get("", NO_PROMISE))


def counted(level: Level, records: Sequence[Record]) -> list[Record]:
    """Those intended in the window of a level, as its figures count them."""
    start_s, end_s = level.window_s
    judge = judge_of(level)
    inside = (each for each in records if start_s <= each.intended_s < end_s)
    return [each for each in inside if each.outcome is not Outcome.CUT or judge(each) is not None]


def _tail(run: Run, records: Records, part: str, name: str, chosen: int | None) -> Chart | None:
    numbers = [number for number in range(len(run.levels)) if records.get(number)]
    numbers.sort(key=lambda number: (is_closed(run.levels[number]), load_of(run.levels[number])))
    step = max(1, math.ceil(len(numbers) / CURVES_MAX))
    found: list[tuple[int, list[float], int]] = []
    for number in numbers[::step] + ([chosen] if chosen in numbers and chosen not in numbers[::step] else []):
        here = counted(run.levels[number], records[number])
        here = [each for each in here if not name or each.service_class in (name, "")]
        values, total = _ttfts(here) if part == "ttft" else _gaps(here, part)
        if values:
            found.append((number, values, total))
    if not found:
        return None
    # What is shorter than all but a hundredth says nothing of a tail.
    low, high = min(values[len(values) // 100] for _, values, _ in found), max(values[-1] for _, values, _ in found)
    low, high = max(low, high / 1e5, 1e-6), max(high, 1e-5) * 1.001
    grid = [low * (high / low) ** (at / (GRID - 1)) for at in range(GRID)]
    target_s = _target_of(run, name, part)
    most_needed = max(total for _, _, total in found)
    what = "requests" if part == "ttft" else "gaps"
    return Chart(
        title=f"Tail of {PART_WORDS[part]}" + (f", {name}" if name else ""),
        x=Axis(label=PART_WORDS[part], unit="s", log=True),
        y=Axis(
            label=f"share of {what} that took longer",
            unit="share",
            log=True,
            most=1.0,
            least=max(ROWS_SHARE_LEAST, min(0.01, 1.0 / most_needed)),
        ),
        x_values=[rounded(each) or low for each in grid],
        series=[
            Series(
                label=short_name(run.levels[number]) + (" ★" if number == chosen else ""),
                values=_longer(values, total, grid),
                place=at / max(1, len(found) - 1),
                style="line" if number == chosen or len(run.levels) <= 3 else "thin",
            )
            for at, (number, values, total) in enumerate(found)
        ],
        marks=[]
        if target_s is None
        else [
            Mark(axis="x", value=target_s, label=f"target {duration(target_s)}"),
            Mark(axis="y", value=1.0 - TARGET_ATTAINMENT, label="5 %"),
        ],
        note=("A curve that passes below the crossing of the two lines keeps its target at p95." if target_s else "")
        + (" Refused and failed requests took for ever." if part == "ttft" else ""),
        sync=f"tail-{part}",
    )


def _longer(values: Sequence[float], total: int, grid: Sequence[float]) -> list[float | None]:
    """Of ``total``, the share above each value of the grid; None where there is none, for a logarithmic axis."""
    counts = [total - bisect_right(values, at_s) for at_s in grid]
    return [rounded(count / total) if count else None for count in counts]


def _ttfts(records: Sequence[Record]) -> tuple[list[float], int]:
    """Sorted, and of how many: those without a first token count."""
    return sorted(each.ttft_s for each in records if each.ttft_s is not None), len(records)


def _gaps(records: Sequence[Record], part: str) -> tuple[list[float], int]:
    step = max(1, math.ceil(sum(len(each.chunk_s) for each in records) / GAPS_MAX))
    values: list[float] = []
    for record in records[::step]:
        values += record.gaps_s() if part == "itl" else record.chunk_gaps_s()
    values = sorted(values)
    return values, len(values)
