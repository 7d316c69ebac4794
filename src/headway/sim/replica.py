"""One machine of a simulation: a scheduler, and hardware that runs its steps in virtual time."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from random import Random
from typing import Any, NamedTuple

from headway.policy.events import Demoted, Event, Finished, Rejected, TokenOut
from headway.policy.plan import ExecutorInfo
from headway.policy.request import Request
from headway.policy.scheduler import Scheduler
from headway.sim.agenda import FAULT, WAKE, Agenda
from headway.sim.faults import Faults, LostWorker, Slowness
from headway.sim.hardware import Hardware
from headway.sim.live import Attempt
from headway.sim.workload import Call

MakeScheduler = Callable[[ExecutorInfo], Scheduler]
Ended = Callable[[float, Attempt, Finished], None]


class View(NamedTuple):  # one of each replica is made for every call that a router sends
    """What a router knows of a replica: when the step in flight is likely to end, how many decode then and the context
    they read, and the tokens of prompts still to be computed, under way and waiting."""

    free_s: float
    decodes: int
    decode_context: int
    prompt_tokens: int


class Replica(ABC):
    """Drives its scheduler as the server's driver does: a request is submitted when it comes, also while a step runs;
    the next step is planned at the moment the last one has been applied.

    ``ended`` is told of attempts that were taken in and have come to an end. ``attempts``: those that the scheduler
    has, by request id. Who looks at the scheduler calls ``settle`` before. How steps are run is left to who inherits.
    """

    def __init__(
        self,
        index: int,
        hardware: Hardware,
        make_scheduler: MakeScheduler,
        agenda: Agenda,
        ended: Ended,
        *,
        noise: Random,
        faults: Faults,
    ) -> None:
        self.index = index
        self.hardware = hardware
        self.scheduler = make_scheduler(hardware.info)
        self.attempts: dict[str, Attempt] = {}
        self.steps = 0
        self.stepped_s = 0.0  # when the last one ended
        self.worker_lost = False
        self._agenda = agenda
        self._ended = ended
        self._noise = noise
        self._slowness = Slowness(faults)
        self._wake_s = math.inf
        for lost in faults.lost:
            agenda.push(lost.at_s, FAULT, self._lose_worker, lost)

    # What clients do.

    def submit(self, now: float, attempt: Attempt) -> Rejected | None:
        """Send an attempt here; why it was refused, if it was."""
        self._turn_to(now)
        [answer] = self.scheduler.submit(now, attempt.call.spec(attempt.number, now))
        if isinstance(answer, Rejected):
            return answer
        self.attempts[attempt.request_id] = attempt
        self._taken_in(attempt)
        return None

    def tell(self, now: float) -> None:
        """Tell what came of it: who had to leave for a newcomer hears so at once."""
        self._take(now, self.scheduler.expire(now))

    def abort(self, now: float, request_id: str) -> None:
        """The client has left, if its request is here still."""
        self._turn_to(now)
        if request_id in self.attempts:
            self._take(now, self.scheduler.abort(now, request_id))

    def go_on(self, now: float) -> None:
        """Begin a step if none is in flight and there is something to do. To be called after whatever happened here."""
        if self.scheduler.in_flight is not None:
            self._disturbed()
        elif not self.worker_lost and not self._begin_step(now):
            deadline = self.scheduler.next_deadline_s()
            if deadline is not None and deadline < self._wake_s:
                self._wake_s = deadline
                self._agenda.push(max(now, deadline), WAKE, self._wake, None)

    # For who looks on.

    def settle(self, now: float) -> None:  # noqa: B027
        """Bring the scheduler to where it is at this time, after a step that ends ``now``."""

    def token_times(self, attempt: Attempt) -> None:  # noqa: B027
        """Bring the attempt's ``token_times`` up to date."""

    def view(self, now: float) -> View:
        """What is in the way of a request that came now."""
        self.settle(now)
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

    # Steps.

    def _turn_to(self, now: float, *, with_now: bool = True) -> None:  # noqa: B027
        """As ``settle``, and have the policy know of it, before anything changes. Without ``with_now``: as it was just
        before a step that ends ``now``."""

    @abstractmethod
    def _begin_step(self, now: float) -> bool:
        """Plan a step and put its end on the agenda; False if there is nothing to do."""

    def _disturbed(self) -> None:  # noqa: B027
        """Somebody may have come or left while a step is in flight."""

    def _taken_in(self, attempt: Attempt) -> None:  # noqa: B027
        """The scheduler has it."""

    @abstractmethod
    def _token_came(self, now: float, attempt: Attempt, index: int) -> None:
        """Token number ``index`` of it has come."""

    def _complete(self, attempt: Attempt, ending: Finished) -> None:  # noqa: B027
        """It has ended: its ``token_times`` are wanted."""

    def _take(self, now: float, events: list[Event]) -> None:
        for event in events:
            if isinstance(event, TokenOut):
                self._token_came(now, self.attempts[event.request_id], event.index)
            elif isinstance(event, Finished):
                attempt = self.attempts.pop(event.request_id)
                attempt.cached_tokens = event.cached_tokens
                self._complete(attempt, event)
                self._ended(now, attempt, event)
            elif isinstance(event, Demoted):
                self.attempts[event.request_id].demoted = True

    def _wake(self, now: float, _: Any) -> None:
        self._wake_s = math.inf
        if self.worker_lost:
            self.tell(now)
        self.go_on(now)

    def _lose_worker(self, now: float, lost: LostWorker) -> None:
        self._turn_to(now, with_now=False)
        self.worker_lost = True
        self._take(now, self.scheduler.executor_lost(now))
        self._agenda.push(now + lost.down_s, FAULT, self._replace_worker, None)

    def _replace_worker(self, now: float, _: Any) -> None:
        self.worker_lost = False
        self._take(now, self.scheduler.executor_lost(now, self.hardware.info))
        self.go_on(now)
