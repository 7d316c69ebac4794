"""The same step over and over: what a stretch of steps that only decode changes, at once instead of step by step.

For executors that are formulas (``headway.sim``): they know each answer beforehand (``Foretold``), so they know for how
many steps nothing happens but one more token for everybody. What such a stretch leaves behind is exactly what its
steps would have left one by one: tokens, blocks and the order in which they were taken and published, late gaps.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from operator import itemgetter

from headway.policy.batch import StepInFlight
from headway.policy.kv import KVCache
from headway.policy.request import Request
from headway.policy.stepshape import StepShape

REPEATS_MAX = 1024


def most_repeats(step: StepInFlight, cache: KVCache) -> int:
    """How often a step in which all decode can follow itself: until somebody draws its last token, or blocks run out.

    0 for a step after which somebody's tokens do not come right after those of the step before.
    """
    began_s = step.began_s
    most = REPEATS_MAX
    for request, _ in step.entries:
        foretold = request.foretold
        if foretold is None or request.last_token_s != began_s:
            return 0
        left = foretold.tokens - len(request.tokens)
        if left < most:
            most = left
    size, available = cache.block_size, cache.pool.available
    if len(step.entries) * (most // size + 1) > available:
        taken_after = sorted(
            after for request, _ in step.entries for after in range(-request.computed % size or size, most + 1, size)
        )
        if len(taken_after) > available:
            most = taken_after[available] - 1
    return most


def repeat_step(step: StepInFlight, took_s: Sequence[float], last_s: float, cache: KVCache) -> StepInFlight:
    """Run a step that only decodes as often as ``took_s`` says, the last time until ``last_s``. The next one, planned
    as it was."""
    rounds, longest_s, size = len(took_s), max(took_s), cache.block_size
    full: list[tuple[int, int, Request]] = []  # after how many rounds a block is full, and what was computed before
    for request, _ in step.entries:
        foretold, promised_s, computed = request.foretold, request.itl_s, request.computed
        assert foretold is not None, f"{request.request_id} repeats a step with an answer that nobody knows"
        request.tokens += [foretold.token] * rounds
        request.told += rounds
        request.last_token_s = last_s
        if promised_s is not None and longest_s > promised_s:
            request.late_gaps += sum([each_s > promised_s for each_s in took_s])
        after = size - computed % size
        if after > rounds:
            request.computed = computed + rounds
        else:
            full += [(each, computed, request) for each in range(after, rounds + 1, size)]
    if full:
        _turn_pages(full, rounds, cache)
    shape, count = step.shape, len(step.entries)
    context = shape.decode_context + count * rounds
    return StepInFlight(
        None, step.step_id + rounds, StepShape(count, count, context, 0.0), step.token_limit, last_s, step.entries
    )


def _turn_pages(full: list[tuple[int, int, Request]], rounds: int, cache: KVCache) -> None:
    """Publish blocks as they become full and take the next ones: after each round all of the former, then the latter,
    each in the order of the step."""
    full.sort(key=itemgetter(0))
    for after, together in groupby(full, key=itemgetter(0)):
        now = list(together)
        for _, computed, request in now:
            request.computed = computed + after
            cache.publish(request)
        for _, _, request in now:
            has_block = cache.grow(request)
            assert has_block, f"{request.request_id} was to go on without a block"
    for _, computed, request in full:
        request.computed = computed + rounds
