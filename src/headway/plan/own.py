"""A plan for a machine as its own server came to know it: the rate that it keeps, its p95s, what binds it, and how many
such machines a load takes. The scheduler decides by the step times that the server itself decides by."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import msgspec

from headway.plan.binding import alone_late, binding
from headway.plan.bounds import USABLE, Bounds, bounds
from headway.plan.forecast import Forecaster
from headway.plan.learned import LearnedMachine
from headway.plan.load import Demand
from headway.plan.outcome import Asked, Binding, Cost, Figure, Forecast, ModelRecord, Option, Plan, Point, WhatIf
from headway.plan.pool import cpu_s
from headway.plan.question import Change
from headway.plan.records import PARTS_SAID, load_record, ms, percent, rate_said, trust_record, what_if_said
from headway.plan.search import Progress
from headway.plan.sizing import Sizing
from headway.plan.standing import Band, Level, Standing
from headway.policy.plan import ExecutorInfo
from headway.policy.policies import build, default_step_tokens
from headway.policy.scheduler import Scheduler, SchedulerConfig
from headway.policy.slo import TARGET_ATTAINMENT
from headway.policy.steptime import StepTimeModel
from headway.sim.capacity import capacity
from headway.simulate import PREFIX_KEY

NAME = "this-machine"
_SOURCE = (
    "the extremes of twenty loads: two models and two engines on a machine with two cores (benchmarks plan itself, "
    "2026-11-30)"
)
STANDING = Standing(
    level=Level.SUPPORTED,
    tpot=Band(0.91, 1.43, _SOURCE),
    throughput=Band(0.87, 1.03, _SOURCE),
    ttft=Band(0.85, 1.66, _SOURCE),
)
"""How far a server was from what its own step times foretold: p95 between tokens, goodput, p95 to the first token."""
WIDEST = 8.0
"""Times the closed bound is above the first rate that is tried."""
LOWERED_MAX = 4
"""Times the rate is lowered where one seed keeps it and all of them together don't."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnQuestion:
    """``rate``: requests a second in all; None for the most that one machine keeps. ``request_s``: what a request takes
    beside steps. ``most``: machines there may be."""

    machine: LearnedMachine
    demand: Demand
    rate: float | None
    request_s: float
    policy: str = "headway"
    router: str = "least-ttft"
    target: float = TARGET_ATTAINMENT
    most: int = 1
    seeds: int = 3
    requests: int = 500
    tolerance: float = 0.08
    changes: tuple[Change, ...] = ()
    notes: tuple[str, ...] = ()


EDGE_S = 26e-6
"""Of one core, a streamed token: what HTTP was measured to take (README, How well, how fast)."""
EDGE_SHARE_MAX = 0.2
"""Of one core. Above it HTTP and steps may slow each other more than the step times know."""


class _NoAnswer(Exception):
    """Why, in one line."""


def plan_own(
    question: OwnQuestion,
    progress: Progress,
    *,
    clock: Callable[[], float] = time.monotonic,
    cpu: Callable[[], float] = cpu_s,
) -> Plan:
    """A plan with one option; or with none, and in ``best_effort`` why not. Raises ``PlanError`` for a change that
    leads to what can't be."""
    began_s, spent_s = clock(), cpu()
    total, simulated = len(question.changes) + 1, 0
    demand, option, what_ifs, reason = question.demand, None, [], None
    progress.step("loads simulated", 0, total)
    try:
        one = _Machines(question, demand)
        demand = one.demand = one.at_its_most() if question.rate is None else replace(demand, rate=question.rate)
        option = one.option(finds_capacity=True)
        simulated += one.forecaster.simulated
    except _NoAnswer as error:
        reason = str(error)
    for number, change in enumerate(question.changes if option is not None else ()):
        progress.step("loads simulated", number + 1, total)
        assert option is not None
        changed = _Machines(question, change.of(demand))
        what_ifs.append(changed.what_if(change, option))
        simulated += changed.forecaster.simulated
    return Plan(
        asked=_asked(question, demand),
        options=() if option is None else (option,),
        front=(),
        rejected=(),
        what_ifs=tuple(what_ifs),
        best_effort=reason,
        notes=tuple(f"{note[:1].upper()}{note[1:]}." for note in (*demand.notes, *question.notes, *edge_notes(option))),
        cost=Cost(
            wall_s=clock() - began_s,
            cpu_s=cpu() - spent_s,
            processes=1,
            considered=1,
            simulated_requests=simulated,
        ),
    )


def edge_notes(option: Option | None) -> tuple[str, ...]:
    if option is None:
        return ()
    tokens_per_s = option.forecast.tokens_per_s.value / option.replicas
    share = tokens_per_s * EDGE_S
    if share < EDGE_SHARE_MAX:
        return ()
    return (
        f"{tokens_per_s:,.0f} tokens/s a machine take about {percent(share)} of a core for HTTP, which step times "
        "don't include: measure with headway bench before you rely on it",
    )


class _Machines:
    """So many of the machine as a load takes."""

    def __init__(self, question: OwnQuestion, demand: Demand) -> None:
        self.demand = demand
        self._question = question
        self._calls = demand.calls(question.seeds, question.requests)
        self._bounds = bounds(question.machine, self._calls, target=question.target, request_s=question.request_s)
        self.forecaster = _forecaster(question, demand, self._bounds)

    def at_its_most(self) -> Demand:
        """At the largest rate that one machine keeps. Raises ``_NoAnswer``."""
        self._check()
        question, most = self._question, USABLE * self._bounds.rate_max
        attained = self.forecaster.attainment
        rate = capacity(attained, most / WIDEST, most, target=question.target, tolerance=question.tolerance).rate
        for _ in range(LOWERED_MAX if rate else 0):
            if self.forecaster.forecast(rate, 1).keeps:
                return replace(self.demand, rate=rate)
            rate /= 1.0 + question.tolerance
        raise _NoAnswer(f"no rate is kept; of those tried {self._best()}")

    def option(self, *, finds_capacity: bool) -> Option:
        """Raises ``_NoAnswer``."""
        self._check()
        question, rate = self._question, self.demand.rate
        sizing = Sizing(
            forecaster=self.forecaster,
            bounds=self._bounds,
            rate=rate,
            target=question.target,
            most=question.most,
            tolerance=question.tolerance,
        )
        first = sizing.replicas()
        forecast = None if first is None else sizing.together(first)
        if forecast is None:
            raise _NoAnswer(
                f"up to {question.most} machines (--machines) don't keep {rate_said(rate)} requests/s: {self._best()}"
            )
        least = rate / forecast.replicas
        found = sizing.capacity(least) if finds_capacity else None
        at = forecast if found is None or found.value <= 1.02 * least else self.forecaster.forecast(found.value, 1, 1)
        late = alone_late(self._calls, question.machine, question.request_s)
        return _option(
            forecast,
            until=rate if found is None else max(rate, found.value * forecast.replicas),
            capacity=found or Figure(least),
            is_at_least=found is None,
            binding=binding(at, self.demand.promises, late, question.target),
            points=tuple(point for point, _ in self.forecaster.tried),
        )

    def what_if(self, change: Change, winner: Option) -> WhatIf:
        forecast = self.forecaster.forecast(self.demand.rate, winner.replicas)
        if winner.replicas < self._bounds.replicas_at_least(self.demand.rate):
            forecast = msgspec.structs.replace(forecast, keeps=False, is_beyond=True)
        try:
            needed = self.option(finds_capacity=False)
        except _NoAnswer:
            needed = None
        return WhatIf(
            asked=change.text,
            load=load_record(self.demand),
            winner=forecast,
            keeps=forecast.keeps,
            needed=needed,
            said=what_if_said(forecast, winner.gpus, needed, "--machines"),
        )

    def _check(self) -> None:
        if self._bounds.broken:
            name, part, least_s, promised_s = self._bounds.broken[0]
            raise _NoAnswer(
                f"{PARTS_SAID[part]} of {name} is {ms(least_s)} on the idle machine for those requests that "
                f"count ({percent(self._question.target)} of them), and {ms(promised_s)} is promised"
            )
        info = self._question.machine.info
        held = info.kv_blocks * info.block_size
        if held < max(call.size.prompt_tokens + call.size.output_tokens for call in self._calls):
            raise _NoAnswer(f"the KV cache holds {held:,} tokens: not one long request")

    def _best(self) -> str:
        best = max(self.forecaster.tried, key=lambda each: each[0].attainment, default=None)
        if best is None:
            return "the closed bound is below it"
        return f"{percent(best[0].attainment, 1)} in SLO at best, at {rate_said(best[0].rate)} requests/s a machine"


def _forecaster(question: OwnQuestion, demand: Demand, known: Bounds) -> Forecaster:
    model, config = (
        question.machine.model.to_json(),
        SchedulerConfig(max_step_tokens=default_step_tokens(question.policy)),
    )

    def make(info: ExecutorInfo) -> Scheduler:
        policy = build(question.policy, model=StepTimeModel.from_json(model))
        return Scheduler(info, config, prefix_key=PREFIX_KEY, policy=policy)

    return Forecaster(
        question.machine,
        make,
        demand,
        target=question.target,
        seeds=question.seeds,
        requests=question.requests,
        request_s=question.request_s,
        life_s=known.life_s,
        router=question.router,
        parts=question.machine.parts,
    )


def _option(
    forecast: Forecast,
    *,
    until: float,
    capacity: Figure,
    is_at_least: bool,
    binding: Binding,
    points: tuple[Point, ...],
) -> Option:
    band = STANDING.throughput
    assert band is not None
    return Option(
        gpu=NAME,
        gpu_title="the machine of the step times",
        tp=1,
        replicas=forecast.replicas,
        precision="",
        kv_precision="",
        capacity=capacity,
        is_at_least=is_at_least,
        fits_until=until,
        fits_until_low=until * band.low,
        fits_until_high=until * band.high,
        sure=until * band.low >= forecast.rate,
        forecast=forecast,
        binding=binding,
        trust=trust_record(STANDING),
        memory=None,
        points=points,
    )


def _asked(question: OwnQuestion, demand: Demand) -> Asked:
    machine = question.machine
    return Asked(
        model=ModelRecord(name=machine.description, context_tokens=machine.info.context_tokens, source=machine.source),
        load=load_record(demand),
        gpus=(NAME,),
        max_gpus=question.most,
        precisions=(),
        engine="headway",
        policy=question.policy,
        router=question.router,
        target=question.target,
        seeds=question.seeds,
        requests=question.requests,
        calibration=machine.source,
    )
