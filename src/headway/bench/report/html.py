"""A run as one page for a browser."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import msgspec

from headway.bench.figures import ClassFigures, Run
from headway.bench.record import Record
from headway.bench.report import tables
from headway.bench.report.charts import gap_part, operating_curve, rate_charts, tail_charts
from headway.bench.report.document import Card, Document
from headway.bench.report.over_time import level_charts
from headway.bench.report.sections import Chart, Choice, Item, Section, Tone
from headway.bench.report.standing import (
    Verdict,
    chosen_level,
    class_standing,
    keeps,
    targets,
    verdict,
    why_chosen,
)
from headway.bench.report.wording import (
    NONE,
    PART_WORDS,
    attainment_interval,
    classes_held,
    duration,
    has_targets,
    misses,
    number,
    p95_interval,
    share,
)

POINTS_MAX = 6000
"""Points in time of all levels together, for each chart of a level."""
POINTS_A_LEVEL = (40, 400)
ROWS_MAX = 2400
ROWS_A_LEVEL = (20, 120)
LEVELS_OVER_TIME_MAX = 48
WARNINGS_MAX = 50


def page(
    run: Run,
    records: Mapping[int, Sequence[Record]] | None,
    *,
    baseline: Run | None = None,
    extra: Sequence[Section] = (),
    verdict_said: Verdict | None = None,
    chosen: int | None = None,
    chosen_why: str = "",
    curves: Sequence[int] | None = None,
) -> str:
    """The page of a run. ``records`` by the number of the level: without them there are no tails and single requests.

    ``baseline``: a run to draw behind this one. ``extra``: sections after the verdict. ``verdict_said``: instead of
    what the levels of the run say. ``chosen``: the number of the level to be starred instead of the best by goodput,
    and ``chosen_why``. ``curves``: the numbers of the levels that are drawn as curves over the load, where the others
    are of another setting of the server; None: all.
    """
    records = records or {}
    said = verdict(run) if verdict_said is None else verdict_said
    star = chosen_level(run) if chosen is None else chosen
    why = chosen_why if chosen is not None else "" if star is None else why_chosen(run.levels[star])
    shown = _Shown(run, records, star).only(range(len(run.levels)) if curves is None else curves)
    sections = [*extra, *_of_all_levels(shown, baseline), *_of_each_level(run, records, star, why)]
    document = Document(
        kind=run.kind,
        made_at=run.started_at,
        title=_title(run),
        note=run.note or "",
        source=f"Schema {run.schema}, run {run.id}",
        headline=said.headline,
        details=said.details,
        tone=tables.TONES[said.standing],
        cards=_cards(run, star, why),
        warnings=_warnings(run),
        sections=[section for section in sections if section.items],
    )
    return document.html()


def _title(run: Run) -> str:
    model, engine = run.target.get("model") or "a model", run.target.get("engine") or "unknown"
    version = run.target.get("version")
    server = "a server" if engine == "unknown" else f"{engine} {version}" if version else str(engine)
    return f"{model} on {server}"


class _Shown(NamedTuple):
    """Levels, their requests by number, and the number of the one to be starred."""

    run: Run
    records: Mapping[int, Sequence[Record]]
    chosen: int | None

    def only(self, numbers: Iterable[int]) -> _Shown:
        """Some of them, numbered anew."""
        kept = list(numbers)
        run = msgspec.structs.replace(self.run, levels=[self.run.levels[number] for number in kept])
        records = {at: self.records[number] for at, number in enumerate(kept) if number in self.records}
        return _Shown(run, records, kept.index(self.chosen) if self.chosen in kept else None)


def _of_all_levels(shown: _Shown, baseline: Run | None) -> list[Section]:
    run, records, chosen = shown
    curves = [operating_curve(run, part, chosen=chosen, baseline=baseline) for part in ("ttft", gap_part(run))]
    load = [*(each for each in curves if each is not None), *rate_charts(run)]
    return [
        Section("Where the limit is", _in_pairs(load)),
        Section("The tails", _in_pairs(tail_charts(run, records, chosen=chosen))),
    ]


def _of_each_level(run: Run, records: Mapping[int, Sequence[Record]], chosen: int | None, why: str) -> list[Section]:
    split = tables.time_split(run, records)
    return [
        Section("Where the time goes", [] if split is None else [split]),
        Section("Over time", _over_time(run, records, chosen)),
        Section("All figures", _figures(run, chosen, why)),
        Section("How it was measured", tables.how_measured(run)),
    ]


def _in_pairs(charts: list[Chart]) -> list[Chart]:
    """Two beside each other; the last one alone is wide."""
    if len(charts) % 2 == 0:
        return charts
    return [*charts[:-1], msgspec.structs.replace(charts[-1], is_wide=True)]


def _figures(run: Run, chosen: int | None, why: str) -> list[Item]:
    if not run.levels:
        return []
    return [tables.overview(run, chosen=chosen, why=why), *tables.level_details(run, chosen=chosen)]


def _over_time(run: Run, records: Mapping[int, Sequence[Record]], chosen: int | None) -> list[Item]:
    shown = list(enumerate(run.levels))[:LEVELS_OVER_TIME_MAX]
    if not shown:
        return []
    points = min(max(POINTS_MAX // len(shown), POINTS_A_LEVEL[0]), POINTS_A_LEVEL[1])
    rows = min(max(ROWS_MAX // len(shown), ROWS_A_LEVEL[0]), ROWS_A_LEVEL[1])
    options: list[tuple[str, Sequence[Item]]] = []
    selected = 0
    for at, level in shown:
        charts = level_charts(level, records.get(at, ()), points=points, rows=rows)
        if charts:
            selected = len(options) if at == chosen else selected
            options.append((level.name + (" ★" if at == chosen else ""), charts))
    return [Choice(label="Level", options=options, chosen=selected)] if options else []


def _warnings(run: Run) -> list[str]:
    """One line for what is the same of several levels but for the figures in it."""
    said: dict[str, tuple[str, list[str]]] = {}

    def add(name: str, line: str) -> None:
        kind = re.sub(r"[0-9][0-9., ]*", "", line)
        said.setdefault(kind, (line, []))[1].append(name)

    for level in run.levels:
        if level.client.bound is not None:
            add(level.name, f"the client was the limit: {level.client.bound}. Its figures do not count.")
        if level.state != "complete":
            add(level.name, f"it is {level.state}: {level.reason or 'no reason given'}.")
        for line in level.warnings:
            add(level.name, line)
    lines = [_of_levels(names, line) for line, names in said.values()]
    more = len(lines) - WARNINGS_MAX
    return [*lines[:WARNINGS_MAX], f"and {more} more, in the run's JSON"] if more > 0 else lines


def _of_levels(names: Sequence[str], line: str) -> str:
    if len(names) == 1:
        return f"{names[0]}: {line}"
    return f"{len(names)} times, first at {names[0]}: {line}"


def _cards(run: Run, chosen: int | None, why: str) -> list[Card]:
    """Of the level chosen; without one, of the one with the best attainment."""
    numbers = [at for at, level in enumerate(run.levels) if level.classes]
    if not numbers:
        return []
    at = chosen if chosen is not None else max(numbers, key=lambda each: run.levels[each].classes[0].attainment or 0.0)
    level, overall = run.levels[at], run.levels[at].classes[0]
    held = [each for each in classes_held(level) if has_targets(each)]
    why = why or "nearest to the promise"
    cards = [Card("Level shown", level.name, why if level.client.bound is None else "not valid: the client's limit")]
    for figures in held:
        of_class = f", {figures.name}" if figures.name and len(held) > 1 else ""
        tone = tables.TONES[class_standing(figures)]
        cards.append(
            Card(f"In SLO{of_class}", share(figures.attainment), f"95 % interval {attainment_interval(figures)}", tone)
        )
        cards += [_latency_card(figures, part, target_s, of_class) for part, target_s in targets(figures).items()]
    if not held:
        shown = [part for part in ("ttft", "itl", "e2e") if part in overall.latencies]
        cards += [_latency_card(overall, part, None, "") for part in shown]
    if held:
        cards.append(Card("Goodput", f"{number(overall.goodput)}/s", f"of {number(overall.request_rate)}/s offered"))
    cards.append(
        Card("Output tokens a second", number(overall.throughput), f"{number(overall.completed_rate)} requests/s")
    )
    missed = overall.offered - overall.good
    cards.append(Card("Requests", str(overall.offered), f"misses: {misses(overall)}" if missed else "no miss"))
    return cards if level.client.bound is None else [replace(each, tone="") for each in cards]


def _latency_card(figures: ClassFigures, part: str, target_s: float | None, of_class: str) -> Card:
    found = figures.latencies.get(part)
    name = f"p95 {PART_WORDS[part]}{of_class}"
    if found is None:
        return Card(name, NONE, "no reply was whole", "missed" if target_s is not None else "")
    if target_s is None:
        return Card(name, duration(found.p95), f"interval {p95_interval(found)}")
    tone: Tone = "kept" if keeps(figures, part, target_s) else "missed"
    anyway = tables.missed_anyway(figures, part, target_s)
    more = anyway or f"{100.0 * found.p95 / target_s:.0f} % of {duration(target_s)}; interval {p95_interval(found)}"
    return Card(name, duration(found.p95), more, tone)
