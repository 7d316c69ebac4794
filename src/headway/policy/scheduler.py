"""Which requests the next step runs, and what a step's result changes: continuous batching over a paged KV cache.

Who runs, who starts and who gives way to whom is decided in ``seats``, by the policy's order and allowance.

Abort in flight. One step is in flight at a time, and blocks are handed out by ``plan`` alone, which is never called
while a step is in flight. So the blocks of a request that ended during a step come to another request only after
that step is over, and its writes can't land in them. (Executors run plans in order, so this would hold for a plan
made early as well.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from headway.policy.admission import refuse_for_good
from headway.policy.batch import StepInFlight, build, partition
from headway.policy.config import SchedulerConfig
from headway.policy.door import Door
from headway.policy.events import Event, FinishReason, TokenOut
from headway.policy.plan import DrawnToken, ExecutorInfo, FailedDraw, StepPlan, StepResult
from headway.policy.policy import Policy
from headway.policy.request import Request, State
from headway.policy.stats import Stats
from headway.policy.steptime import StepShape
from headway.policy.waiting import WaitingQueue

__all__ = ("Scheduler", "SchedulerConfig")


class Scheduler(Door):
    """Three verbs: ``plan`` a step, have it executed, ``apply`` its result. ``submit`` and ``abort`` at any time.

    Time never goes backwards from call to call. Every method that returns events returns all that happened since the
    last events were returned, in order, except ``submit``, which answers for its own request alone.
    Attributes are for reading (``invariants.check`` does); only the scheduler writes them.
    """

    def __init__(
        self, info: ExecutorInfo, config: SchedulerConfig, *, prefix_key: bytes, policy: Policy | None = None
    ) -> None:
        super().__init__(info, config, prefix_key=prefix_key, policy=policy)
        self._step_id = 0
        self._last_shape = StepShape(0, 0, 0, 0.0)
        self._step_ended_s: float | None = None  # the last step, if there was more to do right after it

    # The three verbs.

    def plan(self, now: float) -> StepPlan | None:
        """The next step, or None if nothing is here to run. Not to be called while a step is in flight.

        Who runs goes on before anybody starts, and who was promised something before who was not, as long as the
        step's allowance lasts. No work is planned for a request past its deadline. What happened comes with the next
        events returned.
        """
        step = self.begin(now, with_plan=True)
        return None if step is None else step.plan

    def begin(self, now: float, *, with_plan: bool) -> StepInFlight | None:
        """``plan``, for who needs the step rather than a message: see ``foretold``."""
        assert self.in_flight is None, "a step is in flight"
        self._expire(now)
        if self.waiting:
            self._review(now)
        may_start = True
        preempted = self.counters.preemptions
        while True:
            load = partition(self.running)
            allowance = self.policy.allowance(now, load, self._scene())
            chosen = self._seats.fill(load, allowance, prompts_first=self.policy.prompts_first, may_start=may_start)
            if chosen or not self.running:
                break
            may_start = False  # those it was planned for were preempted; this ends, for nobody starts
        if not chosen:
            self._step_ended_s = None
            return None
        began_s = now if self._step_ended_s is None else self._step_ended_s
        is_whole = preempted == self.counters.preemptions
        all_decode = is_whole and len(load.decodes) == len(chosen) == len(self.running)
        self.in_flight = step = build(
            self._step_id, chosen, allowance.limit, began_s, with_plan=with_plan, all_decode=all_decode
        )
        self._last_shape = step.shape
        self._step_id += 1
        return step

    def apply(self, now: float, result: StepResult) -> list[Event]:
        """What a step's result changed. Results of any step but the one in flight are counted and change nothing."""
        step = self.in_flight
        if step is None or result.step_id != step.step_id:
            self.counters.stale_results += 1
            return self._take_events()
        self.in_flight = None
        self.counters.steps += 1
        outcomes = self._outcomes(result)
        prompt_tokens = 0
        for request, draws in step.entries:
            if request.state is not State.RUNNING:
                continue  # it ended during the step
            if request.planned > 1 or not draws:
                prompt_tokens += request.planned
            self.advance(now, request, draws, outcomes.pop(request.spec.request_id, None))
        self.counters.discarded_tokens += len(outcomes)
        return self.step_ended(now, step, prompt_tokens)

    def step_ended(self, now: float, step: StepInFlight, prompt_tokens: int) -> list[Event]:
        """All that a step computed has been taken in (``advance``), so many tokens of prompts among it."""
        elapsed_s = now - step.began_s
        self._drain_rate.observe(prompt_tokens, elapsed_s)
        self.policy.observe(now, step.shape, elapsed_s)
        self._step_ended_s = now if self.requests else None
        return self._take_events()

    def repeated(self, after: StepInFlight, took_s: Sequence[float]) -> None:
        """The step in flight has become ``after``, its like, in as many steps as ``took_s`` says: see ``rounds``."""
        steps = len(took_s)
        self.in_flight = after
        self._last_shape = after.shape
        self._step_id += steps
        self._seats.pass_steps(steps)
        self.counters.steps += steps
        self.counters.output_tokens += steps * len(after.entries)
        self._drain_rate.observe_decodes(took_s)

    def executor_lost(self, now: float, info: ExecutorInfo | None = None) -> list[Event]:
        """The cache is gone and the step in flight is void. All running requests wait again, in their old places.

        ``info`` describes the executor that takes over, where it differs; requests that can't run there fail.
        """
        self.in_flight = self._step_ended_s = None
        self.counters.displaced += self._seats.clear()
        self._replace_cache(now, info or self.info)
        return self._take_events()

    def end_all(self, now: float, reason: FinishReason, detail: str) -> list[Event]:
        """End every request at once and admit nothing more: the driver stops, or the policy itself has failed.

        The cache's books are not read, since they may be what is broken; they begin anew, empty.
        """
        self._draining = True
        self.in_flight = None
        ended, self.requests = self.requests, {}
        self.waiting = WaitingQueue()
        self._seats = self._new_seats()
        for request in ended.values():
            request.block_table = ()
            request.move(State.FINISHED)
            self.ledger.ended(now, request, complete=False)
            self._tell_finished(request, reason, detail)
        return self._take_events()

    # For whoever drives.

    @property
    def idle(self) -> bool:
        """Nothing runs, nothing waits, and nothing that happened is still to be told."""
        return not self.requests and self.in_flight is None and not self._events

    def next_deadline_s(self) -> float | None:
        """When ``expire`` will next have something to do."""
        return self._deadlines.next()

    def stats(self, now: float = 0.0) -> Stats:
        """``now`` matters to what is known of the last moments."""
        pool = self.cache.pool
        return Stats(
            running=len(self.running),
            waiting=len(self.waiting),
            waiting_tokens=self.waiting.tokens,
            kv_blocks_total=pool.total,
            kv_blocks_used=pool.referenced,
            kv_blocks_cached=pool.cached,
            kv_blocks_free=pool.free,
            step_tokens=self._last_shape.tokens,
            step_sequences=self._last_shape.sequences,
            policy=self.policy.numbers(now),
            classes={name: counters.copy() for name, counters in self.ledger.classes.items()},
            **asdict(self.counters),
        )

    # Parts of apply.

    def _outcomes(self, result: StepResult) -> dict[str, DrawnToken | FailedDraw]:
        """What came for each request; of two tokens for one request the first counts, and a failure before both."""
        outcomes: dict[str, DrawnToken | FailedDraw] = {drawn.request_id: drawn for drawn in reversed(result.drawn)}
        outcomes.update((failed.request_id, failed) for failed in reversed(result.failed))
        self.counters.discarded_tokens += len(result.failed) + len(result.drawn) - len(outcomes)
        return outcomes

    def advance(self, now: float, request: Request, draws: bool, outcome: DrawnToken | FailedDraw | None) -> None:
        """Take in what the step computed for one request, and the token it drew; end the request if it is the last one.

        A stop token counts as output, as its cost does, but is not told: it is no part of the answer.
        """
        request.computed += request.planned
        request.planned = 0
        if isinstance(outcome, FailedDraw):
            self._finish(now, request, FinishReason.FAILED, outcome.reason)
            return
        if draws and outcome is None:
            self._finish(now, request, FinishReason.FAILED, "the executor returned no token")
            return
        if request.computed >= (request.published + 1) * self.cache.block_size:
            self.cache.publish(request)
        if outcome is None:
            return
        if not draws:
            self.counters.discarded_tokens += 1
            return
        spec, tokens, token = request.spec, request.tokens, outcome.token
        index = len(tokens) - len(spec.prompt)
        tokens.append(token)
        self.counters.output_tokens += 1
        if token in spec.sampling.stop_token_ids and index >= spec.sampling.min_tokens:
            self._finish(now, request, FinishReason.STOP)
            return
        request.tell(now)
        self._events.append(TokenOut(spec.request_id, index, token, outcome.logprob, outcome.top))
        if index + 1 == spec.max_tokens:
            self._finish(now, request, FinishReason.LENGTH)

    def _replace_cache(self, now: float, info: ExecutorInfo) -> None:
        if info != self.info:
            for request in tuple(self.waiting):
                request.digests.clear()  # the block size may differ
                rejected = refuse_for_good(request.spec, info)
                if rejected is not None:
                    self._finish(now, request, FinishReason.FAILED, rejected.message)
        self.info = info
        self._seats.cache = self._new_cache()
        self.waiting.forget_hits()
