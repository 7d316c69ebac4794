"""A replica that runs a stretch of steps at once in which all decode and nobody comes or leaves.

What comes of it is what ``messages`` gives, step by step: exactly so with a policy that learns nothing from steps.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Callable, Sequence
from itertools import accumulate
from operator import mul
from typing import Any

from headway.policy.events import Finished, FinishReason
from headway.policy.foretold import ForetoldSteps
from headway.policy.request import Foretold
from headway.policy.stepshape import StepShape
from headway.sim.agenda import STEP_END
from headway.sim.faults import LostWorker
from headway.sim.hardware import decode_steps_s
from headway.sim.live import Attempt
from headway.sim.replica import Replica, View
from headway.sim.workload import STOP_TOKEN

ENDS_KEPT = 1 << 12
"""After so many steps, the ends of those that no request needs any more are dropped."""


Bisect = Callable[[Sequence[float], float, int, int], int]
"""``bisect_right``: a step that ends now is over; ``bisect_left``: not yet."""


class CoastingReplica(Replica):
    """See the module. The step in flight and its repetitions end at ``_ends``; ``_done`` of them are over."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._foretold = ForetoldSteps(self.scheduler)
        self._ends: list[float] = []
        self._done = 0
        self._factors: list[float] = []  # how much longer each of these steps takes by chance
        self._drawn: deque[float] = deque()  # the same for those that come after
        self._history = array("d")  # when all steps ended, from number ``_history_from`` on
        self._history_from = 0
        self._look_at = ENDS_KEPT

    @property
    def _coasts(self) -> bool:
        """Whether the step in flight will be followed by its like."""
        return len(self._ends) - self._done > 1

    def settle(self, now: float) -> None:
        self._pass(bisect_right, now)

    def view(self, now: float) -> View:
        step = self.scheduler.in_flight
        if step is None or not self._coasts:
            return super().view(now)
        # Everybody here decodes, so there is no need to go through them, nor to settle.
        ends, over, count = self._ends, self._over(bisect_right, now), step.shape.sequences
        context = step.shape.decode_context + (over - self._done) * count
        began_s = ends[over - 1] if over > self._done else step.began_s
        free_s = max(now, began_s + self.hardware.step_s(StepShape(count, count, context, 0.0)))
        return View(free_s, count, context, 0)

    def token_times(self, attempt: Attempt) -> None:
        self._fill_in(attempt, self.scheduler.requests[attempt.request_id].told)

    def _turn_to(self, now: float, *, with_now: bool = True) -> None:
        self._pass(bisect_right if with_now else bisect_left, now)
        self._foretold.learn()

    def _over(self, bisect: Bisect, now: float) -> int:
        """How many of ``_ends`` are over; the last one has an event of its own."""
        return bisect(self._ends, now, self._done, len(self._ends) - 1)

    def _pass(self, bisect: Bisect, now: float) -> None:
        if not self._coasts:
            return
        done, over = self._done, self._over(bisect, now)
        if over > done:
            since = self._ends[done:over]
            self._foretold.repeat(since)
            self._history.extend(since)
            self._done = over
            self.stepped_s = since[-1]
            self.steps += over - done

    def _begin_step(self, now: float) -> bool:
        step = self._foretold.begin(now)
        self.tell(now)
        if step is None:
            return False
        repeats = 0 if self._slowness.is_uneven else self._foretold.repeats()
        self._done = 0
        if repeats:
            times = self._many_s(step.shape, repeats + 1)
            times[0] += now
            self._ends = ends = list(accumulate(times))
            deadline_s = self.scheduler.next_deadline_s()
            if deadline_s is not None:
                del ends[bisect_left(ends, deadline_s) + 1 :]
            self._put_back(len(ends))
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
        self._turn_to(now)
        self.steps += 1
        self.stepped_s = now
        self._history.append(now)
        self._ends = []
        if len(self._history) > self._look_at:
            self._forget()
        self._take(now, self._foretold.end(now))
        self.go_on(now)
        return True

    def _disturbed(self) -> None:
        scheduler = self.scheduler
        step = scheduler.in_flight
        if step is None or not self._coasts:
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
        self._foretold.foretell(attempt.request_id, answer)

    def _token_came(self, now: float, attempt: Attempt, index: int) -> None:
        runs, step = attempt.runs, self._history_from + len(self._history) - 1
        if not runs or step - runs[-1][1] != index - runs[-1][0]:
            runs.append((index, step))

    def _complete(self, attempt: Attempt, ending: Finished) -> None:
        self._fill_in(attempt, ending.output_tokens - (ending.reason is FinishReason.STOP))

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
