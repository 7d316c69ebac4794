"""Whole runs drawn from one seed: a small world with some faults on and others off, chaos first and then peace.

Run as a program it prints the event log of one seed, twice over: ``python -m tests.policy.swarm SEED``.
"""

from __future__ import annotations

import sys
from random import Random

from headway.policy.events import FinishReason
from headway.policy.plan import ExecutorInfo, StepResult
from headway.policy.scheduler import SchedulerConfig
from tests.policy.world import WobblingPolicy, World, spec

VOCAB_SIZE = 12
STOP_TOKEN = 11
MOMENTS = 60


class Swarm:
    """One run. The same seed gives the same calls at the same times."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        pick = self.random.choice
        block_size = pick([1, 2, 4])
        tokens = pick([16, 24, 40, 64])
        config = SchedulerConfig(
            max_step_tokens=pick([1, 3, 8, 64]),
            max_running=pick([1, 2, 4, 6]),
            max_queued_requests=pick([4, 100]),
            max_queued_tokens=pick([30, 1000]),
            kv_watermark=pick([0.0, 0.1]),
            kv_lookahead_tokens=pick([0, 0, 4, 64]),
            max_preemptions=pick([0, 1, 3, 3]),
        )
        policy = pick([None, None, WobblingPolicy(64, 1, 3), WobblingPolicy(2, 1, 2, 9)])
        self.world = World(ExecutorInfo(block_size, tokens // block_size, 32, VOCAB_SIZE), config, policy)
        self.cut_short: set[str] = set()
        actions = [self.abort, self.fail, self.lose_executor, self.stale_result, self.time_passes]
        self.faults = [action for action in actions if self.random.random() < 0.4]
        self.fault_odds = pick([0.02, 0.1, 0.3])
        self.arrival_odds = pick([0.1, 0.3, 0.6])
        self.stopping = pick([True, False])
        self.results: list[StepResult] = []

    def run(self) -> World:
        """Chaos, then neither faults nor arrivals: everything must end, in a bounded number of steps."""
        for moment in range(MOMENTS):
            if self.random.random() < self.arrival_odds:
                self.submit(f"r{moment}")
            if self.faults and self.random.random() < self.fault_odds:
                self.random.choice(self.faults)()
            self.advance()
        if self.world.executor.plan is not None:
            self.advance()
        self.world.run()
        return self.world

    def check(self) -> None:
        ended = self.world.history.ended
        expired = {name for name, end in ended.items() if end.reason is FinishReason.EXPIRED}
        self.world.check_answers(but=frozenset(self.cut_short | expired))

    def submit(self, name: str) -> None:
        prompt = [self.random.randint(0, 1) for _ in range(self.random.randint(1, 12))]
        deadline_s = self.world.now + 0.3 if self.time_passes in self.faults and self.random.random() < 0.3 else None
        self.world.submit(
            spec(
                name,
                prompt,
                self.random.randint(1, 20),
                seed=self.random.randint(0, 2),
                stop=(STOP_TOKEN,) if self.stopping else (),
                deadline_s=deadline_s,
                salt=self.random.choice([b"", b"tenant"]),
            )
        )

    def advance(self) -> None:
        if self.world.executor.plan is None:
            self.world.begin()
        else:
            self.results.append(self.world.finish())

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


def log(seed: int) -> str:
    return "\n".join(map(repr, Swarm(seed).run().log))


if __name__ == "__main__":
    for _ in range(2):
        print(log(int(sys.argv[1])))
        print("end")
