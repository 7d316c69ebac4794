"""A run of ``headway bench`` as a load: when requests were meant to come, and how long they were."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from headway.bench.store import LATEST, Store, StoreError, default_path
from headway.bench.workload_options import split_spec
from headway.plan.errors import PlanError
from headway.sim.traces import Row
from headway.sim.workload import Size

RUN = "run"


@dataclass(frozen=True, slots=True)
class Recorded:
    """Rows by service class, "" for none. ``is_open``: their times were planned, not given by how fast the server
    was."""

    rows: Mapping[str, list[Row]]
    description: str
    rate: float
    is_open: bool
    notes: tuple[str, ...]


def recorded_rows(spec: str, store: Path | None = None) -> Recorded:
    """``run:ID``, ``run:latest``, ``run:ID,level=2`` (counted from 1; the last if not given). Raises ``PlanError``."""
    options = split_spec(spec)
    level = options.integer("level", 0, least=0, most=10_000)
    name = options.file or LATEST
    options.finish(takes_file=True)
    path = store or default_path()
    if not path.exists():
        raise PlanError(f"{spec}: there is no store of runs at {path}; `headway bench` makes one")
    try:
        with Store(path) as opened:
            run, levels = opened.load(name), opened.records(name)
    except StoreError as error:
        raise PlanError(str(error)) from None
    if not levels or level > len(levels):
        raise PlanError(f"{spec}: run {run.id} has {len(levels)} levels")
    records, load = levels[level - 1], run.levels[level - 1].load
    by_class: dict[str, list[Row]] = {}
    for record in sorted(records, key=lambda each: each.intended_s):
        size = Size(record.usage_prompt or record.prompt_tokens, record.tokens or record.max_tokens)
        if size.prompt_tokens > 0 and size.output_tokens > 0:
            by_class.setdefault(record.service_class, []).append(Row(record.intended_s, size))
    times = [row.arrived_s for rows in by_class.values() for row in rows]
    if len(times) < 2:
        raise PlanError(f"{spec}: run {run.id} has {len(times)} requests with a prompt and an answer; two are needed")
    span_s = max(times) - min(times)
    is_open = load.get("kind") == "open" and span_s > 0.0
    notes = () if is_open else ("the run was a closed loop: its lengths are used, and arrivals are drawn",)
    description = f"{len(times):,} requests of run {run.id} of {run.started_at}"
    return Recorded(by_class, description, (len(times) - 1) / span_s if is_open else 0.0, is_open, notes)
