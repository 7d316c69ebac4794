"""Whole runs drawn from one seed: a small world with some faults on and others off, chaos first and then peace.

Run as a program it prints the event log of the seeds given, twice over: ``python -m tests.policy.swarm SEED...``.
"""

from __future__ import annotations

import math
import sys
from copy import deepcopy
from dataclasses import replace
from functools import cache
from random import Random

from headway.policy import invariants
from headway.policy.controller import PromiseConfig
from headway.policy.events import FinishReason, Rejected
from headway.policy.margin import MARGIN_MAX
from headway.policy.plan import ExecutorInfo, StepPlan, StepResult
from headway.policy.policies import build
from headway.policy.policy import Policy
from headway.policy.request import RequestSpec
from headway.policy.scheduler import SchedulerConfig
from headway.policy.slo import BATCH, CONVERSATIONAL, INTERACTIVE, NO_PROMISE, Objective, ServiceClass, ServiceClasses
from headway.policy.stepshape import StepShape
from headway.policy.steptime import StepTimeModel
from tests.policy.promises import KnownModel, true_step_s
from tests.policy.world import WobblingPolicy, World, spec

VOCAB_SIZE = 12
STOP_TOKEN = 11
MOMENTS = 20
RETRIES = 2
PATIENCE_S = 5.0
"""A client that is told to come again later than this doesn't."""

CLASSES = ServiceClasses((CONVERSATIONAL, INTERACTIVE, BATCH, ServiceClass(name="e2e", objective=Objective(e2e_s=0.5))))


@cache
def _learned() -> StepTimeModel:
    """A model that was calibrated on the worlds' machine."""
    model = StepTimeModel()
    shapes = [StepShape(tokens, tokens, 10 * tokens, 0.0) for tokens in range(1, 7)]
    shapes += [StepShape(tokens, 1, 0, tokens * tokens / 2) for tokens in (1, 2, 4, 8, 16)]
    for shape in 4 * shapes:
        model.observe(shape, 0.008 + 0.0005 * shape.tokens)
    model.calibrated()
    return model


class Swarm:
    """One run. The same seed gives the same calls at the same times."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        pick = self.random.choice
        block_size = pick([1, 2, 4])
        tokens = pick([16, 24, 40, 64])
        info = ExecutorInfo(block_size, tokens // block_size, 32, VOCAB_SIZE)
        self.world = World(info, self._draw_config(), self._draw_policy(), check_submissions=False)
        self.cut_short: set[str] = set()
        actions = [self.abort, self.fail, self.lose_executor, self.stale_result, self.time_passes, self.configure]
        actions += [self.slow_down, self.outlier, self.not_a_number]
        self.faults = [action for action in actions if self.random.random() < 0.4]
        self.fault_odds = pick([0.02, 0.1, 0.3])
        self.arrival_odds = pick([0.1, 0.3, 0.8])
        self.copies = pick([1, 1, 1, 3])
        self.stopping = pick([True, False])
        self.promise_odds = pick([0.0, 0.5, 0.9])
        self.demote_odds = pick([0.0, 0.5])
        self.slowness = 1.0
        self.outlier_s = 0.0
        self.results: list[StepResult] = []
        self.retries: list[tuple[float, int, RequestSpec]] = []

    def run(self) -> World:
        """Chaos, then neither faults nor arrivals: everything must end, in a bounded number of steps."""
        for moment in range(MOMENTS):
            if self.random.random() < self.arrival_odds:
                for copy in range(self.copies):
                    self.submit(f"r{moment}.{copy}")
            self.retry()
            if self.faults and self.random.random() < self.fault_odds:
                self.random.choice(self.faults)()
            self.advance()
        self.slowness, self.outlier_s = 1.0, 0.0
        if self.world.executor.plan is not None:
            self.advance()
        self.world.run(steps=self._steps_at_most())
        invariants.check_ledger(self.world.scheduler)
        return self.world

    def check(self) -> None:
        unserved = (FinishReason.EXPIRED, FinishReason.SHED)
        ended = {name for name, end in self.world.history.ended.items() if end.reason in unserved}
        self.world.check_answers(but=frozenset(self.cut_short | ended))
        invariants.check_counters(self.world.scheduler, self.world.history)
        numbers = self.world.scheduler.policy.numbers(0.0)
        assert all(map(math.isfinite, numbers.values())), f"18: {numbers}"
        for name in {"ttft_margin", "itl_margin"} & set(numbers):
            assert 1.0 <= numbers[name] <= MARGIN_MAX, f"18: {name} is {numbers[name]}"

    # The world as it is drawn.

    def _draw_config(self) -> SchedulerConfig:
        pick = self.random.choice
        return SchedulerConfig(
            max_step_tokens=pick([1, 3, 8, 64]),
            max_running=pick([1, 2, 4, 6]),
            max_queued_requests=pick([4, 100]),
            max_queued_tokens=pick([30, 1000]),
            kv_watermark=pick([0.0, 0.1]),
            kv_deferrable_watermark=pick([0.0, 0.3, 0.9]),
            kv_lookahead_tokens=pick([0, 0, 4, 64]),
            max_preemptions=pick([0, 1, 3, 3]),
        )

    def _draw_policy(self) -> Policy:
        pick = self.random.choice
        name = pick(["headway", "headway", "headway", "headway", "static", "aimd", "prefill-first", "wobbling"])
        if name == "wobbling":
            return WobblingPolicy(*pick([(64, 1, 3), (2, 1, 2, 9)]))
        promise = PromiseConfig(
            never_shed=pick([False, False, True]),
            fair=pick([False, True]),
            order=pick([True, True, False]),
            admission=pick([True, True, False]),
            batch_fill=pick([True, True, False]),
        )
        return build(name, model=self._draw_model(), classes=CLASSES, promise=promise)

    def _draw_model(self) -> StepTimeModel:
        match self.random.choice(["exact", "exact", "fast", "slow", "cold", "learned"]):
            case "exact":
                return KnownModel()
            case "fast":
                return KnownModel(1 / 3)
            case "slow":
                return KnownModel(3.0)
            case "learned":
                return deepcopy(_learned())
        return StepTimeModel()

    def _steps_at_most(self) -> int:
        """What liveness is measured by: everybody starts over as often as allowed, one token at a time."""
        requests = self.world.scheduler.requests.values()
        attempts = 1 + self.world.scheduler.config.max_preemptions
        return 10 + 20 * attempts * sum(len(each.spec.prompt) + 2 * each.spec.max_tokens for each in requests)

    # What happens.

    def submit(self, name: str) -> None:
        pick = self.random.choice
        prompt = [self.random.randint(0, 1) for _ in range(self.random.randint(1, 10))]
        deadline_s = self.world.now + 0.3 if self.time_passes in self.faults and self.random.random() < 0.3 else None
        chosen = BATCH
        if self.random.random() < self.promise_odds:
            chosen = pick([CONVERSATIONAL, INTERACTIVE, CLASSES["e2e"]])
        objective = chosen.objective
        if not chosen.is_batch and self.random.random() < 0.3:
            objective = Objective(ttft_s=pick([0.001, 0.03, 10.0]), itl_s=pick([0.001, 0.02, 1.0, None]))
        plain = spec(
            name,
            prompt,
            self.random.randint(1, 10),
            seed=self.random.randint(0, 2),
            stop=(STOP_TOKEN,) if self.stopping else (),
            deadline_s=deadline_s,
            salt=pick([b"", b"tenant"]),
        )
        self._send(
            0,
            replace(
                plain,
                service_class=chosen.name,
                objective=objective if not chosen.is_batch else NO_PROMISE,
                weight=pick([1.0, 1.0, 3.0]),
                may_demote=not chosen.is_batch and self.random.random() < self.demote_odds,
                tenant=plain.salt.decode(),
            ),
        )

    def _send(self, attempt: int, request: RequestSpec) -> None:
        event = self.world.submit(request)
        wait_s = event.retry_after_s if isinstance(event, Rejected) else None
        if wait_s is not None and wait_s <= PATIENCE_S and attempt < RETRIES:
            again = replace(request, request_id=f"{request.request_id}'")
            self.retries.append((self.world.now + wait_s / 10, attempt + 1, again))

    def retry(self) -> None:
        due = [each for each in self.retries if each[0] <= self.world.now]
        self.retries = [each for each in self.retries if each[0] > self.world.now]
        for _, attempt, request in due:
            self._send(attempt, request)

    def advance(self) -> None:
        if self.world.executor.plan is None:
            self.world.begin()
        else:
            self.results.append(self.world.finish(self._elapsed_s(self.world.executor.plan)))

    def _elapsed_s(self, plan: StepPlan) -> float:
        elapsed_s = true_step_s(plan) * self.slowness + self.outlier_s
        self.outlier_s = 0.0
        return elapsed_s

    def victim(self) -> str:
        name = self.random.choice([*self.world.scheduler.requests, "nobody"])
        self.cut_short.add(name)
        return name

    def abort(self) -> None:
        self.world.abort(self.victim())

    def fail(self) -> None:
        self.world.executor.failing.add(self.victim())

    def lose_executor(self) -> None:
        self.world.lose_executor()

    def stale_result(self) -> None:
        if self.results:
            self.world.apply(self.random.choice(self.results))

    def time_passes(self) -> None:
        self.world.now += 0.1
        self.world.expire()

    def slow_down(self) -> None:
        self.slowness = self.random.choice([0.5, 1.0, 3.0])

    def outlier(self) -> None:
        self.outlier_s = 1.0

    def not_a_number(self) -> None:
        """The clock is broken: no step takes such a time."""
        elapsed_s = self.random.choice([math.nan, math.inf, -1.0, 0.0, 1e300])
        self.world.scheduler.policy.observe(self.world.now, StepShape(4, 2, 10, 2.0), elapsed_s)

    def configure(self) -> None:
        """Other caps and promises. Who runs goes on, so the cap on running is not set below what runs."""
        scheduler = self.world.scheduler
        config = replace(
            scheduler.config,
            max_step_tokens=self.random.choice([1, 8, 64]),
            max_running=max(len(scheduler.running), self.random.choice([1, 4]), 1),
            max_queued_requests=self.random.choice([4, 100]),
        )
        objective = Objective(ttft_s=self.random.choice([0.01, 1.0]), itl_s=self.random.choice([0.005, 0.1]))
        scheduler.configure(config, CLASSES.with_objective("conversational", objective))


def log(*seeds: int) -> str:
    return "\n".join(repr(event) for seed in seeds for event in Swarm(seed).run().log)


if __name__ == "__main__":
    for _ in range(2):
        print(log(*map(int, sys.argv[1:])))
        print("end")
