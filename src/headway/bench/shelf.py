"""``headway bench list``, ``show``, ``compare``, ``workloads``: what was measured before, and what can be asked for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from headway.bench.compare import Change, Comparison, Sureness
from headway.bench.export import read_run
from headway.bench.figures import Run
from headway.bench.record import Record
from headway.bench.report.standing import standing
from headway.bench.report.table import MARKS
from headway.bench.report.wording import duration, number, share, short_name
from headway.bench.store import Store, StoreError
from headway.bench.workload import EXAMPLES, listing, options

STYLES = {Sureness.REAL: "bold", Sureness.NOISE: "dim", Sureness.UNKNOWN: "yellow"}
LEVELS_SHOWN = 6
_LATENCIES = ("ttft", "itl", "chunk_gap", "tpot", "e2e", "stall", "queue", "ttfo")
_BEST_IS_MOST = ("attainment", "goodput", "throughput", "completed")


def find(name: str, store: Path) -> tuple[Run, list[list[Record]]]:
    """A run by its id in the store, or the file that it was written to (which has no single requests).

    Raises ``StoreError`` or ``ExportError``."""
    if name.endswith(".json") or "/" in name:
        run = read_run(Path(name))
        return run, [[] for _ in run.levels]
    if not store.exists():
        raise StoreError(f"no runs are kept in {store}")
    with Store(store) as shelf:
        return shelf.load(name), shelf.records(name)


def run_list(runs: Sequence[Run]) -> RenderableType:
    if not runs:
        return "No runs are kept yet: headway bench URL measures and keeps one."
    table = Table(box=box.SIMPLE)
    for column in ("run", "when (UTC)", "server", "model", "levels", "note"):
        table.add_column(column, overflow="fold")
    for run in runs:
        levels = [f"{MARKS[standing(level)]} {short_name(level)}" for level in run.levels]
        kind = "at once" if run.levels and run.levels[0].load.get("kind") == "closed" else ""
        cells = (
            run.id,
            run.started_at[:16].replace("T", " "),
            f"{run.target.get('engine')}, {str(run.target.get('url')).partition('//')[2]}",
            str(run.target.get("model")),
            f"{'  '.join(levels[:LEVELS_SHOWN])}{' ...' if len(levels) > LEVELS_SHOWN else ''} {kind}",
            run.note,
        )
        table.add_row(*map(Text, cells))  # what others wrote is no markup
    return table


def comparison(found: Comparison) -> RenderableType:
    parts: list[RenderableType] = [Text(f"{found.before} (before), {found.after} (after)", style="bold")]
    parts += [Text(f"! {each}", style="yellow") for each in found.warnings]
    for level in found.levels:
        table = Table(box=box.SIMPLE, title=level.name, title_justify="left", title_style="bold")
        for column in ("", "before", "after", "change", "", "because"):
            table.add_column(column, justify="left" if column in ("", "because") else "right")
        for change in level.changes:
            table.add_row(*map(Text, _cells(change)), style=STYLES[change.sureness])
        parts += [table, *(Padding(Text(f"! {each}", style="yellow"), (0, 2)) for each in level.warnings)]
    parts += [Text(f"Not compared: {each}", style="dim") for each in found.unmatched]
    if not found.levels:
        parts.append(Text("Nothing was compared: run both with a load in common, as --rate 2,4", style="yellow"))
    return Group(*parts)


def _cells(change: Change) -> tuple[str, ...]:
    figure = change.figure.replace("_", " ")
    name = f"{figure} ({change.service_class})" if change.service_class else figure
    kind = change.figure.split(" ")[0]
    if kind in _LATENCIES:
        before, after = duration(change.before), duration(change.after)
    elif kind == "attainment":
        before, after = share(change.before), share(change.after)
    else:
        before, after = number(change.before), number(change.after)
    ratio = "" if change.ratio is None else f"{100 * (change.ratio - 1):+.1f} %"
    verdict_said: str = change.sureness
    if change.sureness is Sureness.REAL and change.ratio is not None and change.ratio != 1.0:
        is_more = change.ratio > 1.0
        verdict_said = "better" if is_more == (kind in _BEST_IS_MOST) else "worse"
    return name, before, after, ratio, verdict_said, change.why


def workloads() -> RenderableType:
    table = Table(box=box.SIMPLE, show_header=False)
    for name, text in listing().items():
        table.add_row(f"[bold]{name}[/]", text)
    parts: list[RenderableType] = ["Workloads for --workload NAME or NAME:key=value,key=value:", table]
    for family, keys in options().items():
        table = Table(box=box.SIMPLE, show_header=False, title=family, title_justify="left", title_style="bold")
        for key, text in keys.items():
            table.add_row(key, text)
        parts.append(table)
    parts.append(Group("For example:", *(Text(f"  --workload '{each}'") for each in EXAMPLES)))
    return Group(*parts)


def show(run: Run, console: Console) -> None:
    from headway.bench.report.table import print_run

    console.print(f"{run.id}: {run.command}", highlight=False, markup=False)
    print_run(console, run)
