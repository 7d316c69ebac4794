"""Anything may happen in any order: the invariants hold after each of it, and every answer is the oracle's."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from headway.policy import invariants
from headway.policy.controller import PromiseConfig
from headway.policy.events import FinishReason, Rejected, RejectReason
from headway.policy.plan import DrawnToken, ExecutorInfo, StepResult
from headway.policy.policies import build
from headway.policy.policy import Policy
from headway.policy.scheduler import SchedulerConfig
from headway.policy.slo import NO_PROMISE, Objective, ServiceClasses
from tests.policy.promises import KnownModel
from tests.policy.world import World, spec

CONTEXT_TOKENS = 20
VOCAB_SIZE = 16
STOP_TOKEN = 15

INFOS = st.builds(
    lambda block_size, tokens: ExecutorInfo(block_size, tokens // block_size, CONTEXT_TOKENS, VOCAB_SIZE),
    st.sampled_from([1, 2, 4]),
    st.sampled_from([16, 20, 28]),
)
CONFIGS = st.builds(
    SchedulerConfig,
    max_step_tokens=st.sampled_from([64, 8, 2]),
    max_running=st.sampled_from([6, 3]),
    max_queued_requests=st.sampled_from([100, 3]),
    max_queued_tokens=st.sampled_from([1000, 20]),
    kv_watermark=st.sampled_from([0.0, 0.1]),
    kv_lookahead_tokens=st.sampled_from([0, 4]),
    max_preemptions=st.sampled_from([3, 1, 0]),
)
POLICIES = st.builds(
    lambda name, factor, promise: build(name, model=KnownModel(factor), promise=promise),
    st.sampled_from(["headway", "headway", "static", "prefill-first"]),
    st.sampled_from([1.0, 3.0, 1 / 3]),
    st.builds(
        PromiseConfig,
        never_shed=st.booleans(),
        fair=st.booleans(),
        order=st.booleans(),
        admission=st.booleans(),
        batch_fill=st.booleans(),
    ),
)
OBJECTIVES = st.sampled_from(
    [
        NO_PROMISE,
        NO_PROMISE,
        Objective(ttft_s=1.0, itl_s=0.1),
        Objective(ttft_s=0.03, itl_s=0.02),
        Objective(ttft_s=0.001),
        Objective(e2e_s=0.3),
    ]
)
PROMPTS = st.lists(st.integers(0, 1), min_size=1, max_size=6)
NUMBERS = st.integers(0, 7)
TURNS = 25
"""Steps that one without a promise may have to let pass."""


class SchedulerMachine(RuleBasedStateMachine):
    """Requests over an alphabet of two tokens, so that prefixes are shared; ``World`` checks after every call."""

    @initialize(info=INFOS, config=CONFIGS, policy=POLICIES, crowd=st.sampled_from([4, 2, 0]))
    def start(self, info: ExecutorInfo, config: SchedulerConfig, policy: Policy, crowd: int) -> None:
        """``crowd`` long answers are there from the start, so that blocks run out soon."""
        self.world = World(info, config, policy)
        self.cut_short: set[str] = set()
        self.results: list[StepResult] = []
        self.stale = 0
        self.submitted = 0
        for number in range(crowd):
            self.world.submit(spec(f"crowd{number}", [number, 0], 14, seed=number))

    @rule(
        prompt=PROMPTS,
        max_tokens=st.sampled_from([14, 8, 3, 1]),
        copies=st.sampled_from([4, 2, 1]),
        min_tokens=st.integers(0, 3),
        salt=st.sampled_from([b"", b"tenant"]),
        patience_s=st.sampled_from([None, None, None, 0.05]),
        objective=OBJECTIVES,
        may_demote=st.booleans(),
    )
    def submit(
        self,
        prompt: list[int],
        max_tokens: int,
        copies: int,
        min_tokens: int,
        salt: bytes,
        patience_s: float | None,
        objective: Objective,
        may_demote: bool,
    ) -> None:
        """One prompt, drawn from several times, as with ``n``."""
        for seed in range(copies):
            name = f"r{self.submitted}"
            self.submitted += 1
            request = spec(
                name,
                prompt,
                max_tokens,
                seed=seed,
                stop=(STOP_TOKEN,),
                min_tokens=min_tokens,
                deadline_s=None if patience_s is None else self.world.now + patience_s,
                salt=salt,
            )
            if not objective.is_empty:
                request = replace(request, service_class="conversational", objective=objective, may_demote=may_demote)
            self.world.submit(request)

    def live(self, number: int) -> str | None:
        """Some request that is here, if any is."""
        names = list(self.world.scheduler.requests)
        return names[number % len(names)] if names else None

    @rule(number=NUMBERS)
    def submit_again(self, number: int) -> None:
        name = self.live(number)
        if name is not None:
            event = self.world.submit(spec(name))
            assert isinstance(event, Rejected)
            assert event.reason is RejectReason.INVALID

    @precondition(lambda self: self.world.executor.plan is None)
    @rule()
    def begin(self) -> None:
        self.world.begin()

    @precondition(lambda self: self.world.executor.plan is not None)
    @rule()
    def finish(self) -> None:
        self.results.append(self.world.finish())

    @precondition(lambda self: self.world.executor.plan is not None)
    @rule(number=NUMBERS)
    def finish_with_tokens_for_nobody(self, number: int) -> None:
        """Each request's own token comes first: of two, the second one is not wanted."""
        result = self.world.executor.finish()
        extra = [DrawnToken("nobody", 0), *result.drawn]
        name = self.live(number)
        if name is not None and name not in {each.request_id for each in result.drawn}:
            extra.append(DrawnToken(name, 0))
        self.world.apply(replace(result, drawn=(*result.drawn, *extra)))
        self.results.append(result)

    @precondition(lambda self: self.results)
    @rule(data=st.data())
    def late_or_duplicate_result(self, data: st.DataObject) -> None:
        self.world.apply(data.draw(st.sampled_from(self.results)))
        self.stale += 1

    @rule(steps=st.sampled_from([8, 3]))
    def go_on(self, steps: int) -> None:
        """Several whole steps: keeps the runs from being all beginnings."""
        if self.world.executor.plan is not None:
            self.finish()
        for _ in range(steps):
            self.world.step()

    @rule(number=NUMBERS, reason=st.sampled_from([FinishReason.ABORTED, FinishReason.STOP]))
    def abort(self, number: int, reason: FinishReason) -> None:
        name = self.live(number) or "nobody"
        self.cut_short.add(name)
        self.world.abort(name, reason)

    @rule(number=NUMBERS)
    def abort_again(self, number: int) -> None:
        """One that has ended: nothing happens."""
        ended = list(self.world.history.ended)
        if ended:
            self.world.abort(ended[number % len(ended)])

    @rule(number=NUMBERS)
    def fail(self, number: int) -> None:
        name = self.live(number)
        if name is not None:
            self.cut_short.add(name)
            self.world.executor.failing.add(name)

    @rule(elapsed_s=st.sampled_from([0.0, 0.03, 1.0]))
    def time_passes(self, elapsed_s: float) -> None:
        self.world.now += elapsed_s
        self.world.expire()

    @rule(max_step_tokens=st.sampled_from([1, 8, 64]), itl_s=st.sampled_from([0.005, 0.1]))
    def configure(self, max_step_tokens: int, itl_s: float) -> None:
        scheduler = self.world.scheduler
        classes = ServiceClasses().with_objective("conversational", Objective(ttft_s=0.3, itl_s=itl_s))
        scheduler.configure(replace(scheduler.config, max_step_tokens=max_step_tokens), classes)

    @rule()
    def lose_executor(self) -> None:
        if self.world.executor.plan is not None:  # its result comes all the same, too late
            self.results.append(self.world.executor.finish())
        self.world.lose_executor()

    def teardown(self) -> None:
        """Faults and arrivals stop: all is done within bounded steps, one terminal event each, every answer right."""
        if not hasattr(self, "world"):
            return
        world = self.world
        if world.executor.plan is not None:
            world.finish()
        requests = world.scheduler.requests.values()
        attempts = 1 + world.scheduler.config.max_preemptions
        work = sum(len(each.spec.prompt) + 2 * each.spec.max_tokens for each in requests)
        world.run(steps=1 + attempts * work + TURNS * len(requests))
        unserved = (FinishReason.EXPIRED, FinishReason.SHED)
        cut = {name for name, end in world.history.ended.items() if end.reason in unserved}
        world.check_answers(but=frozenset(self.cut_short | cut))
        invariants.check_ledger(world.scheduler)
        invariants.check_counters(world.scheduler, world.history)
        assert world.scheduler.counters.stale_results == self.stale


SchedulerMachine.TestCase.settings = settings(max_examples=200, stateful_step_count=50)
TestSchedulerMachine = SchedulerMachine.TestCase
