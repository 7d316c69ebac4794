"""What tests of promises share: a step-time model that is exact, or wrong by a known factor, and requests to promise
something to."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import TypeVar

from headway.policy import invariants
from headway.policy.events import Event, Finished, Queued, Rejected, TokenOut
from headway.policy.ledger import ClassCounters
from headway.policy.outputs import OutputLengths
from headway.policy.plan import DrawnToken, ExecutorInfo, StepPlan, StepResult
from headway.policy.policy import Policy, Scene
from headway.policy.request import Request, RequestSpec
from headway.policy.scheduler import Scheduler, SchedulerConfig
from headway.policy.slo import NO_PROMISE, Objective
from headway.policy.stepshape import StepShape
from headway.policy.steptime import StepTimeModel
from headway.policy.waiting import WaitingQueue

E = TypeVar("E")

STEP_S, TOKEN_S = 0.008, 0.0005
"""A step of the machine that tests promise on takes so long, and so much longer for each of its tokens."""


def attainment_of_admitted(counters: ClassCounters) -> float:
    """The share in SLO of those that were served as asked and have ended; 1 if there are none."""
    known = counters.in_slo + counters.late
    return counters.in_slo / known if known else 1.0


def true_step_s(plan: StepPlan) -> float:
    return STEP_S + TOKEN_S * plan.token_count


class KnownModel(StepTimeModel):
    """Knows how long steps take, but for a factor, and learns nothing. ``margin``: how far from that it takes them to
    go."""

    def __init__(
        self, factor: float = 1.0, *, step_s: float = STEP_S, token_s: float = TOKEN_S, margin: float = 1.0
    ) -> None:
        super().__init__()
        self.samples = 1000
        self._step_s, self._token_s = factor * step_s, factor * token_s
        self._margin = margin

    def predict_s(self, tokens: int, sequences: int, decode_context: int, prefill_reads: float) -> float:
        return self._step_s + self._token_s * tokens

    def tail_s(self, tokens: int, sequences: int, decode_context: int, prefill_reads: float) -> float:
        return self._margin * self.predict_s(tokens, sequences, decode_context, prefill_reads)

    def prompt_alone_s(self, tokens: int, prefill_reads: float) -> float:
        return self.predict_s(tokens, 1, 0, prefill_reads)

    def observe(self, shape: StepShape, elapsed_s: float) -> None:
        pass


def promised(
    request_id: str,
    prompt: int = 8,
    max_tokens: int = 4,
    *,
    ttft_s: float | None = 0.3,
    itl_s: float | None = 0.1,
    e2e_s: float | None = None,
    service_class: str = "conversational",
    weight: float = 1.0,
    may_demote: bool = False,
    tenant: str = "",
    arrived_s: float | None = None,
) -> RequestSpec:
    """A request of the class conversational. Each has tokens of its own."""
    first = sum(map(ord, request_id)) % 40
    return RequestSpec(
        request_id=request_id,
        prompt=tuple((first + position) % 50 for position in range(prompt)),
        max_tokens=max_tokens,
        service_class=service_class,
        objective=Objective(ttft_s=ttft_s, itl_s=itl_s, e2e_s=e2e_s),
        weight=weight,
        may_demote=may_demote,
        tenant=tenant,
        arrived_s=arrived_s,
    )


def batch(request_id: str, prompt: int = 8, max_tokens: int = 4) -> RequestSpec:
    """One that was promised nothing."""
    first = sum(map(ord, request_id)) % 40
    tokens = tuple((first + position) % 50 for position in range(prompt))
    return RequestSpec(request_id=request_id, prompt=tokens, max_tokens=max_tokens, objective=NO_PROMISE)


def request(spec: RequestSpec, order: int = 0, now: float = 0.0) -> Request:
    """As the scheduler makes it, with nothing of it in the cache."""
    made = Request.new(spec, order, now)
    made.uncached = len(spec.prompt)
    return made


def scene(*running: Request, waiting: WaitingQueue | None = None, max_step_tokens: int = 8192) -> Scene:
    """Nothing in flight, and nothing known of answers' lengths."""
    return Scene(running, waiting or WaitingQueue(), OutputLengths(), max_step_tokens)


def scheduler(policy: Policy, config: SchedulerConfig | None = None, *, kv_blocks: int = 4096) -> Scheduler:
    info = ExecutorInfo(block_size=16, kv_blocks=kv_blocks, context_tokens=8192, vocab_size=50)
    return Scheduler(info, config or SchedulerConfig(), prefix_key=b"tests", policy=policy)


class Machine:
    """Runs a scheduler's plans in virtual time: a step takes ``true_step_s``, or ``slowness`` times as long."""

    def __init__(self, scheduler: Scheduler) -> None:
        self.scheduler = scheduler
        self.now = 0.0
        self.slowness = 1.0
        self.plans: list[StepPlan] = []
        self.events: list[Event] = []
        self.token_times: dict[str, list[float]] = {}

    def submit(self, *specs: RequestSpec) -> list[Queued | Rejected]:
        answers = [answer for spec in specs for answer in self.scheduler.submit(self.now, spec)]
        self._saw([*answers, *self.scheduler.expire(self.now)])
        return answers

    def step(self) -> StepPlan | None:
        plan = self.scheduler.plan(self.now)
        self._saw(self.scheduler.expire(self.now))
        if plan is None:
            return None
        self.plans.append(plan)
        self.now += true_step_s(plan) * self.slowness
        drawn = tuple(DrawnToken(chunk.request_id, 1) for chunk in plan.chunks if chunk.draw is not None)
        self._saw(self.scheduler.apply(self.now, StepResult(plan.step_id, drawn)))
        return plan

    def run(self, steps: int = 10_000) -> None:
        """Step until nobody is here."""
        for _ in range(steps):
            if self.step() is None:
                return
        raise AssertionError(f"still busy after {steps} steps")

    def ended(self, request_id: str) -> Finished | None:
        return next((each for each in self.of(Finished) if each.request_id == request_id), None)

    def of(self, kind: type[E]) -> list[E]:
        """The events of one kind, in order."""
        return [event for event in self.events if isinstance(event, kind)]

    def _saw(self, events: Sequence[Event]) -> None:
        self.events += events
        for event in events:
            if isinstance(event, TokenOut):
                self.token_times.setdefault(event.request_id, []).append(self.now)
        if len(self.plans) % 16 == 0:  # every block is looked at
            invariants.check(self.scheduler)
        invariants.check_ledger(self.scheduler)


def flood(world: Machine, seconds: float, per_s: float, *, may_demote: bool = False, seed: int = 0) -> list[str]:
    """Requests at random, while the machine runs; those that were let in."""
    random = Random(seed)
    admitted: list[str] = []
    next_s, number = world.now, 0
    end_s = world.now + seconds
    while world.now < end_s:
        while next_s <= world.now:
            name = f"r{number}-{next_s:.3f}"
            spec = promised(
                name, random.choice([20, 50, 200]), random.choice([5, 20]), may_demote=may_demote, arrived_s=next_s
            )
            if not isinstance(world.submit(spec)[0], Rejected):
                admitted.append(name)
            number += 1
            next_s += random.expovariate(per_s)
        if world.step() is None:
            world.now = next_s
    world.run()
    return admitted
