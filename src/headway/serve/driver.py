"""The driver: one thread that owns the policy and one executor, and runs the loop.

It decides nothing (the scheduler does) and computes nothing (the executor does). Requests come in from any thread and
are answered at once: the lock is held only while the policy thinks, never while a step runs.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from headway.models.errors import ModelError
from headway.policy.events import Event, FinishReason, Queued, Rejected, RejectReason
from headway.policy.plan import Executor, ExecutorInfo, ExecutorLost, StepPlan
from headway.policy.policy import Policy
from headway.policy.request import RequestSpec
from headway.policy.scheduler import Scheduler, SchedulerConfig
from headway.policy.slo import ServiceClasses
from headway.policy.stats import Stats

logger = logging.getLogger(__name__)

STEP_GRACE_S = 5.0
"""How long ``stop`` waits for a step in flight before it interrupts the executor."""

JOIN_S = 0.05

JUDGEMENTS_MAX = 1024
"""What clients saw, waiting to be told to the policy; of more than that the oldest are forgotten."""


class DriverState(StrEnum):
    STARTING = "starting"  # the executor loads for the first time; nothing is admitted
    READY = "ready"
    RESTARTING = "restarting"  # the executor was lost and comes back; requests keep their place
    DRAINING = "draining"  # nothing new is admitted; what is in goes on
    STOPPED = "stopped"
    FAILED = "failed"  # the executor can't be started; every request has ended


@dataclass(frozen=True, slots=True, kw_only=True)
class RestartPolicy:
    """How a lost executor is brought back. Waiting times double from ``delay_s`` up to ``delay_max_s``.

    After ``attempts`` losses in a row without one finished step, the requests of the step in flight are taken for the
    cause and failed; after as many failed starts in a row the driver gives up. A finished step clears the count.
    """

    attempts: int = 5
    delay_s: float = 0.1
    delay_max_s: float = 10.0


class Driver:
    """Runs one scheduler over one executor.

    ``deliver`` gets every event, in order, in lists of one or more; it is called with the lock held, from any thread,
    and must only hand the list on. ``on_state`` hears of every change of state, likewise. ``make_policy`` is called
    once, in the driver's thread, when the executor has started for the first time and nobody uses it yet.
    """

    def __init__(
        self,
        executor: Executor,
        config: SchedulerConfig,
        *,
        deliver: Callable[[list[Event]], None],
        prefix_key: bytes,
        make_policy: Callable[[Executor, ExecutorInfo], Policy] | None = None,
        clock: Callable[[], float] = time.monotonic,
        restart: RestartPolicy | None = None,
        on_state: Callable[[DriverState], None] | None = None,
    ) -> None:
        self._executor = executor
        self._config = config
        self._deliver = deliver
        self._prefix_key = prefix_key
        self._make_policy = make_policy
        self._clock = clock
        self._restart = restart or RestartPolicy()
        self._on_state = on_state
        self._classes: ServiceClasses | None = None
        self._judgements: deque[tuple[bool | None, bool | None]] = deque(maxlen=JUDGEMENTS_MAX)
        self._scheduler: Scheduler | None = None
        self._state = DriverState.STARTING
        self._changed = threading.Condition(threading.Lock())
        self._stopping = False
        self._loading = False
        self._losses = 0
        self._in_flight: StepPlan | None = None
        self._thread = threading.Thread(target=self._main, name="driver", daemon=True)
        self.info: ExecutorInfo | None = None
        self.failure: Exception | None = None
        self.restarts = 0

    # ---- called from any thread --------------------------------------------------------------------------------------

    @property
    def state(self) -> DriverState:
        return self._state

    @property
    def idle(self) -> bool:
        """Whether no request is in."""
        with self._changed:
            return self._scheduler is None or self._scheduler.idle

    def start(self) -> None:
        self._thread.start()

    def submit(self, spec: RequestSpec) -> Queued | Rejected:
        """Hand a request in. It is answered at once; if ``Queued``, its other events come through ``deliver``."""
        with self._changed:
            if self._scheduler is None or self._state in (DriverState.FAILED, DriverState.STOPPED):
                return Rejected(spec.request_id, RejectReason.NOT_READY, "The model is not ready.")
            if self._stopping:
                return Rejected(spec.request_id, RejectReason.DRAINING, "The server is shutting down.")
            now = self._clock()
            [answer] = self._scheduler.submit(now, spec)
            self._publish(self._scheduler.expire(now))  # who had to leave for it hears so at once
            self._changed.notify()
        return answer

    def abort(self, request_id: str, reason: FinishReason = FinishReason.ABORTED, detail: str = "") -> None:
        """End a request wherever it is; nothing happens if it has ended already or never was."""
        with self._changed:
            if self._scheduler is not None:
                self._publish(self._scheduler.abort(self._clock(), request_id, reason, detail))
                self._changed.notify()

    def configure(self, *, classes: ServiceClasses, caps: Mapping[str, int]) -> None:
        """Other promises for whoever comes, and other caps, from the next step on."""
        values: Mapping[str, Any] = caps  # all of them numbers; the record has fields of other types as well
        with self._changed:
            self._config, self._classes = replace(self._config, **values), classes
            if self._scheduler is not None:
                self._scheduler.configure(self._config, classes)
            self._changed.notify()

    def judge(self, ttft_kept: bool | None, itl_kept: bool | None) -> None:
        """Tell the policy, in time for the next step, what a client saw of a complete answer. Waits for nobody."""
        self._judgements.append((ttft_kept, itl_kept))

    def stats(self) -> Stats | None:
        with self._changed:
            return self._scheduler.stats(self._clock()) if self._scheduler else None

    def drain(self) -> None:
        """Admit nothing more; what is in goes on to its end."""
        with self._changed:
            if self._scheduler is not None:
                self._scheduler.drain()
            if self._state not in (DriverState.FAILED, DriverState.STOPPED):
                self._enter(DriverState.DRAINING)

    def stop(self) -> None:
        """End every request that is still in, the executor and the thread.

        Waits for the step in flight, ``STEP_GRACE_S`` at most; not for a model that loads.
        """
        with self._changed:
            self._stopping = True
            self._end_all(FinishReason.ABORTED, "The server is shutting down.")
            self._changed.notify()
        until_s = time.monotonic() + STEP_GRACE_S
        while self._thread.is_alive():
            if self._loading or time.monotonic() > until_s:
                self._executor.interrupt()
            self._thread.join(JOIN_S)

    # ---- the thread --------------------------------------------------------------------------------------------------

    def _main(self) -> None:
        try:
            while not self._stopping:
                try:
                    self._bring_up()
                    self._loop()
                except ExecutorLost as lost:
                    self._recover(lost)
        except Exception as error:  # nobody else sees what this thread raises
            self._fail(error)
        finally:
            self._executor.stop()
            if self._state is not DriverState.FAILED:
                with self._changed:
                    self._enter(DriverState.STOPPED)

    def _loop(self) -> None:
        while (plan := self._next_plan()) is not None:
            self._executor.begin(plan)
            result = self._executor.finish()
            with self._changed:
                assert self._scheduler is not None
                self._publish(self._scheduler.apply(self._clock(), result))
                self._in_flight = None
                self._losses = 0

    def _next_plan(self) -> StepPlan | None:
        """Wait until there is something to run; None when the driver stops."""
        with self._changed:
            assert self._scheduler is not None
            while not self._stopping:
                now = self._clock()
                while self._judgements:
                    self._scheduler.policy.judge(now, *self._judgements.popleft())
                self._in_flight = self._scheduler.plan(now)
                self._publish(self._scheduler.expire(now))  # and with it what the plan has done, before the step runs
                if self._in_flight is not None:
                    return self._in_flight
                deadline = self._scheduler.next_deadline_s()
                self._changed.wait(None if deadline is None else max(0.0, deadline - now))
        return None

    def _bring_up(self) -> None:
        """Start the executor; the first time, build the scheduler over what it offers."""
        self._loading = True
        try:
            info = self._executor.start()
            policy = None
            if self._scheduler is None and self._make_policy is not None:
                policy = self._make_policy(self._executor, info)  # it may try the executor first
        finally:
            self._loading = False
        with self._changed:
            self.info = info
            if self._scheduler is None:
                self._scheduler = Scheduler(info, self._config, prefix_key=self._prefix_key, policy=policy)
                if self._classes is not None:
                    self._scheduler.configure(self._config, self._classes)
                if self._state is DriverState.DRAINING:
                    self._scheduler.drain()
            else:
                self._publish(self._scheduler.executor_lost(self._clock(), info))
            if self._state is not DriverState.DRAINING:
                self._enter(DriverState.READY)

    def _recover(self, lost: ExecutorLost) -> None:
        """Put everything back in the queue, and wait a little before the next start."""
        if self._stopping:
            return
        self._losses += 1
        with self._changed:
            plan, self._in_flight = self._in_flight, None
            if self._scheduler is None or (plan is None and self._losses > self._restart.attempts):
                raise lost
            self.restarts += 1
            self._publish(self._scheduler.executor_lost(self._clock()))
            if plan is not None and self._losses >= self._restart.attempts:
                for chunk in plan.chunks:
                    self._publish(
                        self._scheduler.abort(self._clock(), chunk.request_id, FinishReason.FAILED, str(lost))
                    )
                self._losses = 0
            if self._state is not DriverState.DRAINING:
                self._enter(DriverState.RESTARTING)
            delay_s = min(self._restart.delay_s * 2.0 ** max(0, self._losses - 1), self._restart.delay_max_s)
            until_s = time.monotonic() + delay_s
            while not self._stopping and (left_s := until_s - time.monotonic()) > 0.0:
                now = self._clock()
                self._publish(self._scheduler.expire(now))
                deadline = self._scheduler.next_deadline_s()
                self._changed.wait(left_s if deadline is None else min(left_s, max(0.0, deadline - now)))

    def _fail(self, error: Exception) -> None:
        if not isinstance(error, ExecutorLost | ModelError):  # a bug of ours: say where
            logger.error("the driver failed", exc_info=error)
        with self._changed:
            self.failure = error
            try:
                self._end_all(FinishReason.FAILED, "The engine has stopped.")
            finally:
                self._enter(DriverState.FAILED)

    def _end_all(self, reason: FinishReason, detail: str) -> None:
        if self._scheduler is not None:
            self._publish(self._scheduler.end_all(self._clock(), reason, detail))

    def _publish(self, events: list[Event]) -> None:
        if events:
            self._deliver(events)

    def _enter(self, state: DriverState) -> None:
        if state is not self._state:
            self._state = state
            if self._on_state is not None:
                self._on_state(state)
