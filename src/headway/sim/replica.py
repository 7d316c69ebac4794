"""One machine of a simulation: a scheduler, and hardware that runs its steps in virtual time."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

from headway.policy.events import Event
from headway.policy.plan import ExecutorInfo, StepPlan, StepResult
from headway.policy.request import Request
from headway.policy.scheduler import Scheduler
from headway.sim.agenda import FAULT, STEP_END, WAKE, Agenda
from headway.sim.faults import Faults, LostWorker, Slowness
from headway.sim.hardware import Hardware
from headway.sim.live import Attempt
from headway.sim.workload import Call


@dataclass(frozen=True, slots=True)
class View:
    """What a router knows of a replica: when the step in flight is likely to end, how many decode then and the context
    they read, and the tokens of prompts still to be computed, under way and waiting."""

    free_s: float
    decodes: int
    decode_context: int
    prompt_tokens: int


MakeScheduler = Callable[[ExecutorInfo], Scheduler]
Take = Callable[["Replica", float, list[Event]], None]


class Replica:
    """Drives its scheduler exactly as the server's driver does: a request is submitted when it comes, also while a step
    runs; the next step is planned at the moment the last one has been applied.

    ``take`` is handed what the scheduler tells. ``attempts``: those that the scheduler has, by request id.
    """

    def __init__(
        self,
        index: int,
        hardware: Hardware,
        make_scheduler: MakeScheduler,
        agenda: Agenda,
        take: Take,
        *,
        noise: Random,
        faults: Faults,
    ) -> None:
        self.index = index
        self.hardware = hardware
        self.scheduler = make_scheduler(hardware.info)
        self.attempts: dict[str, Attempt] = {}
        self.steps = 0
        self.worker_lost = False
        self._agenda = agenda
        self._take = take
        self._noise = noise
        self._slowness = Slowness(faults)
        self._in_flight: StepPlan | None = None
        self._wake_s = math.inf
        for lost in faults.lost:
            agenda.push(lost.at_s, FAULT, self._lose_worker, lost)

    def go_on(self, now: float) -> None:
        """Begin a step if none is in flight and there is something to do. To be called after whatever happens here."""
        if self._in_flight is not None or self.worker_lost:
            return
        scheduler = self.scheduler
        plan = scheduler.plan(now)
        self._take(self, now, scheduler.expire(now))
        if plan is None:
            deadline = scheduler.next_deadline_s()
            if deadline is not None and deadline < self._wake_s:
                self._wake_s = deadline
                self._agenda.push(max(now, deadline), WAKE, self._wake, None)
            return
        step = scheduler.in_flight
        assert step is not None, "a plan that is not in flight"
        self._in_flight = plan
        elapsed_s = self.hardware.step_s(step.shape) * self._slowness.factor(now)
        if self.hardware.noise:
            elapsed_s *= self._noise.lognormvariate(0.0, self.hardware.noise)
        self._agenda.push(now + elapsed_s, STEP_END, self._end_step, (plan, elapsed_s))

    def _end_step(self, now: float, step: tuple[StepPlan, float]) -> None:
        plan, elapsed_s = step
        if plan is not self._in_flight:
            return  # the worker was lost, and the step with it
        self._in_flight = None
        self.steps += 1
        attempt_of = self.attempts.get  # none for one that ended during the step
        drawn = [
            attempt.token if chunk.draw.output_index < attempt.output_tokens else attempt.stop
            for chunk in plan.chunks
            if chunk.draw is not None and (attempt := attempt_of(chunk.request_id)) is not None
        ]
        self._take(self, now, self.scheduler.apply(now, StepResult(plan.step_id, tuple(drawn), (), elapsed_s)))
        self.go_on(now)

    def _wake(self, now: float, _: Any) -> None:
        self._wake_s = math.inf
        if self.worker_lost:
            self._take(self, now, self.scheduler.expire(now))
        self.go_on(now)

    def _lose_worker(self, now: float, lost: LostWorker) -> None:
        self._in_flight = None
        self.worker_lost = True
        self._take(self, now, self.scheduler.executor_lost(now))
        self._agenda.push(now + lost.down_s, FAULT, self._replace_worker, None)

    def _replace_worker(self, now: float, _: Any) -> None:
        self.worker_lost = False
        self._take(self, now, self.scheduler.executor_lost(now, self.hardware.info))
        self.go_on(now)

    # For who looks on.

    def view(self, now: float) -> View:
        """What is in the way of a request that came now."""
        scheduler, step = self.scheduler, self.scheduler.in_flight
        free_s = now
        if self.worker_lost:
            free_s = math.inf
        elif step is not None:
            free_s = max(now, step.began_s + self.hardware.step_s(step.shape))
        decodes = context = 0
        prompt_tokens = scheduler.waiting.tokens
        for request in scheduler.running:
            left = len(request.tokens) - request.computed - request.planned
            if left > 1:
                prompt_tokens += left
            else:
                decodes += 1
                context += len(request.tokens)
        return View(free_s, decodes, context, prompt_tokens)

    def cached_tokens(self, call: Call) -> int:
        """How much of a call's prompt would be found in the cache here."""
        cache = self.scheduler.cache
        return len(cache.lookup(Request.new(call.spec(0, call.at_s), 0, call.at_s))) * cache.block_size
