"""A scheduler, a fake executor and a clock that only moves when told: the whole world of a policy test."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle

from headway.policy import invariants
from headway.policy.allowance import Allowance, TokenAllowance
from headway.policy.baselines import FirstComeFirstServed
from headway.policy.events import Event, FinishReason, Queued, Rejected
from headway.policy.plan import ExecutorInfo, StepPlan, StepResult
from headway.policy.policy import Load, Policy, Scene
from headway.policy.request import RequestSpec
from headway.policy.sampling import SamplingParams
from headway.policy.scheduler import Scheduler, SchedulerConfig
from tests.policy.fake_executor import STEP_S, FakeExecutor, oracle

KEY = b"a key for tests"


def info(block_size: int = 4, kv_blocks: int = 16, context_tokens: int = 64, vocab_size: int = 50) -> ExecutorInfo:
    return ExecutorInfo(block_size, kv_blocks, context_tokens, vocab_size)


def spec(
    request_id: str,
    prompt: int | Sequence[int] = 4,
    max_tokens: int = 4,
    *,
    seed: int = 0,
    stop: tuple[int, ...] = (),
    min_tokens: int = 0,
    deadline_s: float | None = None,
    salt: bytes = b"",
) -> RequestSpec:
    """A request; a prompt given as a length is 0, 1, 2, ..."""
    tokens = tuple(range(prompt)) if isinstance(prompt, int) else tuple(prompt)
    sampling = SamplingParams(seed=seed, stop_token_ids=stop, min_tokens=min_tokens)
    return RequestSpec(
        request_id=request_id,
        prompt=tokens,
        max_tokens=max_tokens,
        sampling=sampling,
        deadline_s=deadline_s,
        salt=salt,
    )


class WobblingPolicy(FirstComeFirstServed):
    """Allows another number of tokens from step to step, as a controller does."""

    def __init__(self, *limits: int) -> None:
        self.limits = cycle(limits)

    def allowance(self, now: float, load: Load, scene: Scene) -> Allowance:
        return TokenAllowance(next(self.limits))


class World:
    """Drives one scheduler and checks the invariants after everything it does."""

    def __init__(
        self,
        executor_info: ExecutorInfo | None = None,
        config: SchedulerConfig | None = None,
        policy: Policy | None = None,
        *,
        check_submissions: bool = True,
    ) -> None:
        """Without ``check_submissions`` what a submission may break shows at the next step: for many small worlds."""
        self.executor = FakeExecutor(executor_info or info())
        self.scheduler = Scheduler(self.executor.start(), config or SchedulerConfig(), prefix_key=KEY, policy=policy)
        self.history = invariants.History()
        self._check_submissions = check_submissions
        self.log: list[Event] = []
        self.specs: dict[str, RequestSpec] = {}
        self.now = 0.0

    def submit(self, request: RequestSpec) -> Queued | Rejected:
        (event,) = self.scheduler.submit(self.now, request)
        if isinstance(event, Queued):
            self.specs[request.request_id] = request
        self._saw([event], check=self._check_submissions)
        return event

    def abort(self, request_id: str, reason: FinishReason = FinishReason.ABORTED) -> None:
        self._saw(self.scheduler.abort(self.now, request_id, reason))

    def expire(self) -> None:
        self._saw(self.scheduler.expire(self.now))

    def begin(self) -> StepPlan | None:
        plan = self.scheduler.plan(self.now)
        invariants.check_planned(self.scheduler, plan)
        if plan is not None:
            self.executor.begin(plan)
        return plan

    def finish(self, elapsed_s: float = STEP_S) -> StepResult:
        result = self.executor.finish()
        self.apply(result, elapsed_s)
        return result

    def apply(self, result: StepResult, elapsed_s: float = STEP_S) -> list[Event]:
        self.now += elapsed_s
        events = self.scheduler.apply(self.now, result)
        self._saw(events)
        return events

    def step(self) -> StepPlan | None:
        plan = self.begin()
        if plan is not None:
            self.finish()
        return plan

    def lose_executor(self, executor_info: ExecutorInfo | None = None) -> None:
        self.executor.info = executor_info or self.executor.info
        self._saw(self.scheduler.executor_lost(self.now, self.executor.start()))

    def run(self, steps: int = 10_000) -> int:
        """Step until nothing is left to do. Returns how many steps that took."""
        for count in range(steps):
            if self.step() is None:
                self.expire()
                assert self.scheduler.idle
                self.history.check_idle()
                return count
        raise AssertionError(f"still busy after {steps} steps")

    def output(self, request_id: str) -> list[int]:
        return self.history.output[request_id]

    def reason(self, request_id: str) -> FinishReason:
        return self.history.ended[request_id].reason

    def check_answers(self, *, but: frozenset[str] = frozenset()) -> None:
        """Every request ended as the oracle says. Those in ``but`` were cut short: what they got is a beginning."""
        for name, request in self.specs.items():
            tokens, reason = oracle(request, self.executor.info.vocab_size)
            if name in but:
                assert self.output(name) == tokens[: len(self.output(name))], name
            else:
                assert (self.output(name), self.reason(name)) == (tokens, reason), name

    def _saw(self, events: Sequence[Event], *, check: bool = True) -> None:
        self.log += events
        self.history.observe(list(events))
        if check:
            invariants.check(self.scheduler)
