"""Simulated hardware as an executor with a clock of its own: for what drives executors, rather than simulations."""

from __future__ import annotations

from headway.policy.plan import DrawnToken, ExecutorInfo, StepPlan, StepResult
from headway.policy.stepshape import StepShape
from headway.sim.hardware import Hardware


class VirtualExecutor:
    """Runs plans in no time, and says how long they would have taken: ``clock`` moves on by it. Draws token 1 only."""

    def __init__(self, hardware: Hardware) -> None:
        self._hardware = hardware
        self._now = 0.0
        self._plan: StepPlan | None = None

    def clock(self) -> float:
        return self._now

    def start(self) -> ExecutorInfo:
        self._plan = None
        return self._hardware.info

    def begin(self, plan: StepPlan) -> None:
        assert self._plan is None, "a step is in flight"
        self._plan = plan

    def finish(self) -> StepResult:
        assert self._plan is not None, "no step is in flight"
        plan, self._plan = self._plan, None
        elapsed_s = self._hardware.step_s(StepShape.of(plan))
        self._now += elapsed_s
        drawn = tuple(DrawnToken(chunk.request_id, 1) for chunk in plan.chunks if chunk.draw is not None)
        return StepResult(plan.step_id, drawn, elapsed_s=elapsed_s)

    def stop(self) -> None:
        self._plan = None

    def interrupt(self) -> None:
        """Nothing ever takes long here."""
