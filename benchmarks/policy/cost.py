"""Microseconds of CPU that the policy takes for a step: ``plan`` and ``apply``, in a simulated steady state.

(CPU time of the thread, since the policy never waits: it is what the clock would show on a machine without others.)

So many requests run; whenever one ends, another comes. Others wait: batch work, or conversations whose first token
is due in an hour. The executor is a function that draws token 1; its time is not
counted, nor is that of ``submit``, which has a figure of its own.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from random import Random
from statistics import median

from benchmarks.policy.figures import Figure, ratio, say
from benchmarks.policy.pool import Pool
from headway.policy.events import Finished, Rejected
from headway.policy.plan import DrawnToken, ExecutorInfo, StepResult
from headway.policy.policies import build
from headway.policy.request import RequestSpec
from headway.policy.scheduler import Scheduler, SchedulerConfig
from headway.policy.slo import BATCH, CONVERSATIONAL, NO_PROMISE, Objective, ServiceClass, ServiceClasses
from headway.policy.stepshape import StepShape
from headway.sim.hardware import HARDWARE
from headway.simulate import PREFIX_KEY, calibrated

HARDWARE_NAME = "h100-llama-8b"
INFO = ExecutorInfo(block_size=64, kv_blocks=1 << 16, context_tokens=8192, vocab_size=1 << 32)
"""Room for all that run; the cap on running requests is what keeps the others waiting."""
PROMPT_TOKENS = 128
OUTPUT_TOKENS = (400, 1200)
PATIENT = Objective(ttft_s=3600.0, itl_s=0.1)
WAITING_PROMPT_TOKENS = 64
STEPS = {False: 1500, True: 300}
WARM_UP_STEPS = 100
POINTS = (
    (64, 0, "batch"),
    (64, 1_000, "batch"),
    (64, 10_000, "batch"),
    (256, 0, "batch"),
    (256, 1_000, "batch"),
    (256, 10_000, "batch"),
    (256, 1_000, "conversational"),
    (256, 10_000, "conversational"),
)
"""Running, waiting, and what waits."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one step, and of one ``submit`` while so many wait."""

    median_us: float
    p95_us: float
    submit_us: float


def measure(*, quick: bool, pool: Pool) -> dict[str, Figure]:
    """One after the other in this process: two at once would slow each other."""
    figures: dict[str, Figure] = {}
    costs = {point: run(*point, STEPS[quick]) for point in POINTS}
    for (running, waiting, kind), cost in costs.items():
        key = f"cost_{running}_running_{waiting}_{kind}_waiting"
        figures |= {
            f"{key}_median_us": round(cost.median_us, 1),
            f"{key}_p95_us": round(cost.p95_us, 1),
            f"{key}_submit_median_us": round(cost.submit_us, 1),
            f"{key}_over_64_running": ratio(cost.median_us, costs[64, 0, "batch"].median_us),
            f"{key}_over_none_waiting": ratio(cost.median_us, costs[running, 0, "batch"].median_us),
        }
        say(
            f"{running:4} running, {waiting:6} waiting ({kind}): plan and apply {cost.median_us:6.0f} us "
            f"(p95 {cost.p95_us:.0f}), submit {cost.submit_us:.0f} us"
        )
    return figures


def run(running: int, waiting: int, kind: str, steps: int) -> Cost:
    waits = CONVERSATIONAL.name if kind == "conversational" else BATCH.name
    world = _World(running)
    while len(world.scheduler.running) < running:
        world.come(CONVERSATIONAL.name, PROMPT_TOKENS)
        world.step()
        world.step()
    for _ in range(waiting):
        world.come(waits, WAITING_PROMPT_TOKENS)
        if waits == CONVERSATIONAL.name:  # spread in time, or they would be too many
            world.step()
    for _ in range(WARM_UP_STEPS):
        world.step()
    world.submits_s.clear()
    times_us = sorted(1e6 * world.step() for _ in range(steps))
    assert len(world.scheduler.waiting) >= waiting, "some of those that should wait do not"
    submit_us = 1e6 * median(world.submits_s)
    return Cost(median(times_us), times_us[int(0.95 * steps)], submit_us)


class _World:
    """A scheduler in virtual time, and the CPU time that it takes."""

    def __init__(self, running: int) -> None:
        hardware = HARDWARE[HARDWARE_NAME]
        classes = ServiceClasses([ServiceClass(name=CONVERSATIONAL.name, objective=PATIENT)])
        config = SchedulerConfig(max_running=running, max_queued_requests=1 << 16, max_queued_tokens=1 << 30)
        policy = build("headway", model=calibrated(hardware), classes=classes)
        self.scheduler = Scheduler(INFO, config, prefix_key=PREFIX_KEY, policy=policy)
        self.submits_s: list[float] = []
        self._hardware = hardware
        self._now = 0.0
        self._random = Random(1)
        self._number = 0

    def come(self, service_class: str, prompt_tokens: int) -> None:
        self._number += 1
        spec = RequestSpec(
            request_id=str(self._number),
            prompt=(self._number,) * prompt_tokens,
            max_tokens=self._random.randint(*OUTPUT_TOKENS),
            service_class=service_class,
            objective=PATIENT if service_class == CONVERSATIONAL.name else NO_PROMISE,
        )
        began_s = time.thread_time()
        [answer] = self.scheduler.submit(self._now, spec)
        self.submits_s.append(time.thread_time() - began_s)
        assert not isinstance(answer, Rejected), answer.message

    def step(self) -> float:
        """One step; the CPU seconds of plan and apply. Whoever ends makes place for a newcomer."""
        began_s = time.thread_time()
        plan = self.scheduler.plan(self._now)
        planned_s = time.thread_time()
        assert plan is not None, "nothing to run"
        drawn = tuple(DrawnToken(chunk.request_id, 1) for chunk in plan.chunks if chunk.draw is not None)
        elapsed_s = self._hardware.step_s(StepShape.of(plan))
        self._now += elapsed_s
        result = StepResult(plan.step_id, drawn, elapsed_s=elapsed_s)
        resumed_s = time.thread_time()
        events = self.scheduler.apply(self._now, result)
        ended_s = time.thread_time()
        for event in events:
            if isinstance(event, Finished):
                self.come(CONVERSATIONAL.name, PROMPT_TOKENS)
        return planned_s - began_s + ended_s - resumed_s
