"""The event loop of virtual time: clients, a router, and replicas whose steps take as long as a formula says."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from random import Random
from typing import Required, TypedDict, Unpack

from headway.policy.events import Finished, FinishReason, RejectReason
from headway.sim.agenda import CLIENT, LOOK, Agenda
from headway.sim.arrivals import Load, Steady
from headway.sim.clients import IMPATIENT, Client
from headway.sim.coasting import CoastingReplica
from headway.sim.counted import CountedCache
from headway.sim.faults import NO_FAULTS, Faults
from headway.sim.hardware import Hardware
from headway.sim.live import Attempt
from headway.sim.messages import MessageReplica
from headway.sim.record import Outcome
from headway.sim.replica import MakeScheduler, Replica
from headway.sim.result import Recorder, Result, Sink, Window
from headway.sim.router import RoundRobin, Router
from headway.sim.timeline import Timeline
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

REPLICAS_MAX = 1024

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


class Options(TypedDict, total=False):
    """What there is to say of a run, beside what is asked of which machines. All but the first two may be left out.

    ``rate``: requests a second, in all, for ``seconds`` of virtual time. ``router``: round robin if not given; a new
    one for each run. ``faults`` are those of every machine. ``timeline`` is filled. ``step_by_step``: with all the
    messages that a real executor would get, slowly (see ``messages``). ``on_progress`` is told the time of every
    arrival.
    """

    rate: Required[float | Load]
    seconds: Required[float]
    seed: int
    router: Router | None
    client: Client
    faults: Faults
    timeline: Timeline | None
    step_by_step: bool
    on_progress: Callable[[float], None] | None


def simulate_cluster(
    workload: Workload,
    machines: Sequence[Hardware],
    make_schedulers: Sequence[MakeScheduler],
    *,
    window: Window | None = None,
    keep_gaps: bool = True,
    **options: Unpack[Options],
) -> Result:
    """Offer a workload to a replica on each of the machines, then let what is in come to its end.

    ``make_schedulers``: of each machine, in their order. The figures of the result are of the calls that arrive in
    ``window``; without it, the first and the last tenth of the time are cut. Equal arguments give equal results, in any
    process. Raises ValueError for a rate, a time or machines that can't be meant.
    """
    seconds = options["seconds"]
    _check(seconds)
    recorder = Recorder(window or Window(0.1 * seconds, 0.9 * seconds), keep_gaps)
    lasted_s, steps = simulate_into(recorder, workload, machines, make_schedulers, **options)
    return recorder.result(lasted_s, steps)


def simulate_into(
    recorder: Sink,
    workload: Workload,
    machines: Sequence[Hardware],
    make_schedulers: Sequence[MakeScheduler],
    *,
    rate: float | Load,
    seconds: float,
    seed: int = 0,
    router: Router | None = None,
    client: Client = IMPATIENT,
    faults: Faults = NO_FAULTS,
    timeline: Timeline | None = None,
    step_by_step: bool = False,
    on_progress: Callable[[float], None] | None = None,
) -> tuple[float, int]:
    """``simulate_cluster`` with a recorder of one's own: a ``Tally``, for runs of any length in little memory. The
    virtual time until the last call ended, and how many steps were run."""
    _check(seconds)
    load = Steady(rate) if isinstance(rate, int | float) else rate
    cluster = Cluster(
        _until(workload.calls(load, seed), seconds, on_progress),
        machines,
        make_schedulers,
        recorder,
        router=router,
        seed=seed,
        client=client,
        faults=faults,
        step_by_step=step_by_step,
    )
    if not workload.shares_prefixes and len(workload.tenants) == 1 and not step_by_step:
        cluster.keep_books_by_count()
    if workload.backlog is not None:
        cluster.keep_busy(workload.backlog_calls(seed), workload.backlog.depth, seconds)
    if timeline is not None:
        cluster.watch(timeline)
    cluster.run(seconds + DRAIN_S)
    return cluster.now, cluster.steps


def _check(seconds: float) -> None:
    if not 0.0 < seconds < math.inf:
        raise ValueError(f"a run must last some finite time, not {seconds} s")


def _until(calls: Iterable[Call], seconds: float, on_progress: Callable[[float], None] | None) -> Iterator[Call]:
    for call in calls:
        if call.at_s >= seconds:
            return
        if on_progress is not None:
            on_progress(call.at_s)
        yield call


class Cluster:
    """One run: a replica for each machine, and what clients do."""

    def __init__(
        self,
        calls: Iterator[Call],
        machines: Sequence[Hardware],
        make_schedulers: Sequence[MakeScheduler],
        recorder: Sink,
        *,
        router: Router | None = None,
        seed: int,
        client: Client = IMPATIENT,
        faults: Faults = NO_FAULTS,
        step_by_step: bool = False,
    ) -> None:
        if not 1 <= len(machines) <= REPLICAS_MAX:
            raise ValueError(f"a cluster must have 1 to {REPLICAS_MAX} machines, not {len(machines)}")
        if len(make_schedulers) != len(machines):
            raise ValueError(f"{len(machines)} machines must have as many schedulers, not {len(make_schedulers)}")
        self.now = 0.0
        self._recorder = recorder
        self._router = router or RoundRobin()
        self._client = client
        self._faults = faults
        self._jitter, self._aborts = Random(f"{seed} client"), Random(f"{seed} aborts")
        self._agenda = Agenda()
        kind = MessageReplica if step_by_step else CoastingReplica
        self._replicas: list[Replica] = [
            kind(index, hardware, make, self._agenda, self._ended, noise=_noise(seed, index), faults=faults)
            for index, (hardware, make) in enumerate(zip(machines, make_schedulers, strict=True))
        ]
        self._calls = calls
        self._backlog: Iterator[Call] | None = None
        self._backlog_until_s = 0.0
        self._next_arrival()

    @property
    def steps(self) -> int:
        return sum(replica.steps for replica in self._replicas)

    def keep_books_by_count(self) -> None:
        """No two calls have anything in common, nor any two tenants: see ``counted``."""
        for replica in self._replicas:
            replica.scheduler.keep_books_with(CountedCache)

    def keep_busy(self, calls: Iterator[Call], depth: int, until_s: float) -> None:
        """Keep ``depth`` calls of a backlog with the cluster."""
        self._backlog, self._backlog_until_s = calls, until_s
        for _ in range(depth):
            self._refill(0.0, 0.0)

    def watch(self, timeline: Timeline) -> None:
        """Have samples taken while there is anything to happen."""
        self._agenda.push(0.0, LOOK, self._look, timeline)

    def run(self, until_s: float) -> None:
        """Go on until nothing is left to happen, or until ``until_s`` and as long as a promise can be kept still."""
        most_s = until_s + DRAIN_MAX_S
        self._run(until_s)
        while self._agenda and until_s < most_s and any(each.may_be_kept(until_s) for each in self._attempts(until_s)):
            until_s += DRAIN_LOOK_S
            self._run(until_s)
        self._close()

    def _run(self, until_s: float) -> None:
        self.now = self._agenda.run(until_s, self.now)
        for replica in self._replicas:
            replica.settle(until_s)
        self.now = max(self.now, *(replica.stepped_s for replica in self._replicas))

    def _attempts(self, now: float) -> Iterator[Attempt]:
        for replica in self._replicas:
            replica.settle(now)
            for attempt in replica.attempts.values():
                replica.token_times(attempt)
                yield attempt

    def _close(self) -> None:
        """Record the calls that have not come to their end: those with a scheduler, and those to be tried again."""
        for attempt in self._attempts(self.now):
            self._recorder.ended(attempt, self.now, Outcome.UNFINISHED, "")
        for what in self._agenda.left():
            if isinstance(what, Attempt) and what.refused_s is not None:
                self._recorder.ended(what, what.refused_s, Outcome.SHED, "out of time to try again")

    def _look(self, now: float, timeline: Timeline) -> None:
        timeline.look(now, self._replicas)
        if self._agenda:
            self._agenda.push(now + timeline.every_s, LOOK, self._look, timeline)

    # Clients.

    def _next_arrival(self) -> None:
        call = next(self._calls, None)
        if call is not None:
            self._agenda.push(call.at_s, CLIENT, self._arrive, call)

    def _arrive(self, now: float, call: Call) -> None:
        self._next_arrival()
        self._send(now, Attempt.first(call))

    def _send(self, now: float, attempt: Attempt) -> None:
        attempt.sent_s = now
        replica = self._replicas[self._router.choose(now, attempt.call, self._replicas)]
        attempt.replica = replica.index
        refused = replica.submit(now, attempt)
        if refused is None:
            if self._faults.abort_share and self._aborts.random() < self._faults.abort_share:
                stays_s = self._aborts.expovariate(1.0 / self._faults.abort_mean_s)
                self._agenda.push(now + stays_s, CLIENT, self._leave, (replica, attempt.request_id))
        elif refused.reason in _BUSY:
            self._refused(now, attempt, Outcome.SHED, refused.reason, refused.retry_after_s)
        else:
            self._end(now, attempt, Outcome.REFUSED, refused.reason)
        replica.tell(now)
        replica.go_on(now)

    def _send_again(self, now: float, refused: Attempt) -> None:
        self._send(now, refused.again())

    def _leave(self, now: float, what: tuple[Replica, str]) -> None:
        replica, request_id = what
        replica.abort(now, request_id)
        replica.go_on(now)

    def _refused(
        self, now: float, attempt: Attempt, outcome: Outcome, reason: str, retry_after_s: float | None
    ) -> None:
        """A 429 or 503: the client tries again, or leaves it."""
        wait_s = self._client.wait_s(attempt.number, retry_after_s, self._jitter)
        if wait_s is None or attempt.is_backlog:
            self._end(now, attempt, outcome, reason)
        else:
            attempt.refused_s = now
            self._agenda.push(now + wait_s, CLIENT, self._send_again, attempt)

    def _end(self, now: float, attempt: Attempt, outcome: Outcome, reason: str) -> None:
        self._recorder.ended(attempt, now, outcome, reason)
        if attempt.is_backlog:
            self._refill(now, 0.0 if outcome is Outcome.SERVED else BACKLOG_PAUSE_S)

    def _refill(self, now: float, pause_s: float) -> None:
        if self._backlog is not None and now < self._backlog_until_s:
            call = next(self._backlog)
            self._agenda.push(now + pause_s, CLIENT, self._send, Attempt.first(call, now + pause_s))

    def _ended(self, now: float, attempt: Attempt, event: Finished) -> None:
        """An attempt that was taken in has come to an end."""
        outcome = _OUTCOMES[event.reason]
        if outcome is Outcome.SHED:
            self._refused(now, attempt, outcome, event.reason, event.retry_after_s)
        else:  # a 500 says x-should-retry: false
            self._end(now, attempt, outcome, event.reason)


def _noise(seed: int, index: int) -> Random:
    """How the steps of one machine vary."""
    return Random(f"{seed} noise {index}" if index else f"{seed} noise")
