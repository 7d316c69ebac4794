"""The true operating point of a modelled machine: long runs in virtual time, of the server's own scheduler.

It has nothing in common with ``headway tune`` but that scheduler: no HTTP, no client, no search worth the name. Values
are taken to grow with the load, and the point is found by bisection down to one request, or a hundredth of the rate.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import chain, pairwise
from random import Random
from statistics import mean

from headway.policy.events import Finished, TokenOut
from headway.policy.plan import DrawnToken, StepPlan, StepResult
from headway.policy.policies import build, default_step_tokens
from headway.policy.request import RequestSpec
from headway.policy.scheduler import Scheduler, SchedulerConfig
from headway.policy.slo import TARGET_ATTAINMENT, Objective
from headway.policy.stepshape import StepShape
from headway.sim.hardware import Hardware

POLICY = "static"
CLIENT_S = 0.002
"""From a client's last token to the arrival of its next request."""
WARM_UP_SHARE = 0.2
"""Requests that come in this first part of a run are not counted."""
CONCURRENCY_MAX = 1024
RATE_TOLERANCE = 0.01
RATE_TOP = 1.05
"""No open loop keeps up with more than this times what the closed loop at the operating point gets done."""
RATE_STEPS = 300
"""Down to a twentieth of that."""
SEEDS = (1, 2)


@dataclass(frozen=True, slots=True)
class Sizes:
    """Lengths of prompts and answers, uniform between two numbers of tokens, both included."""

    prompt: tuple[int, int]
    output: tuple[int, int]

    def draw(self, random: Random) -> tuple[int, int]:
        return round(random.uniform(*self.prompt)), round(random.uniform(*self.output))

    def __str__(self) -> str:
        """As a workload of ``headway bench``."""
        (prompt_low, prompt_high), (output_low, output_high) = self.prompt, self.output
        return f"synthetic:in=uniform({prompt_low},{prompt_high}),out=uniform({output_low},{output_high})"


@dataclass(frozen=True, slots=True)
class Tails:
    """p95 over requests (TTFT, end to end) and over all gaps between tokens (ITL), in seconds."""

    ttft_s: float
    itl_s: float
    e2e_s: float

    def keep(self, objective: Objective) -> bool:
        pairs = (
            (self.ttft_s, objective.ttft_s),
            (self.itl_s, objective.itl_s),
            (self.e2e_s, objective.e2e_s),
        )
        return all(target is None or value <= target for value, target in pairs)


@dataclass(frozen=True, slots=True)
class Level:
    """What a load came to. ``attainment``: share of requests in SLO, each judged by itself."""

    tails: Tails
    attainment: float
    requests_per_s: float


@dataclass(frozen=True, slots=True)
class Truth:
    """``concurrency``: the largest at which every p95 keeps to its target in a closed loop, 0 if none does. ``rate``:
    the largest Poisson rate (requests a second) at which 95 % of requests are in SLO, with so many in a step at most.
    ``level``: at the former."""

    concurrency: int
    rate: float
    level: Level


class _Run:
    """One run: requests come at ``arrivals``; with ``closed``, another one whenever one has ended."""

    def __init__(self, hardware: Hardware, sizes: Sizes, objective: Objective, *, max_running: int, seed: int) -> None:
        config = SchedulerConfig(max_step_tokens=default_step_tokens(POLICY), max_running=max_running)
        self._scheduler = Scheduler(hardware.info, config, prefix_key=b"truth", policy=build(POLICY))
        self._hardware = hardware
        self._sizes = sizes
        self._objective = objective
        self._random = Random(f"{seed} sizes")
        self._noise = Random(f"{seed} noise")
        self._coming: list[float] = []
        self._times: dict[str, list[float]] = {}  # arrival and tokens

    def closed(self, concurrency: int, requests: int) -> Level:
        for client in range(concurrency):  # one after the other, so that they are not in step
            heappush(self._coming, client * 0.01)
        return self._go(requests, is_closed=True)

    def open(self, rate: float, requests: int, seed: int) -> Level:
        gaps, now = Random(f"{seed} arrivals"), 0.0
        for _ in range(requests):
            now += gaps.expovariate(rate)
            heappush(self._coming, now)
        return self._go(requests, is_closed=False)

    def _go(self, requests: int, *, is_closed: bool) -> Level:
        scheduler, now = self._scheduler, 0.0
        while len(self._times) < requests or scheduler.requests:
            self._admit(now, requests)
            plan = scheduler.plan(now)
            if plan is None:
                now = max(now, self._coming[0])
                continue
            step_s = self._hardware.step_s(StepShape.of(plan))
            if self._hardware.noise:
                step_s *= self._noise.lognormvariate(0.0, self._hardware.noise)
            self._admit(now + step_s, requests)
            now += step_s
            for event in scheduler.apply(now, _result(plan, step_s)):
                if isinstance(event, TokenOut):
                    self._times[event.request_id].append(now)
                elif isinstance(event, Finished) and is_closed:
                    heappush(self._coming, now + CLIENT_S)
        return self._level()

    def _admit(self, until_s: float, requests: int) -> None:
        while self._coming and self._coming[0] <= until_s and len(self._times) < requests:
            at = heappop(self._coming)
            number = len(self._times)
            prompt, output = self._sizes.draw(self._random)
            self._times[str(number)] = [at]
            spec = RequestSpec(request_id=str(number), prompt=(number,) * prompt, max_tokens=output, arrived_s=at)
            self._scheduler.submit(at, spec)

    def _level(self) -> Level:
        lives = list(self._times.values())
        counted = lives[int(WARM_UP_SHARE * len(lives)) : int((1.0 - WARM_UP_SHARE / 2) * len(lives))]
        gaps = [[later - earlier for earlier, later in pairwise(times[1:])] for times in counted]
        ttfts = [times[1] - times[0] for times in counted]
        wholes = [times[-1] - times[0] for times in counted]
        late = map(self._objective.late_gaps_of, gaps)
        asked = zip(ttfts, late, map(len, gaps), wholes, strict=True)
        kept = sum(self._objective.broken(*each) is None for each in asked)
        return Level(
            Tails(p95(ttfts), p95(list(chain.from_iterable(gaps))), p95(wholes)),
            kept / len(counted),
            len(counted) / (counted[-1][0] - counted[0][0]),
        )


def _result(plan: StepPlan, elapsed_s: float) -> StepResult:
    drawn = tuple(DrawnToken(chunk.request_id, 1) for chunk in plan.chunks if chunk.draw is not None)
    return StepResult(plan.step_id, drawn, elapsed_s=elapsed_s)


def closed_level(hardware: Hardware, sizes: Sizes, objective: Objective, concurrency: int, requests: int) -> Level:
    """A closed loop with so many requests under way, ``requests`` in all of each seed."""
    runs = [_Run(hardware, sizes, objective, max_running=concurrency, seed=seed) for seed in SEEDS]
    return _mean([run.closed(concurrency, requests) for run in runs])


def open_level(
    hardware: Hardware, sizes: Sizes, objective: Objective, rate: float, max_running: int, requests: int
) -> Level:
    """Poisson arrivals, with so many requests in a step at most."""
    runs = [(_Run(hardware, sizes, objective, max_running=max_running, seed=seed), seed) for seed in SEEDS]
    return _mean([run.open(rate, requests, seed) for run, seed in runs])


def find_truth(
    hardware: Hardware, sizes: Sizes, objective: Objective, *, requests: int, with_rate: bool = True
) -> Truth:
    """The operating point, from runs of so many requests for each seed. ``with_rate``: else its rate is 0."""

    def holds(concurrency: int) -> bool:
        return closed_level(hardware, sizes, objective, concurrency, requests).tails.keep(objective)

    concurrency = largest(holds, CONCURRENCY_MAX)
    level = closed_level(hardware, sizes, objective, max(concurrency, 1), requests)
    if concurrency == 0 or not with_rate:
        return Truth(concurrency, 0.0, level)

    def breaks(steps: int) -> bool:
        rate = RATE_TOP * level.requests_per_s * (1.0 + RATE_TOLERANCE) ** -steps
        return open_level(hardware, sizes, objective, rate, concurrency, requests).attainment < TARGET_ATTAINMENT

    steps = largest(breaks, RATE_STEPS) + 1
    rate = RATE_TOP * level.requests_per_s * (1.0 + RATE_TOLERANCE) ** -steps
    return Truth(concurrency, rate if steps <= RATE_STEPS else 0.0, level)


def largest(holds: Callable[[int], bool], most: int) -> int:
    """The largest number up to ``most`` for which it holds; 0 if it does for none. Doubles, then bisects."""
    low, high = 0, 1
    while high <= most and holds(high):
        low, high = high, 2 * high
    high = min(high, most + 1)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


def _mean(levels: Sequence[Level]) -> Level:
    tails = Tails(
        mean(each.tails.ttft_s for each in levels),
        mean(each.tails.itl_s for each in levels),
        mean(each.tails.e2e_s for each in levels),
    )
    return Level(tails, mean(each.attainment for each in levels), mean(each.requests_per_s for each in levels))


def p95(values: Sequence[float]) -> float:
    """Nearest rank; 0 of none."""
    return sorted(values)[math.ceil(0.95 * len(values)) - 1] if values else 0.0
