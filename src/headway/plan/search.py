"""The search for the cheapest set-up that keeps the promise.

Every set-up is screened by closed formulas. Those that are left are simulated in order of the least that they can
cost: first one replica with its share of the load, which tells how many are needed. Whatever can't cost less than the
options found so far is left out. Then the cheapest are simulated whole, replicas behind their router, with the largest
load that they keep, and if all of those rest on what nobody measured, the cheapest that does not; the what-ifs come
last.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Protocol

from headway.plan.candidate import NO_PRICE, Candidate, rejected, setups, smallest_said
from headway.plan.front import front
from headway.plan.outcome import Cost, Forecast, Option, Plan, Rejected, WhatIf, Why
from headway.plan.pool import Pool, cpu_s
from headway.plan.predictor import Detailed, Predictor, Sized
from headway.plan.question import Change, Question
from headway.plan.records import PARTS_SAID, asked_record, load_record, ms, option_record, percent, what_if_said
from headway.plan.setup import Setup
from headway.plan.standing import Level

OPTIONS = 5
"""Options that are simulated whole, and shown."""
OPTIONS_QUICK = 3
SLACK = 0.95
"""A set-up is left out where even this share of its least cost is above the dearest of the options."""
SECOND_LOOKS = 2
"""Set-ups that a what-if is tried on beside the winner."""

MakePredictor = Callable[[Question], Predictor]


class Progress(Protocol):
    def step(self, what: str, done: int, of: int) -> None: ...


@dataclass(slots=True)
class _Found:
    sized: list[Sized] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    simulated: int = 0


def search(
    question: Question,
    make_predictor: MakePredictor,
    pool: Pool,
    progress: Progress,
    *,
    options: int = OPTIONS,
    clock: Callable[[], float] = time.monotonic,
    cpu: Callable[[], float] = cpu_s,
) -> Plan:
    """Raises ``PlanError`` for what can't be asked. A plan without options says in ``best_effort`` what is closest."""
    began_s, spent_s = clock(), cpu()
    predictor = make_predictor(question)
    found = _Found()
    candidates, considered = _screen(question, predictor, found)
    _size(candidates, question.demand.rate, predictor, pool, progress, found, options)
    detailed = _detail(predictor, pool, progress, found, options)
    what_ifs = _what_ifs(question, make_predictor, detailed, candidates, pool, progress, found)
    return Plan(
        asked=asked_record(question),
        options=tuple(option_record(each, question) for each in detailed),
        front=front(candidates, question),
        rejected=tuple(sorted(found.rejected, key=lambda each: (each.gpu, each.tp, each.precision))),
        what_ifs=what_ifs,
        best_effort=None if detailed else _best_effort(question, found.rejected),
        notes=tuple(f"{note[:1].upper()}{note[1:]}." for note in (*question.demand.notes, *question.notes)),
        cost=Cost(
            wall_s=clock() - began_s,
            cpu_s=cpu() - spent_s + pool.cpu_s(),
            processes=pool.processes,
            considered=considered,
            simulated_requests=found.simulated,
        ),
    )


def _screen(question: Question, predictor: Predictor, found: _Found) -> tuple[list[Candidate], int]:
    """Candidates, the one that can be cheapest first; and how many set-ups there were."""
    candidates: list[Candidate] = []
    considered = 0
    for setup in setups(question):
        considered += 1
        screened = predictor.screen(setup)
        if isinstance(screened, Candidate):
            candidates.append(screened)
        else:
            found.rejected.append(screened)
    rate = question.demand.rate
    return sorted(candidates, key=lambda each: each.cost(each.bounds.replicas_at_least(rate))), considered


def _size(
    candidates: list[Candidate],
    rate: float,
    predictor: Predictor,
    pool: Pool,
    progress: Progress,
    found: _Found,
    options: int,
) -> None:
    """Simulated in order of their least cost, until none that is left can be among the options."""
    left = list(candidates)
    count = 0
    while left or pool.waiting:
        while left and pool.waiting < pool.processes:
            candidate = left.pop(0)
            least = candidate.bounds.replicas_at_least(rate)
            if SLACK * candidate.cost(least) > _limit(found.sized, options, candidate):
                found.rejected.append(_dearer(candidate, least))
                continue
            pool.submit(candidate, predictor.size, candidate)
        for _, sized in pool.done():
            count += 1
            if isinstance(sized, Rejected):
                found.rejected.append(sized)
            else:
                found.sized.append(sized)
                found.simulated += sized.simulated
        progress.step("set-ups simulated", count, count + len(left) + pool.waiting)


def _limit(sized: list[Sized], options: int, candidate: Candidate) -> float:
    """What the dearest of the options costs that there will be at least; endless before there are as many, and for
    what is supported before one of them is."""
    if _is_supported(candidate) and not any(_is_supported(each.candidate) for each in sized):
        return float("inf")
    costs = sorted(each.candidate.cost(each.replicas) for each in sized)
    return costs[options - 1] if len(costs) >= options else float("inf")


def _is_supported(candidate: Candidate) -> bool:
    return candidate.standing.level is Level.SUPPORTED


def _dearer(candidate: Candidate, least: int) -> Rejected:
    cost = candidate.cost(least)
    said = f"${cost:,.2f} an hour" if cost < NO_PRICE else f"{least * candidate.setup.tp} GPUs"
    reason = f"costs {said} at least, by closed formulas: more than the options"
    return rejected(candidate.setup, Why.DEARER, reason, least)


def _detail(predictor: Predictor, pool: Pool, progress: Progress, found: _Found, options: int) -> list[Detailed]:
    """The cheapest options, whole, and the cheapest that is supported. One that turns out not to keep it makes room for
    the next."""
    queue = sorted(found.sized, key=lambda each: (each.candidate.cost(each.replicas), each.replicas))
    detailed: list[Detailed] = []
    while queue or pool.waiting:
        while queue and len(detailed) + pool.waiting < options:
            sized = queue.pop(0)
            pool.submit(sized, _detail_one, predictor, sized, True)
        if not pool.waiting:
            sure = [] if any(_is_supported(each.candidate) for each in detailed) else queue
            sized_sure = next((each for each in sure if _is_supported(each.candidate)), None)
            if sized_sure is None:
                break
            queue.remove(sized_sure)
            pool.submit(sized_sure, _detail_one, predictor, sized_sure, True)
        for _, one in pool.done():
            if isinstance(one, Rejected):
                found.rejected.append(one)
            else:
                detailed.append(one)
                found.simulated += one.simulated
        progress.step("options simulated whole", len(detailed), len(detailed) + pool.waiting)
    found.rejected += [_dearer(each.candidate, each.replicas) for each in queue]
    return sorted(detailed, key=_rank)


def _rank(each: Detailed) -> tuple[float, float]:
    """The cheaper first, and of two that cost the same the one that has more room."""
    return each.candidate.cost(each.replicas), -each.capacity.value * each.replicas


def _detail_one(predictor: Predictor, sized: Sized, finds_capacity: bool) -> Detailed | Rejected:
    return predictor.detail(sized, finds_capacity=finds_capacity)


# What-ifs.


def _what_ifs(
    question: Question,
    make_predictor: MakePredictor,
    detailed: list[Detailed],
    candidates: list[Candidate],
    pool: Pool,
    progress: Progress,
    found: _Found,
) -> tuple[WhatIf, ...]:
    """The winner under each change, and the cheapest of some set-ups that would keep it."""
    if not detailed:
        return ()
    winner = detailed[0]
    others = _others(winner, detailed, candidates)
    asked = [replace(question, demand=change.of(question.demand), changes=()) for change in question.changes]
    for number, each in enumerate(asked):
        predictor = make_predictor(each)
        pool.submit((number, True), predictor.forecast, winner.candidate, winner.replicas)
        for setup in [winner.candidate.setup, *others]:
            pool.submit((number, False), _needed, predictor, setup)
    forecasts: dict[int, Forecast] = {}
    needed: list[list[Detailed]] = [[] for _ in asked]
    total = pool.waiting
    while pool.waiting:
        for (number, is_winner), result in pool.done():
            if is_winner:
                forecasts[number] = result
            elif isinstance(result, Detailed):
                needed[number].append(result)
                found.simulated += result.simulated
        progress.step("what-ifs simulated", total - pool.waiting, total)
    return tuple(
        _what_if(change, asked[number], forecasts[number], winner, needed[number])
        for number, change in enumerate(question.changes)
    )


def _others(winner: Detailed, detailed: list[Detailed], candidates: list[Candidate]) -> list[Setup]:
    """Set-ups beside the winner's that may be needed: the next best, and others that bound says serve most a dollar."""
    rest = [each.candidate for each in detailed[1:]] + sorted(
        candidates, key=lambda each: each.cost(1) / each.bounds.rate_max
    )
    found: list[Setup] = []
    for each in rest:
        if each.setup != winner.candidate.setup and each.setup not in found:
            found.append(each.setup)
    return found[:SECOND_LOOKS]


def _needed(predictor: Predictor, setup: Setup) -> Detailed | Rejected:
    """The same set-up with as many replicas as another load takes."""
    candidate = predictor.screen(setup)
    sized = predictor.size(candidate) if isinstance(candidate, Candidate) else candidate
    return predictor.detail(sized, finds_capacity=False) if isinstance(sized, Sized) else sized


def _what_if(change: Change, asked: Question, forecast: Forecast, winner: Detailed, needed: list[Detailed]) -> WhatIf:
    best = min(needed, key=_rank, default=None)
    option: Option | None = None if best is None else option_record(best, asked)
    return WhatIf(
        asked=change.text,
        load=load_record(asked.demand),
        winner=forecast,
        keeps=forecast.keeps,
        needed=option,
        said=what_if_said(forecast, winner.replicas * winner.candidate.setup.tp, option, "--max-gpus"),
    )


# Where nothing keeps it.


def _best_effort(question: Question, found: list[Rejected]) -> str:
    """One line on what comes closest."""
    too_many = [each for each in found if each.why is Why.TOO_MANY]
    known = [each for each in too_many if each.gpus is not None and each.gpus > question.max_gpus]
    if known and len(known) == len(too_many):
        best = min(known, key=lambda each: (each.gpus or 0, each.usd_per_hour or NO_PRICE))
        return (
            f"--max-gpus {question.max_gpus} is too few for {question.demand.rate:g} requests/s: {best.gpus} x "
            f"{best.gpu} in {best.precision} are the least that could do"
        )
    if too_many:
        best = next(each for each in too_many if each not in known)
        return f"no number of GPUs up to --max-gpus {question.max_gpus} keeps it; on {best.gpu}, {best.reason}"
    slow = [each for each in found if each.why is Why.TOO_SLOW and each.least_s is not None]
    if slow:
        best = min(slow, key=lambda each: each.least_s or 0.0)
        part, least = best.part or "", ms(best.least_s or 0.0)
        which = "machine" if len(question.gpus) > 1 else question.gpus[0].name
        return (
            f"the promised {PARTS_SAID[part]} is broken on every idle {which}; the best possible is {least} "
            f"({best.tp} x {best.gpu} in {best.precision}, for {percent(question.target)} of the requests)"
        )
    unsupported = [each for each in found if each.why is Why.UNSUPPORTED]
    if unsupported and len(unsupported) == len(found):
        return unsupported[0].reason
    return smallest_said(question)
