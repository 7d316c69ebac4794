"""What a search asks about set-ups, answered by simulating them.

``Predictor`` is the interface; it is handed to other processes, and what it returns does not depend on which.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Protocol

import msgspec

from headway.plan.binding import alone_late, binding
from headway.plan.bounds import bounds
from headway.plan.candidate import Candidate, rejected
from headway.plan.domain import judge
from headway.plan.errors import PlanError
from headway.plan.forecast import Forecaster
from headway.plan.load import Demand
from headway.plan.memory import memory
from headway.plan.outcome import Binding, Figure, Forecast, Point, Rejected, Why
from headway.plan.parts import parts
from headway.plan.question import Question
from headway.plan.records import PARTS_SAID, ms, percent, rate_said
from headway.plan.setup import Setup
from headway.plan.sizing import NEAR, Sizing
from headway.plan.standing import Level
from headway.plan.steptime import GpuMachine, machine
from headway.policy.policies import VLLM_CONFIG, default_step_tokens
from headway.sim.workload import Call
from headway.simulate import scheduler_maker


@dataclass(frozen=True, slots=True, kw_only=True)
class Sized:
    """How many replicas a candidate needs, told from one replica with its share of the load. ``tried``: rates of one
    replica with their points and the intervals of their attainment."""

    candidate: Candidate
    replicas: int
    tried: Mapping[float, tuple[Point, Figure]]
    simulated: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Detailed:
    """All about a candidate with so many replicas. ``capacity``: requests a second that one replica keeps, at least
    where ``is_at_least``. ``keeps_slower``: the load is kept, too, where every step takes as much longer as the error
    band of throughput allows."""

    candidate: Candidate
    replicas: int
    forecast: Forecast
    capacity: Figure
    is_at_least: bool
    binding: Binding
    points: tuple[Point, ...]
    simulated: int
    keeps_slower: bool = True


class Predictor(Protocol):
    """All methods raise nothing for what merely can't be done, and ``PlanError`` for what can't be asked."""

    def screen(self, setup: Setup) -> Candidate | Rejected:
        """Without simulating."""
        ...

    def size(self, candidate: Candidate) -> Sized | Rejected: ...

    def detail(self, sized: Sized, *, finds_capacity: bool) -> Detailed | Rejected:
        """With the cluster behind its router; perhaps with a replica less or more than ``sized`` says."""
        ...

    def forecast(self, candidate: Candidate, replicas: int) -> Forecast:
        """Of a candidate that was screened under another load."""
        ...


@dataclass(frozen=True, slots=True)
class Simulated:
    """By the server's own scheduler in virtual time."""

    question: Question
    _calls: tuple[Call, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        question = self.question
        calls = question.demand.calls(question.seeds, question.requests)
        object.__setattr__(self, "_calls", calls)

    @property
    def demand(self) -> Demand:
        return self.question.demand

    def screen(self, setup: Setup) -> Candidate | Rejected:
        question = self.question
        tokens = default_step_tokens(question.policy)
        try:
            room = memory(setup, tokens)
        except PlanError as error:
            return rejected(setup, Why.NO_MEMORY, str(error))
        standing = judge(setup, tokens)
        if standing.level is Level.UNSUPPORTED:
            return rejected(setup, Why.UNSUPPORTED, "; ".join(standing.reasons))
        try:
            found = bounds(
                machine(setup, tokens), self._calls, target=question.target, request_s=setup.engine.request_s
            )
        except PlanError as error:
            return rejected(setup, Why.UNSUPPORTED, str(error))
        if found.broken:
            name, part, least_s, promised_s = found.broken[0]
            reason = (
                f"{PARTS_SAID[part]} of {name} is {ms(least_s)} on an idle replica for those requests that count "
                f"({percent(question.target)} of them), and {ms(promised_s)} is promised"
            )
            return rejected(setup, Why.TOO_SLOW, reason, broken=(part, least_s))
        if room.kv_tokens < max(call.size.prompt_tokens + call.size.output_tokens for call in self._calls):
            return rejected(setup, Why.NO_MEMORY, f"its KV cache holds {room.kv_tokens:,} tokens: not one long request")
        candidate = Candidate(setup=setup, memory=room, standing=standing, bounds=found)
        least = candidate.bounds.replicas_at_least(self.demand.rate)
        if least * setup.tp > question.max_gpus:
            return rejected(
                setup,
                Why.TOO_MANY,
                f"one replica serves at most {rate_said(found.rate_max)} requests/s: {least * setup.tp:,} GPUs at "
                f"least would be needed, and --max-gpus is {question.max_gpus}",
                least,
            )
        return candidate

    def size(self, candidate: Candidate) -> Sized | Rejected:
        sizing = self._sizing(candidate)
        replicas = sizing.replicas()
        if replicas is None:
            return self._too_few(candidate, sizing.forecaster)
        known = {point.rate: (point, figure) for point, figure in sizing.forecaster.tried}
        return Sized(candidate=candidate, replicas=replicas, tried=known, simulated=sizing.forecaster.simulated)

    def detail(self, sized: Sized, *, finds_capacity: bool) -> Detailed | Rejected:
        candidate = sized.candidate
        sizing = self._sizing(candidate, sized.tried)
        forecast = sizing.together(sized.replicas)
        if forecast is None:
            return self._too_few(candidate, sizing.forecaster)
        least = self.demand.rate / forecast.replicas
        found = sizing.capacity(least) if finds_capacity else Figure(least)
        return Detailed(
            candidate=candidate,
            replicas=forecast.replicas,
            forecast=forecast,
            capacity=found,
            is_at_least=not finds_capacity,
            binding=self._binding(sizing.forecaster, candidate, found.value, forecast),
            points=tuple(_per_gpu(point, candidate.setup.tp) for point, _ in sizing.forecaster.tried),
            simulated=sizing.forecaster.simulated,
            keeps_slower=self._keeps_slower(candidate, found.value, forecast.replicas),
        )

    def _keeps_slower(self, candidate: Candidate, capacity: float, replicas: int) -> bool:
        """Simulated, since capacities fall faster than steps slow down where a promise is tight."""
        band, least = candidate.standing.throughput, self.demand.rate / replicas
        if band is None or capacity * band.low < least:
            return False
        plain = candidate.setup.calibration
        slower = replace(plain, step_s=plain.step_s / band.low, factor=plain.factor / band.low)
        setup = replace(candidate.setup, calibration=slower)
        attained = self._forecaster(replace(candidate, setup=setup)).attainment(least)
        return attained >= self.question.target - (NEAR if replicas > 1 else 0.0)

    def forecast(self, candidate: Candidate, replicas: int) -> Forecast:
        found = bounds(
            self._machine(candidate.setup),
            self._calls,
            target=self.question.target,
            request_s=candidate.setup.engine.request_s,
        )
        here = replace(candidate, bounds=found)
        forecast = self._forecaster(here).forecast(self.demand.rate, replicas)
        if replicas < here.bounds.replicas_at_least(self.demand.rate):
            return msgspec.structs.replace(forecast, keeps=False, is_beyond=True)
        return forecast

    def _sizing(self, candidate: Candidate, known: Mapping[float, tuple[Point, Figure]] | None = None) -> Sizing:
        question = self.question
        return Sizing(
            forecaster=self._forecaster(candidate, known),
            bounds=candidate.bounds,
            rate=self.demand.rate,
            target=question.target,
            most=question.max_gpus // candidate.setup.tp,
            tolerance=question.tolerance,
        )

    def _forecaster(
        self, candidate: Candidate, known: Mapping[float, tuple[Point, Figure]] | None = None
    ) -> Forecaster:
        question, setup = self.question, candidate.setup
        hardware = self._machine(setup)
        return Forecaster(
            hardware,
            scheduler_maker(
                question.policy,
                hardware,
                limits=VLLM_CONFIG if question.policy == "vllm" else None,
            ),
            self.demand,
            target=question.target,
            seeds=question.seeds,
            requests=question.requests,
            request_s=setup.engine.request_s,
            life_s=candidate.bounds.life_s,
            router=question.router,
            parts=partial(parts, hardware),
            known=known,
        )

    def _machine(self, setup: Setup) -> GpuMachine:
        return machine(setup, default_step_tokens(self.question.policy))

    def _binding(self, forecaster: Forecaster, candidate: Candidate, rate: float, forecast: Forecast) -> Binding:
        at = forecast if rate <= 1.02 * self.demand.rate / forecast.replicas else forecaster.forecast(rate, 1, 1)
        late = alone_late(self._calls, self._machine(candidate.setup), candidate.setup.engine.request_s)
        return binding(at, self.demand.promises, late, self.question.target)

    def _too_few(self, candidate: Candidate, forecaster: Forecaster) -> Rejected:
        most = self.question.max_gpus // candidate.setup.tp
        best = max((point.attainment for point, _ in forecaster.tried), default=0.0)
        reason = f"{most} replicas within --max-gpus {self.question.max_gpus} serve {percent(best, 1)} in SLO at best"
        return rejected(candidate.setup, Why.TOO_MANY, reason, None)


def _per_gpu(point: Point, tp: int) -> Point:
    return Point(
        rate=point.rate,
        attainment=point.attainment,
        keeps=point.keeps,
        tokens_per_s_per_gpu=point.tokens_per_s_per_gpu / tp,
        user_tokens_per_s=point.user_tokens_per_s,
        ttft_p95_s=point.ttft_p95_s,
        itl_p95_s=point.itl_p95_s,
    )
