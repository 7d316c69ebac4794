"""The tables of a page: all levels at a glance, every figure with its definition, where the time went, how it was
measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from headway.bench.figures import ClassFigures, Level, Run
from headway.bench.record import Record
from headway.bench.report.charts import Records, counted
from headway.bench.report.over_time import PARTS_OF_TIME, split_of
from headway.bench.report.sections import Cell, Fold, Item, Paragraph, Row, Table, Tone
from headway.bench.report.standing import Standing, class_standing, keeps, standing, targets
from headway.bench.report.wording import (
    NONE,
    PART_WORDS,
    attainment_interval,
    class_name,
    classes_held,
    client_line,
    duration,
    has_targets,
    misses,
    number,
    p95_interval,
    share,
)

TONES: dict[Standing, Tone] = {
    Standing.KEPT: "kept",
    Standing.UNDECIDED: "undecided",
    Standing.MISSED: "missed",
    Standing.VOID: "missed",
    Standing.NO_PROMISE: "",
}
PERCENTILES = (("p50", 0.45, 0.55), ("p95", 0.925, 0.975))
"""Which requests show where the time goes: those around each."""
IN_SLO = (
    "whole, with TTFT and E2E within their targets, and the p95 of the request's own gaps within that of ITL; what "
    "has no target is kept"
)
NO_LATENCIES = Paragraph("No reply was whole: there are no latencies.", "missed")
DETAILS_MAX = 64
"""Levels with a table of their own."""


def overview(run: Run, *, chosen: int | None = None, why: str = "") -> Table:
    """A row for each level and class. ``why``: of the level ``chosen``."""
    rows: list[Row] = []
    for at, level in enumerate(run.levels):
        star = " ★" if at == chosen else ""
        if not level.classes:
            rows.append([level.name, NONE, Cell("not measured", "missed"), *[NONE] * 7])
        held = classes_held(level)
        for figures in held if len(held) == 1 else [*held, *level.classes[:1]]:
            found = standing(level) if level.client.bound is not None else class_standing(figures)
            cells = _overview_cells(figures, found)
            if found is Standing.VOID:
                cells[1:] = _without_tones(cells[1:])
            rows.append([level.name + star, class_name(figures), *cells])
    return Table(
        columns=(
            "level",
            "class",
            "promise",
            "in SLO",
            "goodput",
            "tokens/s",
            "p95 TTFT",
            "p95 ITL",
            "p95 E2E",
            "misses",
        ),
        rows=rows,
        caption="All levels",
        note="" if chosen is None else f"★ the level chosen: {why}.",
        text_columns=3,
    )


def _overview_cells(figures: ClassFigures, found: Standing) -> list[str | Cell]:
    promised = has_targets(figures) or not figures.name
    attainment = f"{share(figures.attainment)} ({attainment_interval(figures)})" if promised else NONE
    cells: list[str | Cell] = [Cell(str(found), TONES[found]), attainment]
    cells += [f"{number(figures.goodput)}/s" if promised else NONE, number(figures.throughput)]
    for part in ("ttft", "itl", "e2e"):
        quantiles, target_s = figures.latencies.get(part), targets(figures).get(part)
        tone: Tone = "" if target_s is None else "kept" if keeps(figures, part, target_s) else "missed"
        hint = "" if target_s is None else missed_anyway(figures, part, target_s)
        cells.append(NONE if quantiles is None else Cell(duration(quantiles.p95), tone, hint))
    return [*cells, misses(figures)]


def missed_anyway(figures: ClassFigures, part: str, target_s: float) -> str:
    """Why a p95 within its target does not keep it; empty where there is nothing to explain."""
    found = figures.latencies.get(part)
    if found is None or found.p95 > target_s or keeps(figures, part, target_s):
        return ""
    with_misses = "never" if found.p95_with_misses is None else duration(found.p95_with_misses)
    return f"with misses: {with_misses}"


def _without_tones(cells: Sequence[str | Cell]) -> list[str | Cell]:
    return [each if isinstance(each, str) else replace(each, tone="") for each in cells]


def level_details(run: Run, *, chosen: int | None = None) -> list[Fold]:
    """Every figure of each level and class, with n, intervals and the formula."""
    folds = []
    for at, level in enumerate(run.levels[:DETAILS_MAX]):
        items: list[Item] = []
        shown = classes_held(level)
        for figures in shown if len(shown) == 1 else [*shown, *level.classes[:1]]:
            items += [_latencies(figures, run.definitions)] if figures.latencies else [NO_LATENCIES]
            items.append(_counts(figures, run.definitions))
        items.append(Paragraph(f"Client: {client_line(level.client)}."))
        is_open = at == chosen or len(run.levels) == 1
        folds.append(Fold(title=f"{level.name}: every figure", items=items, is_open=is_open))
    return folds


def _latencies(figures: ClassFigures, definitions: Mapping[str, str]) -> Table:
    rows: list[Row] = []
    aims = targets(figures)
    order = list(PART_WORDS)
    for part in sorted(figures.latencies, key=lambda part: order.index(part) if part in order else len(order)):
        found = figures.latencies[part]
        target_s = aims.get(part)
        tone: Tone = "" if target_s is None else "kept" if keeps(figures, part, target_s) else "missed"
        named = Cell(PART_WORDS.get(part, part), hint=definitions.get(part, ""))
        cells = [duration(each) for each in (found.mean, found.p50, found.p90)]
        rest = [p95_interval(found), duration(found.p99), duration(found.max)]
        rows.append(
            [
                named,
                str(found.n),
                *cells,
                Cell(duration(found.p95), tone),
                *rest,
                duration(target_s) if target_s else NONE,
            ]
        )
    return Table(
        columns=("latency", "n", "mean", "p50", "p90", "p95", "95 % interval of p95", "p99", "max", "target p95"),
        rows=rows,
        caption=f"Latencies, {class_name(figures)}",
        note="Over the n requests, or gaps, that have one; exact quantiles (nearest rank). Where p95 is marked as "
        "missed though within its target, those refused or failed count as never served.",
    )


def _counts(figures: ClassFigures, definitions: Mapping[str, str]) -> Table:
    def named(word: str, key: str) -> Cell:
        return Cell(word, hint=definitions.get(key, ""))

    rows: list[Row] = [
        ["Requests sent", str(figures.offered), f"{number(figures.request_rate)} a second"],
        ["Whole", str(figures.ok), f"{number(figures.completed_rate)} a second"],
        [Cell("In SLO", hint=IN_SLO), str(figures.good), f"{number(figures.goodput)} a second (goodput)"],
        [named("Attainment", "attainment"), share(figures.attainment), f"95 % interval {attainment_interval(figures)}"],
        ["Misses", str(sum(figures.misses.values())), misses(figures)],
        [named("Throughput", "throughput"), number(figures.throughput), "output tokens a second"],
        ["Tokens", number(figures.output_tokens), f"output, for {number(figures.prompt_tokens)} of prompts"],
    ]
    if figures.cached_tokens is not None:
        rows.append(["Prompt tokens from cache", number(figures.cached_tokens), "as the server says"])
    return Table(columns=("count", "", ""), rows=rows, caption=f"Counts, {class_name(figures)}", text_columns=3)


def time_split(run: Run, records: Records) -> Table | None:
    """Where the time of a request goes, at each level."""
    found = []
    for at, level in enumerate(run.levels):
        here = counted(level, records.get(at, ()))
        for name, low, high in PERCENTILES:
            parts = split_of(here, low, high)
            if parts is not None:
                found.append((level.name, name, parts))
    if not found:
        return None
    longest = max(sum(parts) for _, _, parts in found) or 1.0
    shown = [at for at in range(len(PARTS_OF_TIME)) if any(parts[at] > 0.0005 for _, _, parts in found)]
    named = [PARTS_OF_TIME[at] for at in shown]
    rows: list[Row] = []
    for level_name, name, parts in found:
        bar = tuple((parts[at] / longest, PARTS_OF_TIME[at][1]) for at in shown)
        rows.append([level_name, name, Cell("", bar=bar), *(duration(parts[at]) for at in shown), duration(sum(parts))])
    return Table(
        columns=("level", "around", "", *(Cell(name, bar=((1.0, color),)) for name, color in named), "in all"),
        rows=rows,
        caption="From intended send to last token",
        note="Means over the requests whose end-to-end time is around p50 (45th to 55th percentile) and p95 (92.5th to "
        "97.5th). " + _queue_note(records),
        text_columns=3,
    )


def _queue_note(records: Mapping[int, Sequence[Record]]) -> str:
    if any(each.queue_s is not None for here in records.values() for each in here):
        return "The queue is what the server reports."
    return "The server does not tell how long requests were queued; that time is in the first token."


def how_measured(run: Run) -> list[Item]:
    """Command, server, load, window, machine, versions."""
    rows: list[Row] = [["Run", run.id], ["Started", run.started_at]]
    rows += [[name, value] for name, value in (("Command", run.command), ("Note", run.note)) if value]
    for name, values in (("Server", run.target), ("Workload", run.workload), ("Machine", run.machine)):
        rows += [[f"{name}: {key}", _said(value)] for key, value in values.items() if value not in (None, "")]
    rows += [[f"Version of {name}", version] for name, version in run.versions.items()]
    items: list[Item] = [Table(columns=("what", "is"), rows=rows, caption="Setting", text_columns=2)]
    if run.levels:
        items.append(_windows(run.levels))
    definitions: list[Row] = [["In SLO", IN_SLO]]
    definitions += [[PART_WORDS.get(key, key.capitalize()), text] for key, text in run.definitions.items()]
    items.append(Table(columns=("figure", "is"), rows=definitions, caption="Definitions", text_columns=2))
    return items


def _windows(levels: Sequence[Level]) -> Table:
    rows: list[Row] = []
    for level in levels:
        load = ", ".join(f"{key} {_said(value)}" for key, value in level.load.items() if value is not None)
        start_s, end_s = level.window_s
        state = level.state if level.reason is None else f"{level.state}: {level.reason}"
        window = f"{start_s:.1f} to {end_s:.1f} s of {level.elapsed_s:.1f} s"
        rows.append([level.name, load, state, client_line(level.client), window, str(level.seed)])
    return Table(
        columns=("level", "load", "state", "client", "window that counts", "seed"),
        rows=rows,
        caption="Levels as run",
        note="Warm-up before the window and what ran out after it do not count.",
        text_columns=4,
    )


def _said(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, dict):
        return ", ".join(f"{key} {_said(each)}" for key, each in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(_said(each) for each in value)
    return str(value)
