"""The console table of a run: fits 80 columns, and uses 120."""

from __future__ import annotations

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from headway.bench.figures import ClassFigures, Level, Run
from headway.bench.report.standing import Standing, class_standing, keeps, standing, targets, verdict
from headway.bench.report.wording import (
    NONE,
    PART_WORDS,
    attainment_interval,
    class_name,
    client_line,
    duration,
    has_targets,
    misses,
    number,
    p95_interval,
    share,
)

STYLES = {
    Standing.KEPT: "green",
    Standing.UNDECIDED: "yellow",
    Standing.MISSED: "red",
    Standing.NO_PROMISE: "cyan",
    Standing.VOID: "red",
}
MARKS = {
    Standing.KEPT: "✓",
    Standing.UNDECIDED: "?",
    Standing.MISSED: "✗",
    Standing.NO_PROMISE: "·",
    Standing.VOID: "!",
}
WIDE = 100
SHOWN = ("ttft", "itl", "tpot", "e2e", "stall", "queue")


def run_table(run: Run, *, width: int) -> RenderableType:
    """Every level with its classes, then the verdict. ``width``: of the console."""
    said = verdict(run)
    parts: list[RenderableType] = [level_table(level, width=width) for level in run.levels]
    if len(run.levels) > 1:
        parts.append(overview(run, width=width))
    headline = Text(f"{MARKS[said.standing]} {said.headline}", style=f"bold {STYLES[said.standing]}")
    parts.append(Group(headline, *(Padding(Text(each), (0, 0, 0, 2)) for each in said.details if each)))
    return Group(*parts)


def print_run(console: Console, run: Run) -> None:
    console.print(run_table(run, width=console.width))


def level_table(level: Level, *, width: int) -> RenderableType:
    """One level: a table of latencies for each class, with what was offered and what came of it."""
    heading = Text.assemble(("Level ", "dim"), (level.name, "bold"))
    if level.window_s[1] > level.window_s[0]:
        start_s, end_s = level.window_s
        heading.append(f"  measured from {start_s:.1f} s to {end_s:.1f} s of {level.elapsed_s:.1f} s", "dim")
    parts: list[RenderableType] = [heading]
    if level.state != "complete":
        parts.append(Text(f"  {level.state}: {level.reason or 'no reason given'}", style="yellow"))
    names = [each for each in level.classes if each.name]
    shown = names if len(names) == 1 else level.classes
    for figures in shown:
        parts.append(_class_heading(figures, is_alone=len(shown) == 1))
        parts += [_latencies(figures, wide=width >= WIDE), _counts(figures)]
    if not level.classes:
        parts.append(Text("  nothing was measured", style="red"))
    parts.append(Padding(Text(f"client: {client_line(level.client)}", style="dim"), (0, 0, 0, 2)))
    if level.client.bound is not None:
        parts.append(Padding(Text(f"the client was the limit: {level.client.bound}", style="bold red"), (0, 0, 0, 2)))
    parts += [Padding(Text(f"warning: {each}", style="yellow"), (0, 0, 0, 2)) for each in level.warnings]
    return Group(*parts, Text())


def _class_heading(figures: ClassFigures, *, is_alone: bool) -> Text:
    found = class_standing(figures)
    text = Text(f"  {MARKS[found]} {class_name(figures)}", style=f"bold {STYLES[found]}")
    if found is Standing.NO_PROMISE and (figures.name or is_alone):
        text.append(f"  no target; {figures.ok} of {figures.offered} whole", style="default")
    else:
        text.append(f"  {share(figures.attainment)} in SLO ({attainment_interval(figures)})", style="default")
    return text


def _latencies(figures: ClassFigures, *, wide: bool) -> RenderableType:
    rows = [part for part in SHOWN if part in figures.latencies]
    if "itl" not in figures.latencies and "chunk_gap" in figures.latencies:
        rows.insert(1, "chunk_gap")
    if not rows:
        return Text("    no reply was whole: there are no latencies", style="red")
    table = Table(box=None, padding=(0, 1), pad_edge=False, header_style="dim")
    table.add_column("", no_wrap=True)
    for name in (
        "p50",
        *(["p90"] if wide else []),
        "p95",
        "95 % interval",
        *(["p99", "max"] if wide else []),
        "target",
    ):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("n", justify="right", no_wrap=True)
    aims = targets(figures)
    for part in rows:
        found, target_s = figures.latencies[part], aims.get(part)
        style = "" if target_s is None else "green" if keeps(figures, part, target_s) else "red"
        table.add_row(
            PART_WORDS[part],
            duration(found.p50),
            *([duration(found.p90)] if wide else []),
            Text(duration(found.p95), style=style),
            p95_interval(found),
            *([duration(found.p99), duration(found.max)] if wide else []),
            NONE if target_s is None else duration(target_s),
            str(found.n),
        )
    return Padding(table, (0, 0, 0, 4))


def _counts(figures: ClassFigures) -> RenderableType:
    rates = (
        f"offered {number(figures.request_rate)}/s, whole {number(figures.completed_rate)}/s, "
        f"goodput {number(figures.goodput)}/s, {number(figures.throughput)} tokens/s"
    )
    counted = f"{figures.offered} requests, {figures.good} in SLO; misses: {misses(figures)}"
    lines = [rates, counted]
    ttft = figures.latencies.get("ttft")
    if ttft is not None and ttft.p95_with_misses != ttft.p95 and figures.ok < figures.offered:
        never = "never" if ttft.p95_with_misses is None else duration(ttft.p95_with_misses)
        lines.append(f"TTFT p95 with those refused or failed counted as never served: {never}")
    return Padding(Text("\n".join(lines)), (0, 0, 0, 4))


def overview(run: Run, *, width: int) -> RenderableType:
    """A row for each level, all classes together."""
    table = Table(
        title="All levels", title_justify="left", title_style="bold", box=None, padding=(0, 1), pad_edge=False
    )
    table.add_column("", no_wrap=True)
    table.add_column("level", overflow="fold")
    columns = ("in SLO", "goodput", "tokens/s", "p95 TTFT", "p95 ITL")
    for name in (*columns, *(("p95 E2E", "misses") if width >= WIDE else ())):
        table.add_column(name, justify="right", no_wrap=name != "misses", overflow="fold")
    for level in run.levels:
        found = standing(level)
        mark = Text(MARKS[found], style=STYLES[found])
        if not level.classes:
            table.add_row(mark, level.name)
            continue
        figures = level.classes[0]
        cells = [
            f"{number(figures.goodput)}/s",
            number(figures.throughput),
            _p95(figures, "ttft"),
            _p95(figures, "itl"),
        ]
        cells += [_p95(figures, "e2e"), misses(figures)] if width >= WIDE else []
        promised = any(has_targets(each) for each in level.classes)
        table.add_row(mark, level.name, share(figures.attainment) if promised else NONE, *cells)
    return Group(table, Text())


def _p95(figures: ClassFigures, part: str) -> str:
    found = figures.latencies.get(part)
    return NONE if found is None else duration(found.p95)
