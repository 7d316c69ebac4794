"""A replica that runs a stretch of steps at once in which all decode and nobody comes or leaves.

What comes of it is what ``messages`` gives, step by step: exactly so with a policy that learns nothing from steps.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections import deque
from itertools import accumulate
from operator import mul
from typing import Any

from headway.policy.events import Event, Finished, FinishReason, TokenOut
from headway.policy.request import Foretold
from headway.policy.stepshape import StepShape
from headway.sim.agenda import STEP_END
from headway.sim.faults import LostWorker
from headway.sim.hardware import decode_steps_s
from headway.sim.live import Attempt
from headway.sim.replica import Replica
from headway.sim.workload import STOP_TOKEN

ENDS_KEPT = 1 << 12
"""After so many steps, the ends of those that no request needs any more are dropped."""


class CoastingReplica(Replica):
    """See the module. The step in flight and its repetitions end at ``_ends``; ``_done`` of them are over."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._ends: list[float] = []
        self._done = 0
        self._factors: list[float] = []  # how much longer each of these steps takes by chance
        self._drawn: deque[float] = deque()  # the same for those that come after
        self._history = array("d")  # when all steps ended, from number ``_history_from`` on
        self._history_from = 0
        self._look_at = ENDS_KEPT

    def settle(self, now: float, *, with_now: bool = True) -> None:
        ends, done = self._ends, self._done
        if len(ends) - done < 2 or now < ends[done]:
            return
        over = min(len(ends) - 1, (bisect_right if with_now else bisect_left)(ends, now, done))
        if over > done:
            since = ends[done:over]
            self.scheduler.repeat(since)
            self._history.extend(since)
            self._done = over
            self.stepped_s = since[-1]
            self.steps += over - done

    def token_times(self, attempt: Attempt) -> None:
        self._fill_in(attempt, self.scheduler.requests[attempt.request_id].told)

    def _begin_step(self, now: float) -> bool:
        scheduler = self.scheduler
        step = scheduler.begin(now)
        self.tell(now)
        if step is None:
            return False
        repeats = 0 if self._slowness.is_uneven else scheduler.repeats()
        self._done = 0
        if repeats:
            ends = list(accumulate(self._many_s(step.shape, repeats + 1), initial=now))
            deadline_s = scheduler.next_deadline_s()
            last = len(ends) if deadline_s is None else bisect_left(ends, deadline_s, 1)
            self._ends = ends[1 : last + 1]
            self._put_back(len(self._ends))
        else:
            elapsed_s = self.hardware.step_s(step.shape) * self._slowness.factor(now)
            if self.hardware.noise:
                elapsed_s *= self._draw(1)[0]
            self._ends = [now + elapsed_s]
        self._agenda.push(self._ends[-1], STEP_END, self._end_step, self._ends)
        return True

    def _end_step(self, now: float, ends: list[float]) -> bool:
        if ends is not self._ends:
            return False  # it was cut short, or the worker was lost
        self.settle(now)
        self.steps += 1
        self.stepped_s = now
        self._history.append(now)
        self._ends = []
        if len(self._history) > self._look_at:
            self._forget()
        self._take(now, self.scheduler.end(now))
        self.go_on(now)
        return True

    def _disturbed(self) -> None:
        scheduler = self.scheduler
        step = scheduler.in_flight
        if len(self._ends) - self._done < 2 or step is None:
            return
        if len(scheduler.running) == len(step.entries) == len(scheduler.requests):
            return  # nobody has come or left
        self._put_back(self._done + 1)
        self._ends, self._done = [self._ends[self._done]], 0
        self._agenda.push(self._ends[0], STEP_END, self._end_step, self._ends)

    def _lose_worker(self, now: float, lost: LostWorker) -> None:
        super()._lose_worker(now, lost)
        self._put_back(self._done + 1)
        self._ends, self._done = [], 0

    def _taken_in(self, attempt: Attempt) -> None:
        call = attempt.call
        own, prompt, output = call.index + 1, call.size.prompt_tokens, attempt.output_tokens
        if output < call.max_tokens:
            answer = Foretold(own, prompt + output, STOP_TOKEN)
        else:
            answer = Foretold(own, prompt + call.max_tokens - 1, own)
        self.scheduler.foretell(attempt.request_id, answer)

    def _take(self, now: float, events: list[Event]) -> None:
        for event in events:
            if type(event) is TokenOut:
                runs, step = self.attempts[event.request_id].runs, self._history_from + len(self._history) - 1
                if not runs or step - runs[-1][1] != event.index - runs[-1][0]:
                    runs.append((event.index, step))
                continue
            if type(event) is Finished:
                told = event.output_tokens - (event.reason is FinishReason.STOP)
                self._fill_in(self.attempts[event.request_id], told)
            super()._take(now, [event])

    # Times.

    def _many_s(self, shape: StepShape, steps: int) -> list[float]:
        """How long so many steps take that only decode."""
        times = decode_steps_s(self.hardware, shape.sequences, shape.decode_context, steps)
        return list(map(mul, times, self._draw(steps))) if self.hardware.noise else times

    def _draw(self, count: int) -> list[float]:
        """How much longer the next steps take by chance."""
        drawn, sigma = self._drawn, self.hardware.noise
        while len(drawn) < count:
            drawn.append(self._noise.lognormvariate(0.0, sigma))
        self._factors = [drawn.popleft() for _ in range(count)]
        return self._factors

    def _put_back(self, used: int) -> None:
        """Of the chances drawn, those of steps that did not come to begin are for the next ones."""
        self._drawn.extendleft(reversed(self._factors[used:]))
        del self._factors[used:]

    def _fill_in(self, attempt: Attempt, told: int) -> None:
        times, runs = array("d"), attempt.runs
        for number, (index, step) in enumerate(runs, start=1):
            until = runs[number][0] if number < len(runs) else told
            at = step - self._history_from
            times.extend(self._history[at : at + until - index])
        attempt.token_times = times

    def _forget(self) -> None:
        """Drop the ends of steps before the first that a request here needs."""
        over = self._history_from + len(self._history) - 1
        needed = min((attempt.runs[0][1] for attempt in self.attempts.values() if attempt.runs), default=over)
        del self._history[: needed - self._history_from]
        self._history_from = needed
        self._look_at = len(self._history) + ENDS_KEPT
