"""A replica that runs step by step, with the messages that a real executor would get: to check the other by."""

from __future__ import annotations

from headway.policy.plan import Draw, DrawnToken, StepPlan, StepResult
from headway.sim.agenda import STEP_END
from headway.sim.live import Attempt
from headway.sim.replica import Replica
from headway.sim.workload import STOP_TOKEN


class MessageReplica(Replica):
    """Slow: every token of every request is handed to and fro."""

    def _begin_step(self, now: float) -> bool:
        scheduler = self.scheduler
        plan = scheduler.plan(now)
        self.tell(now)
        if plan is None:
            return False
        step = scheduler.in_flight
        assert step is not None, "a plan that is not in flight"
        elapsed_s = self.hardware.step_s(step.shape) * self._slowness.factor(now)
        if self.hardware.noise:
            elapsed_s *= self._noise.lognormvariate(0.0, self.hardware.noise)
        self._agenda.push(now + elapsed_s, STEP_END, self._end_step, (plan, elapsed_s))
        return True

    def _end_step(self, now: float, what: tuple[StepPlan, float]) -> bool:
        plan, elapsed_s = what
        step = self.scheduler.in_flight
        if step is None or plan is not step.plan:
            return False  # the worker was lost, and the step with it
        self.steps += 1
        self.stepped_s = now
        drawn = [
            DrawnToken(chunk.request_id, self._token(attempt, chunk.draw))
            for chunk in plan.chunks
            if chunk.draw is not None and (attempt := self.attempts.get(chunk.request_id)) is not None
        ]  # none for one that ended during the step
        self._take(now, self.scheduler.apply(now, StepResult(plan.step_id, tuple(drawn), (), elapsed_s)))
        self.go_on(now)
        return True

    def _token_came(self, now: float, attempt: Attempt, index: int) -> None:
        attempt.token_times.append(now)

    def _token(self, attempt: Attempt, draw: Draw) -> int:
        """The call's own until its answer is whole."""
        return attempt.call.index + 1 if draw.output_index < attempt.output_tokens else STOP_TOKEN
