"""The Pareto front of a model under a load: tokens a second per GPU against tokens a second per user.

By closed formulas (``steady``), for requests of mean length that keep a replica at a constant number of them: a promise
plays no part, so the front also says what other promises would cost.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from headway.plan.candidate import Candidate
from headway.plan.errors import PlanError
from headway.plan.outcome import FrontPoint
from headway.plan.question import Question
from headway.plan.steady import closed_loop
from headway.plan.steptime import machine
from headway.policy.policies import default_step_tokens

CONCURRENCIES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


def front(candidates: Iterable[Candidate], question: Question) -> tuple[FrontPoint, ...]:
    """Of all candidates, the fastest for users first."""
    calls = question.demand.sample()
    prompt = round(sum(call.size.prompt_tokens for call in calls) / len(calls))
    output = max(2, round(sum(call.size.output_tokens for call in calls) / len(calls)))
    points: list[FrontPoint] = []
    for candidate in candidates:
        points += _points(candidate, default_step_tokens(question.policy), prompt, output)
    return undominated(points)


def undominated(points: Sequence[FrontPoint]) -> tuple[FrontPoint, ...]:
    kept: list[FrontPoint] = []
    for point in sorted(points, key=lambda each: (-each.user_tokens_per_s, -each.tokens_per_s_per_gpu)):
        if not kept or point.tokens_per_s_per_gpu > kept[-1].tokens_per_s_per_gpu:
            kept.append(point)
    return tuple(kept)


def _points(candidate: Candidate, step_tokens: int, prompt: int, output: int) -> Iterable[FrontPoint]:
    setup = candidate.setup
    for concurrency in CONCURRENCIES:
        try:
            steady = closed_loop(machine(setup, step_tokens), concurrency, prompt, output)
        except PlanError:
            return
        if steady.limit != "load":
            return
        price = setup.gpu.price
        yield FrontPoint(
            gpu=setup.gpu.name,
            tp=setup.tp,
            precision=str(setup.precision),
            concurrency=concurrency,
            rate=steady.output_tokens_s / output,
            tokens_per_s_per_gpu=steady.output_tokens_s / setup.tp,
            user_tokens_per_s=1.0 / steady.tpot_s,
            usd_per_million_output_tokens=None
            if price is None
            else price.usd_per_hour * setup.tp / 3600 / steady.output_tokens_s * 1e6,
        )
