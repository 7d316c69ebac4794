"""The event loop of virtual time: one heap of events, one scheduler, and steps that take as long as a formula says."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from heapq import heappop, heappush
from random import Random
from typing import Any

from headway.policy.events import Demoted, Event, Finished, FinishReason, Rejected, RejectReason, TokenOut
from headway.policy.plan import ExecutorInfo, StepPlan, StepResult
from headway.policy.scheduler import Scheduler
from headway.sim.arrivals import Load, Steady
from headway.sim.clients import IMPATIENT, Client
from headway.sim.faults import NO_FAULTS, Faults, LostWorker, Slowness
from headway.sim.hardware import Hardware
from headway.sim.live import Attempt
from headway.sim.record import Outcome
from headway.sim.result import Recorder, Result, Window
from headway.sim.workload import Call, Workload

DRAIN_S = 60.0
"""How long what is in goes on after the last arrival, and for as long as a promise can still be kept. Then the rest
counts as unfinished, and a call that was still to be tried again as shed."""
DRAIN_MAX_S = 1800.0
"""No longer than this: an answer of 8,192 tokens with gaps of 0.2 s takes 1,640 s."""
DRAIN_LOOK_S = 1.0
"""How often it is looked whether a promise can still be kept."""

BACKLOG_PAUSE_S = 1.0
"""How long the backlog waits before its next call when one was refused or failed."""

_FAULT, _STEP_END, _CLIENT, _WAKE = range(4)
"""Of events at one moment, faults come first, then a step's end, then what clients do."""

_BUSY = frozenset({RejectReason.QUEUE_FULL, RejectReason.OVERLOADED, RejectReason.DRAINING, RejectReason.NOT_READY})
"""Refusals with status 429 or 503."""

_OUTCOMES = {
    FinishReason.STOP: Outcome.SERVED,
    FinishReason.LENGTH: Outcome.SERVED,
    FinishReason.ABORTED: Outcome.ABORTED,
    FinishReason.EXPIRED: Outcome.EXPIRED,
    FinishReason.SHED: Outcome.SHED,
    FinishReason.FAILED: Outcome.FAILED,
}

MakeScheduler = Callable[[ExecutorInfo], Scheduler]
Handler = Callable[[float, Any], None]


def simulate(
    workload: Workload,
    hardware: Hardware,
    make_scheduler: MakeScheduler,
    *,
    rate: float | Load,
    seconds: float,
    seed: int = 0,
    client: Client = IMPATIENT,
    faults: Faults = NO_FAULTS,
    window: Window | None = None,
    keep_gaps: bool = True,
    on_progress: Callable[[float], None] | None = None,
) -> Result:
    """Offer ``rate`` requests a second for ``seconds`` of virtual time, then let what is in come to its end.

    The figures of the result are of the calls that arrive in ``window``; without it, the first and the last tenth of
    the time are cut. Equal arguments give equal results, in any process. ``on_progress`` is told the time of every
    arrival. Raises ValueError for a rate or a time that can't be meant.
    """
    if not 0.0 < seconds < math.inf:
        raise ValueError(f"a run must last some finite time, not {seconds} s")
    load = Steady(rate) if isinstance(rate, int | float) else rate
    window = window or Window(0.1 * seconds, 0.9 * seconds)
    recorder = Recorder(window, keep_gaps)
    calls = _until(workload.calls(load, seed), seconds, on_progress)
    simulation = Simulation(calls, hardware, make_scheduler, recorder, seed=seed, client=client, faults=faults)
    if workload.backlog is not None:
        simulation.keep_busy(workload.backlog_calls(seed), workload.backlog.depth, seconds)
    simulation.run(seconds + DRAIN_S)
    return recorder.result(simulation.now, simulation.steps)


def _until(calls: Iterable[Call], seconds: float, on_progress: Callable[[float], None] | None) -> Iterator[Call]:
    for call in calls:
        if call.at_s >= seconds:
            return
        if on_progress is not None:
            on_progress(call.at_s)
        yield call


class Simulation:
    """One run. Drives the scheduler exactly as the server's driver does: a request is submitted when it comes, also
    while a step runs; the next step is planned at the moment the last one has been applied."""

    def __init__(
        self,
        calls: Iterator[Call],
        hardware: Hardware,
        make_scheduler: MakeScheduler,
        recorder: Recorder,
        *,
        seed: int,
        client: Client = IMPATIENT,
        faults: Faults = NO_FAULTS,
    ) -> None:
        self.now = 0.0
        self.steps = 0
        self.scheduler = make_scheduler(hardware.info)
        self._hardware = hardware
        self._recorder = recorder
        self._client = client
        self._faults = faults
        self._slowness = Slowness(faults)
        self._jitter, self._noise, self._aborts = (Random(f"{seed} {what}") for what in ("client", "noise", "aborts"))
        self._attempts: dict[str, Attempt] = {}  # those that the scheduler has
        self._in_flight: StepPlan | None = None
        self._worker_lost = False
        self._wake_s = math.inf
        self._heap: list[tuple[float, int, int, Handler, Any]] = []
        self._pushed = 0
        self._calls = calls
        self._backlog: Iterator[Call] | None = None
        self._backlog_until_s = 0.0
        for lost in faults.lost:
            self._push(lost.at_s, _FAULT, self._lose_worker, lost)
        self._next_arrival()

    def keep_busy(self, calls: Iterator[Call], depth: int, until_s: float) -> None:
        """Keep ``depth`` calls of a backlog with the server."""
        self._backlog, self._backlog_until_s = calls, until_s
        for _ in range(depth):
            self._refill(0.0, 0.0)

    def run(self, until_s: float) -> None:
        """Go on until nothing is left to happen, or until ``until_s`` and as long as a promise can be kept still."""
        most_s = until_s + DRAIN_MAX_S
        self._run(until_s)
        while self._heap and until_s < most_s and any(each.may_be_kept(until_s) for each in self._attempts.values()):
            until_s += DRAIN_LOOK_S
            self._run(until_s)
        self._close()

    def _run(self, until_s: float) -> None:
        heap = self._heap
        while heap and heap[0][0] <= until_s:
            now, _, _, handle, what = heappop(heap)
            self.now = now
            handle(now, what)
            if self._in_flight is None and not self._worker_lost:
                self._begin_step(now)

    def _close(self) -> None:
        """Record the calls that have not come to their end: those with the scheduler, and those to be tried again."""
        for attempt in self._attempts.values():
            self._recorder.ended(attempt, self.now, Outcome.UNFINISHED, "")
        for _, _, _, _, what in sorted(self._heap, key=lambda event: event[:3]):
            if isinstance(what, Attempt) and what.refused_s is not None:
                self._recorder.ended(what, what.refused_s, Outcome.SHED, "out of time to try again")

    # Steps.

    def _begin_step(self, now: float) -> None:
        scheduler = self.scheduler
        plan = scheduler.plan(now)
        self._take(now, scheduler.expire(now))
        if plan is None:
            deadline = scheduler.next_deadline_s()
            if deadline is not None and deadline < self._wake_s:
                self._wake_s = deadline
                self._push(max(now, deadline), _WAKE, self._wake, None)
            return
        step = scheduler.in_flight
        assert step is not None, "a plan that is not in flight"
        self._in_flight = plan
        elapsed_s = self._hardware.step_s(step.shape) * self._slowness.factor(now)
        if self._hardware.noise:
            elapsed_s *= self._noise.lognormvariate(0.0, self._hardware.noise)
        self._push(now + elapsed_s, _STEP_END, self._end_step, (plan, elapsed_s))

    def _end_step(self, now: float, step: tuple[StepPlan, float]) -> None:
        plan, elapsed_s = step
        if plan is not self._in_flight:
            return  # the worker was lost, and the step with it
        self._in_flight = None
        self.steps += 1
        attempt_of = self._attempts.get  # none for one that ended during the step
        drawn = [
            attempt.token if chunk.draw.output_index < attempt.output_tokens else attempt.stop
            for chunk in plan.chunks
            if chunk.draw is not None and (attempt := attempt_of(chunk.request_id)) is not None
        ]
        self._take(now, self.scheduler.apply(now, StepResult(plan.step_id, tuple(drawn), (), elapsed_s)))

    def _wake(self, now: float, _: None) -> None:
        self._wake_s = math.inf
        if self._worker_lost:
            self._take(now, self.scheduler.expire(now))

    def _lose_worker(self, now: float, lost: LostWorker) -> None:
        self._in_flight = None
        self._worker_lost = True
        self._take(now, self.scheduler.executor_lost(now))
        self._push(now + lost.down_s, _FAULT, self._replace_worker, None)

    def _replace_worker(self, now: float, _: None) -> None:
        self._worker_lost = False
        self._take(now, self.scheduler.executor_lost(now, self._hardware.info))

    # Clients.

    def _next_arrival(self) -> None:
        call = next(self._calls, None)
        if call is not None:
            self._push(call.at_s, _CLIENT, self._arrive, call)

    def _arrive(self, now: float, call: Call) -> None:
        self._next_arrival()
        self._send(now, Attempt.first(call))

    def _send(self, now: float, attempt: Attempt) -> None:
        attempt.sent_s = now
        [answer] = self.scheduler.submit(now, attempt.call.spec(attempt.number, now))
        if not isinstance(answer, Rejected):
            self._attempts[attempt.request_id] = attempt
            if self._faults.abort_share and self._aborts.random() < self._faults.abort_share:
                stays_s = self._aborts.expovariate(1.0 / self._faults.abort_mean_s)
                self._push(now + stays_s, _CLIENT, self._leave, attempt.request_id)
        elif answer.reason in _BUSY:
            self._refused(now, attempt, Outcome.SHED, answer.reason, answer.retry_after_s)
        else:
            self._end(now, attempt, Outcome.REFUSED, answer.reason)
        self._take(now, self.scheduler.expire(now))  # who had to leave for it hears so at once

    def _send_again(self, now: float, refused: Attempt) -> None:
        self._send(now, refused.again())

    def _leave(self, now: float, request_id: str) -> None:
        if request_id in self._attempts:
            self._take(now, self.scheduler.abort(now, request_id))

    def _refused(
        self, now: float, attempt: Attempt, outcome: Outcome, reason: str, retry_after_s: float | None
    ) -> None:
        """A 429 or 503: the client tries again, or leaves it."""
        wait_s = self._client.wait_s(attempt.number, retry_after_s, self._jitter)
        if wait_s is None or attempt.is_backlog:
            self._end(now, attempt, outcome, reason)
        else:
            attempt.refused_s = now
            self._push(now + wait_s, _CLIENT, self._send_again, attempt)

    def _end(self, now: float, attempt: Attempt, outcome: Outcome, reason: str) -> None:
        self._recorder.ended(attempt, now, outcome, reason)
        if attempt.is_backlog:
            self._refill(now, 0.0 if outcome is Outcome.SERVED else BACKLOG_PAUSE_S)

    def _refill(self, now: float, pause_s: float) -> None:
        if self._backlog is not None and now < self._backlog_until_s:
            call = next(self._backlog)
            self._push(now + pause_s, _CLIENT, self._send, Attempt.first(call, now + pause_s))

    # The scheduler's news.

    def _take(self, now: float, events: list[Event]) -> None:
        attempts = self._attempts
        for event in events:
            if type(event) is TokenOut:  # nearly all are
                attempts[event.request_id].token_times.append(now)
            elif type(event) is Finished:
                self._finished(now, event)
            elif type(event) is Demoted:
                attempts[event.request_id].demoted = True

    def _finished(self, now: float, event: Finished) -> None:
        attempt = self._attempts.pop(event.request_id)
        attempt.cached_tokens = event.cached_tokens
        outcome = _OUTCOMES[event.reason]
        if outcome is Outcome.SHED:
            self._refused(now, attempt, outcome, event.reason, event.retry_after_s)
        else:  # a 500 says x-should-retry: false
            self._end(now, attempt, outcome, event.reason)

    def _push(self, at_s: float, rank: int, handle: Handler, what: Any) -> None:
        self._pushed += 1
        heappush(self._heap, (at_s, rank, self._pushed, handle, what))
