"""The load that a plan is for: a workload as ``headway bench`` writes it, turned into calls of the simulator.

A trace keeps its pattern of arrivals and is stretched to the rate; requests that are drawn come as Poisson, or in
bursts. Where requests of a bench run were recorded, they are a trace like any other.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import chain, islice

from headway.bench.drawn import Drawn
from headway.bench.listed import Listed
from headway.bench.replay import Replay as BenchReplay
from headway.bench.tokens import Tokens, Words, WordTokens
from headway.bench.tokens_local import bundled
from headway.bench.workload import listing, parse
from headway.bench.workload_interface import TEMPLATE_TOKENS
from headway.bench.workload_options import split_spec
from headway.plan.errors import PlanError
from headway.plan.recorded import RUN, recorded_rows
from headway.plan.sources import BLOCK_ROWS, STRATA, Blocks, CallSource, DrawnSource
from headway.policy.slo import Objective, ServiceClass
from headway.sim.arrivals import Gamma, Poisson, Process, Steady
from headway.sim.traces import Replay, Row
from headway.sim.workload import Call, Size, Source, Traffic, Workload
from headway.sim.workloads import descriptions, named

DEFAULT_CLASS = "conversational"
SAMPLE = 2000
"""Calls that means are taken over."""
FIT_SHARE_MIN = 0.5
"""Where fewer of the requests fit the model's context, they are another workload."""
RATE_MIN, RATE_MAX = 1e-3, 100_000.0
_TEXTS = ("sharegpt", "jsonl")


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """A workload at ``rate`` requests a second. ``name``: as it was written."""

    name: str
    description: str
    workload: Workload
    rate: float
    notes: tuple[str, ...] = ()

    def sample(self) -> tuple[Call, ...]:
        return tuple(islice(self.workload.calls(Steady(self.rate), 0), SAMPLE))

    def calls(self, seeds: int, requests: int) -> tuple[Call, ...]:
        """So many of each seed, as they come at one a second."""
        drawn = (islice(self.workload.calls(Steady(1.0), seed), requests) for seed in range(1, seeds + 1))
        return tuple(chain.from_iterable(drawn))

    def too_long(self, context: int) -> float:
        """Share of the requests that are longer than a model's context, prompt and answer together."""
        calls = self.sample()
        return sum(call.size.prompt_tokens + call.size.output_tokens > context for call in calls) / len(calls)

    @property
    def promises(self) -> Mapping[str, Objective]:
        """Of the classes that are promised something."""
        return {kind.service_class: kind.objective for kind in self.workload.traffic if not kind.objective.is_empty}

    def with_objectives(self, change: Mapping[str, Objective]) -> Demand:
        traffic = tuple(
            replace(kind, objective=change.get(kind.service_class, kind.objective)) for kind in self.workload.traffic
        )
        return replace(self, workload=replace(self.workload, traffic=traffic))


@dataclass(frozen=True, slots=True)
class _Read:
    """Kinds of traffic, without promises (class "" where none was named); the trace's own rate, if it has one."""

    traffic: tuple[Traffic, ...]
    description: str
    rate: float | None = None
    notes: tuple[str, ...] = ()
    is_timed: bool = False


def read_demand(
    spec: str,
    *,
    rate: float | None,
    cv: float | None,
    classes: Mapping[str, ServiceClass],
    promised: tuple[str, ...],
    context: int,
) -> Demand:
    """What ``spec`` names: one of ``workloads()``. ``rate``: None for that of the trace. ``cv``: of the gaps between
    requests that are drawn; None for Poisson. ``promised``: the classes whose promise was given; others have that of
    the workload, if it has one, or of ``classes``. ``context``: of the model, in tokens. Raises ``PlanError``."""
    try:
        read = _read(spec, Poisson() if cv is None else Gamma(cv), context)
    except PlanError:
        raise
    except ValueError as error:
        raise PlanError(f"--workload {spec}: {error}" if str(error).startswith("there is no") else str(error)) from None
    if cv is not None and read.is_timed:
        raise PlanError(f"--cv is for requests that are drawn; {spec} has its own times")
    if rate is None and read.rate is None:
        raise PlanError(f"say how many requests a second come, as --rate 20: {spec} has no times of its own")
    traffic = _promised(read.traffic, spec, classes, promised)
    workload = Workload(name=spec, description=read.description, traffic=traffic)
    demand = Demand(
        name=spec,
        description=read.description,
        workload=workload,
        rate=float(rate if rate is not None else read.rate or 0.0),
        notes=read.notes if rate is not None else (*read.notes, f"{read.rate:.3g} requests a second, as in the trace"),
    )
    if not demand.promises:
        raise PlanError("nothing is promised, so there is nothing to keep: give --slo conversational:ttft=300,itl=100")
    return demand


def workloads() -> dict[str, str]:
    """What there is: a line for each name."""
    own = {f"{RUN}:ID": "what was asked in a run of `headway bench` (its id, or latest): times and lengths"}
    return listing() | {name: text for name, text in descriptions().items() if name not in listing()} | own


def _promised(
    traffic: tuple[Traffic, ...], spec: str, classes: Mapping[str, ServiceClass], promised: tuple[str, ...]
) -> tuple[Traffic, ...]:
    """Requests of no class belong to the one class that was promised something, else to the default one."""
    default = promised[0] if len(promised) == 1 else DEFAULT_CLASS
    found = []
    for kind in traffic:
        name = kind.service_class or default
        if name not in classes:
            raise PlanError(f"{spec}: there is no service class {name!r}; there are {', '.join(classes)}")
        known = classes[name]
        own = kind.objective if name not in promised and not kind.objective.is_empty else known.objective
        found.append(replace(kind, service_class=name, objective=own, weight=known.weight))
    for name in promised:
        if name not in {kind.service_class for kind in found}:
            has = ", ".join(dict.fromkeys(kind.service_class for kind in found))
            raise PlanError(f"--slo {name}: no request of {spec} is of that class; it has {has}")
    return tuple(found)


def _read(spec: str, process: Process, context: int) -> _Read:
    options = split_spec(spec)
    name = options.name
    if name == RUN:
        return _recorded(spec, process, context)
    if name in descriptions() and name not in listing():
        if options.given or options.file:
            raise PlanError(f"{name} takes no options; `headway plan workloads` lists those that do")
        return _Read(named(name).traffic, descriptions()[name], is_timed=True)
    tokens: Tokens = bundled() if name in _TEXTS else _LENGTHS_ALONE
    parsed = parse(spec, tokens, api="chat", context=context)
    if isinstance(parsed, Drawn):
        return _drawn(parsed, process)
    promise = named(name).traffic[0].objective if name in descriptions() and not options.file else Objective()
    if isinstance(parsed, BenchReplay):
        return _replayed(parsed, spec, promise, context)
    assert isinstance(parsed, Listed), "a workload of no known kind"
    return _listed(parsed, process, context)


def _drawn(drawn: Drawn, process: Process) -> _Read:
    if any(kind.is_conversation for kind in drawn.kinds):
        raise PlanError(
            f"{drawn.name}: when a turn comes depends on the answer before it, which can't be planned; add turns=1, or "
            f"record it with `headway bench` and give {RUN}:latest"
        )
    total = sum(kind.share for kind in drawn.kinds)
    traffic = tuple(
        Traffic(
            source=DrawnSource(kind, process, number),
            service_class=kind.service_class,
            share=kind.share / total,
        )
        for number, kind in enumerate(drawn.kinds)
    )
    said = "; ".join(f"{kind.input} in, {kind.output} out" for kind in drawn.kinds)
    return _Read(traffic, said, is_timed=False)


def _replayed(parsed: BenchReplay, spec: str, promise: Objective, context: int) -> _Read:
    rows = [
        Row(row.arrived_s, Size(row.prompt_tokens, row.output_tokens, row.blocks, parsed.block_tokens))
        for row in parsed.rows
    ]
    kept, dropped = _fitting(spec, rows, context)
    traffic = _timed(spec, {parsed.service_class: kept})
    traffic = tuple(replace(kind, objective=promise) for kind in traffic)
    notes = _left_out(parsed.left_out + dropped)
    if isinstance(traffic[0].source, Blocks):
        notes.append(f"each run takes stretches of {BLOCK_ROWS} requests from all over the trace")
    return _Read(traffic, listing().get(spec.partition(":")[0], "a trace"), parsed.rate, tuple(notes), is_timed=True)


def _listed(parsed: Listed, process: Process, context: int) -> _Read:
    if any(call.turns for call in parsed.items):
        raise PlanError(f"{parsed.name}: conversations of several turns can't be planned; add turns=1")
    rows = [Row(call.at_s or 0.0, Size(call.prompt_tokens, call.max_tokens)) for call in parsed.items]
    names = [call.service_class for call in parsed.items]
    by_class: dict[str, list[Row]] = {}
    for row, name in zip(rows, names, strict=True):
        by_class.setdefault(name, []).append(row)
    notes = ("lengths are counted with the bundled tokenizer; answers are taken to be as long as they may be",)
    if parsed.rate is not None:
        return _Read(_timed(parsed.name, by_class), "a file of requests", parsed.rate, notes, is_timed=True)
    traffic = tuple(
        Traffic(
            source=CallSource(tuple(row.size for row in rows), process),
            service_class=name,
            share=len(rows) / len(names),
        )
        for name, rows in by_class.items()
    )
    return _Read(traffic, "a file of requests", None, notes)


def _recorded(spec: str, process: Process, context: int) -> _Read:
    found = recorded_rows(spec)
    fitting = {name: _fitting(spec, rows, context) for name, rows in found.rows.items()}
    rows = {name: kept for name, (kept, _) in fitting.items()}
    total = sum(len(each) for each in rows.values())
    notes = (*found.notes, *_left_out(sum(dropped for _, dropped in fitting.values())))
    if found.is_open:
        return _Read(_timed(spec, rows), found.description, found.rate, notes, is_timed=True)
    traffic = tuple(
        Traffic(
            source=CallSource(tuple(row.size for row in each), process), service_class=name, share=len(each) / total
        )
        for name, each in rows.items()
    )
    return _Read(traffic, found.description, None, notes)


def _left_out(requests: int) -> list[str]:
    return [f"{requests:,} requests that the model's context can't hold were left out"] if requests else []


def _timed(spec: str, by_class: Mapping[str, list[Row]]) -> tuple[Traffic, ...]:
    total = sum(len(rows) for rows in by_class.values())
    for rows in by_class.values():
        if len(rows) < 2 or rows[0].arrived_s == max(row.arrived_s for row in rows):
            raise PlanError(f"{spec}: a trace needs two requests at different times, at least, of each class")
    return tuple(
        Traffic(source=_source(tuple(rows)), service_class=name, share=len(rows) / total)
        for name, rows in by_class.items()
    )


def _source(rows: tuple[Row, ...]) -> Source:
    """In stretches from all over a long trace; in one piece where requests share prefixes with earlier ones."""
    if len(rows) < BLOCK_ROWS * STRATA or any(row.size.prefix for row in rows):
        return Replay(rows)
    return Blocks(rows)


def _fitting(spec: str, rows: list[Row], context: int) -> tuple[list[Row], int]:
    """Those that fit the context beside the longest answer, since any may be that long; and how many do not."""
    longest = max((row.size.output_tokens for row in rows), default=0)
    kept = [row for row in rows if row.size.prompt_tokens + longest + TEMPLATE_TOKENS <= context]
    if len(kept) < FIT_SHARE_MIN * len(rows):
        raise PlanError(
            f"{spec}: only {len(kept):,} of its {len(rows):,} requests fit the model's context of {context:,} tokens "
            f"beside an answer of {longest:,}; give scale=0.5 or less, or a model with a longer context"
        )
    return kept, len(rows) - len(kept)


def _no_text(_: str) -> list[int]:
    raise AssertionError("a plan makes no texts")


_LENGTHS_ALONE = WordTokens("lengths alone", _no_text, Words((), ()), is_exact=True)


def rate_of(text: str) -> float:
    """Requests a second as a person writes them. Raises ``PlanError``."""
    try:
        rate = float(text)
    except ValueError:
        raise PlanError(f"--rate is a number of requests a second, as --rate 20, not {text!r}") from None
    if math.isnan(rate) or rate < RATE_MIN:
        raise PlanError(f"--rate must be at least {RATE_MIN:g} requests a second, not {text}")
    if rate > RATE_MAX:
        raise PlanError(f"--rate {text}: at most {RATE_MAX:,.0f} requests a second; tokens a second are not meant")
    return rate
