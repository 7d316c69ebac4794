"""An executor that takes as long as the modelled machine would, and computes nothing."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from headway.policy.plan import ExecutorInfo, ExecutorLost, StepPlan, StepResult
from headway.policy.stepshape import StepShape
from headway.sim_engine.answers import Answers
from headway.sim_engine.machine import Machine


class SimulatedExecutor:
    """Runs plans in real time.

    A step of the model lasts from one plan to the next, so the time that the driver needs in between is part of it:
    where a request goes on, its step began when the last one was due to end. A host that is too slow for the machine
    shows: then steps last longer than modelled, and the time is not made up for.
    """

    def __init__(self, machine: Machine, answers: Answers, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._machine = machine
        self._answers = answers
        self._clock = clock
        self._interrupted = threading.Event()
        self._result: StepResult | None = None
        self._running: set[str] = set()
        self._due_s = 0.0

    def start(self) -> ExecutorInfo:
        self._interrupted.clear()
        self._result, self._running = None, set()
        return self._machine.offer(self._answers.vocab_size)

    def begin(self, plan: StepPlan) -> None:
        assert self._result is None, "a step is in flight"
        now = self._clock()
        goes_on = any(chunk.request_id in self._running for chunk in plan.chunks)
        began_s = self._due_s if goes_on else now
        elapsed_s = self._machine.step_s(StepShape.of(plan))
        self._due_s = max(began_s + elapsed_s, now)
        self._running = {chunk.request_id for chunk in plan.chunks}
        drawn = tuple(self._answers.draw(chunk) for chunk in plan.chunks if chunk.draw is not None)
        self._result = StepResult(plan.step_id, drawn, elapsed_s=elapsed_s)

    def finish(self) -> StepResult:
        assert self._result is not None, "no step is in flight"
        # Waits in the kernel, on the monotonic clock: it is late by what waking a thread takes, and spins for nothing.
        if self._interrupted.wait(max(0.0, self._due_s - self._clock())):
            raise ExecutorLost("the modelled machine was interrupted")
        result, self._result = self._result, None
        return result

    def stop(self) -> None:
        self._result = None

    def interrupt(self) -> None:
        self._interrupted.set()
