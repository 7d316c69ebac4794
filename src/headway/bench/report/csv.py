"""Rows for a spreadsheet: one for each level and class, in seconds, with every figure."""

from __future__ import annotations

import csv
import io

from headway.bench.export import plain
from headway.bench.figures import DEFINITIONS, ClassFigures, Level, Quantiles, Run
from headway.bench.record import Outcome
from headway.bench.report.standing import class_standing, standing

_RATES_AND_COUNTS = ("throughput", "attainment", "goodput")
PARTS = tuple(name for name in DEFINITIONS if name not in _RATES_AND_COUNTS)
QUANTILES = tuple(Quantiles.__struct_fields__)
FIGURES = tuple(name for name in ClassFigures.__struct_fields__ if name not in ("name", "misses", "latencies"))
MISSES = ("ttft", "itl", "e2e", *(str(each) for each in Outcome if each is not Outcome.OK))
COLUMNS = (
    *("run", "started_at", "engine", "model", "level", "state", "class", "standing", "class_standing", "window_s"),
    *FIGURES,
    *(f"misses_{cause}" for cause in MISSES),
    *(f"{part}_{name}" if name == "n" else f"{part}_{name}_s" for part in PARTS for name in QUANTILES),
    *("client_cpu_share", "client_slip_p99_s", "client_lag_p99_s", "client_bound"),
)


def rows(run: Run) -> str:
    """With a heading. What is missing is empty; a text that a spreadsheet would take for a formula is not one."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for level in run.levels:
        for figures in level.classes:
            writer.writerow([plain(each) for each in _row(run, level, figures)])
    return out.getvalue()


def _row(run: Run, level: Level, figures: ClassFigures) -> list[object]:
    row: list[object] = [run.id, run.started_at, run.target.get("engine"), run.target.get("model")]
    row += [level.name, level.state, figures.name or "all", str(standing(level)), str(class_standing(figures))]
    row.append(level.window_s[1] - level.window_s[0])
    row += [getattr(figures, name) for name in FIGURES]
    row += [figures.misses.get(cause, 0) for cause in MISSES]
    for part in PARTS:
        found = figures.latencies.get(part)
        row += [None if found is None else getattr(found, name) for name in QUANTILES]
    client = level.client
    return [*row, client.cpu_share, client.slip_p99_s, client.lag_p99_s, client.bound]
