"""Record what is asked of a scheduler, and when; ask another the same; see whether it answers the same.

So an incident of a real server becomes a test: nothing but the calls and their times decides what a scheduler does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from headway.policy.events import Event, FinishReason, Queued, Rejected
from headway.policy.plan import ExecutorInfo, StepPlan, StepResult
from headway.policy.policy import Policy
from headway.policy.request import RequestSpec
from headway.policy.scheduler import Scheduler, SchedulerConfig
from headway.policy.slo import ServiceClasses


@dataclass
class Recording:
    """The calls of one scheduler, with their answers, in order; and what it was made with."""

    info: ExecutorInfo
    config: SchedulerConfig
    prefix_key: bytes
    calls: list[tuple[str, tuple[Any, ...], Any]] = field(default_factory=list)

    def replay(self, policy: Policy) -> int:
        """Ask a fresh scheduler the same. Raises AssertionError at the first answer that is another. How many steps
        were planned."""
        scheduler = Scheduler(self.info, self.config, prefix_key=self.prefix_key, policy=policy)
        steps = 0
        for number, (name, arguments, answer) in enumerate(self.calls):
            again = getattr(scheduler, name)(*arguments)
            assert again == answer, f"24: call {number}, {name}, gave {again}, not {answer}"
            steps += isinstance(again, StepPlan)
        return steps


class RecordingScheduler(Scheduler):
    """A scheduler that writes down what it was asked and what it answered."""

    def __init__(
        self, info: ExecutorInfo, config: SchedulerConfig, *, prefix_key: bytes, policy: Policy | None = None
    ) -> None:
        super().__init__(info, config, prefix_key=prefix_key, policy=policy)
        self.recording = Recording(info, config, prefix_key)

    def _note(self, name: str, call: Callable[..., Any], *arguments: Any) -> Any:
        answer = call(*arguments)
        self.recording.calls.append((name, arguments, answer))
        return answer

    def submit(self, now: float, spec: RequestSpec) -> list[Queued | Rejected]:
        return self._note("submit", super().submit, now, spec)  # type: ignore[no-any-return]

    def abort(
        self, now: float, request_id: str, reason: FinishReason = FinishReason.ABORTED, detail: str = ""
    ) -> list[Event]:
        return self._note("abort", super().abort, now, request_id, reason, detail)  # type: ignore[no-any-return]

    def expire(self, now: float) -> list[Event]:
        return self._note("expire", super().expire, now)  # type: ignore[no-any-return]

    def configure(self, config: SchedulerConfig, classes: ServiceClasses) -> None:
        self._note("configure", super().configure, config, classes)

    def plan(self, now: float) -> StepPlan | None:
        return self._note("plan", super().plan, now)  # type: ignore[no-any-return]

    def apply(self, now: float, result: StepResult) -> list[Event]:
        return self._note("apply", super().apply, now, result)  # type: ignore[no-any-return]

    def executor_lost(self, now: float, info: ExecutorInfo | None = None) -> list[Event]:
        return self._note("executor_lost", super().executor_lost, now, info)  # type: ignore[no-any-return]
