"""A scheduler's steps where the executor is a formula: no messages, answers known beforehand, equal steps at once.

For simulations (``headway.sim``). What is decided is the scheduler's own. A step leaves behind what ``apply`` would
have left, and a stretch (``rounds``) what its steps would have left one by one, but for what a policy learns from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import sub

from headway.policy.batch import StepInFlight
from headway.policy.events import Event, TokenOut
from headway.policy.plan import DrawnToken
from headway.policy.request import Foretold, State
from headway.policy.rounds import most_repeats, repeat_step
from headway.policy.scheduler import Scheduler
from headway.policy.stepshape import StepShape


class ForetoldSteps:
    """``begin``, ``repeat`` and ``end`` in place of a scheduler's ``plan`` and ``apply``. All requests are foretold."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._unlearned: StepInFlight | None = None  # the first step of this stretch that the policy has not heard of

    def foretell(self, request_id: str, answer: Foretold) -> None:
        """What will be drawn for a request that was just taken in."""
        self._scheduler.requests[request_id].foretold = answer

    def begin(self, now: float) -> StepInFlight | None:
        """As ``plan``, without the message."""
        return self._scheduler.begin(now, with_plan=False)

    def repeats(self) -> int:
        """How often the step in flight can be followed by its like: while all who are here decode in it."""
        scheduler = self._scheduler
        step = scheduler.in_flight
        assert step is not None, "no step is in flight"
        if len(step.entries) != len(scheduler.requests) or step.shape.prefill_reads:
            return 0
        return most_repeats(step, scheduler.cache)

    def repeat(self, ends: Sequence[float]) -> None:
        """The step in flight has ended and its like has begun, at each of these times: see ``repeats``. Leaves what as
        many calls of ``apply`` and ``plan`` would. The policy has yet to ``learn`` of it."""
        scheduler = self._scheduler
        step = scheduler.in_flight
        assert step is not None, "no step is in flight"
        took_s = list(map(sub, ends, (step.began_s, *ends)))
        scheduler.repeated(repeat_step(step, took_s, ends[-1], scheduler.cache), took_s)
        if self._unlearned is None:
            self._unlearned = step

    def learn(self) -> None:
        """Tell the policy of the steps repeated, all as one (``Policy.repeated``). To be called before it is asked
        anything, and never because somebody looks on: who looks must not change what is learned."""
        first, step = self._unlearned, self._scheduler.in_flight
        if first is None:
            return
        assert step is not None, "the stretch has ended"
        self._unlearned = None
        steps, count = step.step_id - first.step_id, len(first.entries)
        middle = StepShape(count, count, first.shape.decode_context + count * (steps - 1) // 2, 0.0)
        self._scheduler.policy.repeated(step.began_s, middle, steps, step.began_s - first.began_s)

    def end(self, now: float) -> list[Event]:
        """As ``apply`` with what was foretold. Of tokens that come right after those of the step before, only an
        answer's last one is told."""
        scheduler = self._scheduler
        step = scheduler.in_flight
        assert step is not None, "no step is in flight"
        scheduler.in_flight = None
        scheduler.counters.steps += 1
        cache, began_s, running = scheduler.cache, step.began_s, State.RUNNING
        size = cache.block_size
        prompt_tokens = 0
        gap_s, drawn = now - began_s, 0
        for request, draws in step.entries:
            if request.state is not running:
                continue  # it ended during the step
            planned, tokens, foretold = request.planned, request.tokens, request.foretold
            assert foretold is not None, f"nobody knows what {request.request_id} draws"
            if planned > 1 or not draws:
                prompt_tokens += planned
            if draws and len(tokens) >= foretold.tokens:
                scheduler.advance(now, request, draws, DrawnToken(request.spec.request_id, foretold.last))
                continue
            request.computed = computed = request.computed + planned
            request.planned = 0
            if computed >= (request.published + 1) * size:
                cache.publish(request)
            if not draws:
                continue
            tokens.append(foretold.token)
            drawn += 1
            if request.last_token_s == began_s and request.told:  # as ``Request.tell``
                if request.itl_s is not None and gap_s > request.itl_s:
                    request.late_gaps += 1
                request.told += 1
                request.last_token_s = now
            else:
                scheduler.tell(TokenOut(request.spec.request_id, request.output_tokens - 1, foretold.token))
                request.tell(now)
        scheduler.counters.output_tokens += drawn
        return scheduler.step_ended(now, step, prompt_tokens)
