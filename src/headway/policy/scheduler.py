"""Which requests the next step runs, and what a step's result changes: continuous batching over a paged KV cache.

Rank. Running requests are ordered by arrival, protected ones first; a request is protected once it has been preempted
``max_preemptions`` times. Blocks are claimed in rank order, and when there are none left the last in rank is
preempted: its tokens are computed again later. So the first in rank always goes on. A protected request starts only
when the peaks of all protected ones fit the cache together, so it is never preempted again.

Order. Waiting requests start in order of arrival, and nobody overtakes the head; a preempted one keeps its place.
Nothing starts in a step that had to preempt.

Abort in flight. One step is in flight at a time, and blocks are handed out by ``plan`` alone, which is never called
while a step is in flight. So the blocks of a request that ended during a step come to another request only after
that step is over, and its writes can't land in them. (Executors run plans in order, so this would hold for a plan
made early as well.)
"""

from __future__ import annotations

from bisect import insort
from dataclasses import asdict

from headway.policy.admission import DrainRate, refuse_for_good, refuse_for_now
from headway.policy.batch import StepInFlight, build, partition, share_out
from headway.policy.budget import Budget, BudgetView, StaticBudget
from headway.policy.config import SchedulerConfig
from headway.policy.events import (
    Event,
    Finished,
    FinishReason,
    Preempted,
    Queued,
    Rejected,
    RejectReason,
    Scheduled,
    TokenOut,
)
from headway.policy.forecast import KVForecast
from headway.policy.kv import KVCache
from headway.policy.plan import DrawnToken, ExecutorInfo, FailedDraw, StepPlan, StepResult
from headway.policy.request import Request, RequestSpec, State
from headway.policy.stats import Counters, Stats
from headway.policy.waiting import Deadlines, WaitingQueue

__all__ = ("Scheduler", "SchedulerConfig")

LOOK_AGAIN_STEPS = 16
"""A head that did not fit is looked at again after this many steps: what others publish may have made it smaller.
Otherwise it only fits once somebody leaves, because the needs of those running never fall by themselves."""


class Scheduler:
    """Three verbs: ``plan`` a step, have it executed, ``apply`` its result. ``submit`` and ``abort`` at any time.

    Time never goes backwards from call to call. Every method that returns events returns all that happened since the
    last events were returned, in order, except ``submit``, which answers for its own request alone.
    Attributes are for reading (``invariants.check`` does); only the scheduler writes them.
    """

    def __init__(
        self, info: ExecutorInfo, config: SchedulerConfig, *, prefix_key: bytes, budget: Budget | None = None
    ) -> None:
        self.info = info
        self.config = config
        self.running: list[Request] = []  # in rank order
        self.waiting = WaitingQueue()
        self.in_flight: StepInFlight | None = None
        self.requests: dict[str, Request] = {}  # running and waiting
        self.counters = Counters()
        self.cache = KVCache(info.kv_blocks, info.block_size, prefix_key)
        self._prefix_key = prefix_key
        self._budget = budget or StaticBudget(config.token_budget)
        self._deadlines = Deadlines()
        self._drain_rate = DrainRate()
        self._draining = False
        self._arrivals = 0
        self._step_id = 0
        self._events: list[Event] = []
        self._blocked: Request | None = None  # the head, when it last did not fit
        self._look_again = 0  # the step in which to look at it again, if nobody leaves before

    # The door.

    def submit(self, now: float, spec: RequestSpec) -> list[Queued | Rejected]:
        """Take a request in, or say why not. One event, ``Queued`` or ``Rejected``."""
        rejected = self._refuse(now, spec)
        if rejected is not None:
            self.counters.rejected[rejected.reason] += 1
            return [rejected]
        request = Request.new(spec, self._arrivals)
        self._arrivals += 1
        self.cache.hash(request)  # here rather than in plan, which a step waits for
        self.requests[spec.request_id] = request
        self.waiting.append(request)
        self._deadlines.add(request, live=len(self.requests))
        return [Queued(spec.request_id)]

    def abort(
        self, now: float, request_id: str, reason: FinishReason = FinishReason.ABORTED, detail: str = ""
    ) -> list[Event]:
        """End a request in any state. One that is unknown or has ended already is counted, and nothing more."""
        request = self.requests.get(request_id)
        if request is None:
            self.counters.ignored_aborts += 1
        else:
            self._finish(request, reason, detail)
        return self._take_events()

    def expire(self, now: float) -> list[Event]:
        """End every request whose deadline has passed."""
        self._expire(now)
        return self._take_events()

    def drain(self) -> None:
        """Refuse all that comes from now on; what is here goes on to its end."""
        self._draining = True

    # The three verbs.

    def plan(self, now: float) -> StepPlan | None:
        """The next step, or None if nothing is here to run. Not to be called while a step is in flight.

        Decodes come first, then prompts in chunks, then new requests, as long as the budget lasts. No work is
        planned for a request past its deadline. What happened comes with the next events returned.
        """
        assert self.in_flight is None, "a step is in flight"
        self._expire(now)
        decodes, prefills = partition(self.running)
        prefill_tokens = sum(request.remaining for request in prefills)
        limit = self._budget.tokens(BudgetView(now, len(decodes), prefill_tokens, self.waiting.tokens))
        assert limit >= 1, f"a budget of {limit} tokens"
        chosen, left = share_out(limit, decodes, prefills)
        if self._claim_blocks():
            chosen += self._admit(left)
        else:
            chosen = self._share_out_again(limit)
        if not chosen:
            return None
        self.in_flight = build(self._step_id, chosen, limit)
        self._step_id += 1
        return self.in_flight.plan

    def apply(self, now: float, result: StepResult) -> list[Event]:
        """What a step's result changed. Results of any step but the one in flight are counted and change nothing."""
        step = self.in_flight
        if step is None or result.step_id != step.plan.step_id:
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
            self._advance(request, draws, outcomes.pop(request.spec.request_id, None))
        self.counters.discarded_tokens += len(outcomes)
        self._drain_rate.observe(prompt_tokens, result.elapsed_s)
        return self._take_events()

    def executor_lost(self, now: float, info: ExecutorInfo | None = None) -> list[Event]:
        """The cache is gone and the step in flight is void. All running requests wait again, in their old places.

        ``info`` describes the executor that takes over, where it differs; requests that can't run there fail.
        """
        self.in_flight = None
        displaced, self.running = self.running, []
        self._blocked = None
        for request in displaced:
            self.cache.close(request)
            request.move(State.WAITING)
            self._events.append(Preempted(request.spec.request_id, request.output_tokens))
        self.counters.displaced += len(displaced)
        self.waiting.merge(displaced)
        self._replace_cache(info or self.info)
        return self._take_events()

    def end_all(self, now: float, reason: FinishReason, detail: str) -> list[Event]:
        """End every request at once and admit nothing more: the driver stops, or the policy itself has failed.

        The cache's books are not read, since they may be what is broken; they begin anew, empty.
        """
        self._draining = True
        self.in_flight = None
        ended, self.requests = self.requests, {}
        self.running = []
        self.waiting = WaitingQueue()
        self._blocked = None
        self.cache = KVCache(self.info.kv_blocks, self.info.block_size, self._prefix_key)
        for request in ended.values():
            request.block_table = ()
            request.move(State.FINISHED)
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

    def stats(self) -> Stats:
        pool = self.cache.pool
        return Stats(
            running=len(self.running),
            waiting=len(self.waiting),
            waiting_tokens=self.waiting.tokens,
            kv_blocks_total=pool.total,
            kv_blocks_used=pool.referenced,
            kv_blocks_cached=pool.cached,
            kv_blocks_free=pool.free,
            **asdict(self.counters),
        )

    # Parts of submit.

    def _refuse(self, now: float, spec: RequestSpec) -> Rejected | None:
        request_id = spec.request_id
        if request_id in self.requests:
            return Rejected(request_id, RejectReason.INVALID, f"a request with the id {request_id!r} is here already")
        rejected = refuse_for_good(spec, self.info)
        if rejected is not None:
            return rejected
        if spec.deadline_s is not None and spec.deadline_s <= now:
            return Rejected(request_id, RejectReason.EXPIRED, "the request's deadline had passed when it came")
        if self._draining:
            retry_after_s = self._drain_rate.retry_after_s(self.waiting.tokens)
            return Rejected(request_id, RejectReason.DRAINING, "shutting down", retry_after_s=retry_after_s)
        return refuse_for_now(spec, self.waiting, self.config, self._drain_rate)

    # Parts of plan.

    def _claim_blocks(self) -> bool:
        """Give every planned request its blocks, in rank order. False if somebody had to be preempted for it."""
        size = self.cache.block_size
        short = [r for r in self.running if r.computed + r.planned > len(r.block_table) * size]
        before = len(self.running)
        for request in short:
            if request.state is not State.RUNNING:
                break  # preempted meanwhile, and so are all behind it
            while not self.cache.grow(request):
                if self._preempt_last() is request:
                    break
        return len(self.running) == before

    def _share_out_again(self, limit: int) -> list[Request]:
        """Share out the budget among those left, until all have their blocks. Who is left never gets less."""
        while True:
            chosen, _ = share_out(limit, *partition(self.running))
            if self._claim_blocks():
                return chosen

    def _preempt_last(self) -> Request:
        victim = self.running.pop()
        self._blocked = None
        assert self.running, f"{victim.request_id} has the cache to itself and does not fit"
        assert victim.computed > victim.started_at, f"{victim.request_id} is preempted without having computed anything"
        self.cache.close(victim)
        victim.move(State.WAITING)
        victim.preemptions += 1
        self.waiting.put_back(victim)
        self.counters.preemptions += 1
        self._events.append(Preempted(victim.spec.request_id, victim.output_tokens))
        return victim

    def _admit(self, left: int) -> list[Request]:
        """Start waiting requests, in order, while there are budget, places and blocks for them."""
        admitted: list[Request] = []
        forecast: KVForecast | None = None
        while left > 0 and len(self.running) < self.config.max_running:
            request = self.waiting.head
            if request is None or (request is self._blocked and self._step_id < self._look_again):
                break
            forecast = forecast or KVForecast(self.running, self.cache, self.config)
            hits = self.cache.lookup(request)
            if not forecast.fits(request, hits):
                self._blocked, self._look_again = request, self._step_id + LOOK_AGAIN_STEPS
                break
            self._start(request, hits)
            request.planned = min(request.remaining, left)
            left -= request.planned
            has_blocks = self.cache.grow(request)
            assert has_blocks, f"{request.request_id} was admitted without blocks"
            forecast.add(request)
            admitted.append(request)
        return admitted

    def _start(self, request: Request, hits: list[int]) -> None:
        self.waiting.remove(request)
        request.move(State.RUNNING)
        self.cache.open(request, hits)
        insort(self.running, request, key=self._rank)
        cached = request.computed
        self._events.append(Scheduled(request.spec.request_id, cached, resumed=request.ever_scheduled))
        if not request.ever_scheduled:
            request.ever_scheduled = True
            request.cached_tokens = cached
            self.counters.prompt_tokens += request.prompt_tokens
            self.counters.cached_tokens += cached

    def _rank(self, request: Request) -> tuple[bool, int]:
        return request.preemptions < self.config.max_preemptions, request.order

    # Parts of apply.

    def _outcomes(self, result: StepResult) -> dict[str, DrawnToken | FailedDraw]:
        """What came for each request; of two tokens for one request the first counts, and a failure before both."""
        outcomes: dict[str, DrawnToken | FailedDraw] = {}
        for failed in result.failed:
            outcomes.setdefault(failed.request_id, failed)
        for drawn in result.drawn:
            outcomes.setdefault(drawn.request_id, drawn)
        self.counters.discarded_tokens += len(result.failed) + len(result.drawn) - len(outcomes)
        return outcomes

    def _advance(self, request: Request, draws: bool, outcome: DrawnToken | FailedDraw | None) -> None:
        """Take in what the step computed for one request, and the token it drew."""
        request.computed += request.planned
        request.planned = 0
        if isinstance(outcome, FailedDraw):
            self._finish(request, FinishReason.FAILED, outcome.reason)
        elif draws and outcome is None:
            self._finish(request, FinishReason.FAILED, "the executor returned no token")
        else:
            self.cache.publish(request)
            if draws and outcome is not None:
                self._take_token(request, outcome)
            elif outcome is not None:
                self.counters.discarded_tokens += 1

    def _take_token(self, request: Request, drawn: DrawnToken) -> None:
        """Append a token, and end the request if it is the last one.

        A stop token counts as output, as its cost does, but is not told: it is no part of the answer.
        """
        spec = request.spec
        index = len(request.tokens) - len(spec.prompt)
        request.tokens.append(drawn.token)
        self.counters.output_tokens += 1
        if drawn.token in spec.sampling.stop_token_ids and index >= spec.sampling.min_tokens:
            self._finish(request, FinishReason.STOP)
            return
        self._events.append(TokenOut(spec.request_id, index, drawn.token, drawn.logprob, drawn.top))
        if index + 1 == spec.max_tokens:
            self._finish(request, FinishReason.LENGTH)

    # Endings.

    def _finish(self, request: Request, reason: FinishReason, detail: str = "") -> None:
        if request.state is State.RUNNING:
            if reason is FinishReason.FAILED:
                self.cache.distrust(request)
            self.running.remove(request)
            self._blocked = None
            self.cache.close(request)
        else:
            self.waiting.remove(request)
        request.move(State.FINISHED)
        del self.requests[request.spec.request_id]
        self._tell_finished(request, reason, detail)

    def _tell_finished(self, request: Request, reason: FinishReason, detail: str) -> None:
        self.counters.finished[reason] += 1
        self._events.append(
            Finished(
                request.spec.request_id,
                reason,
                request.prompt_tokens,
                request.output_tokens,
                request.cached_tokens,
                detail,
            )
        )

    def _expire(self, now: float) -> None:
        while (request := self._deadlines.pop_due(now)) is not None:
            self._finish(request, FinishReason.EXPIRED, "the deadline passed")

    def _replace_cache(self, info: ExecutorInfo) -> None:
        if info != self.info:
            for request in tuple(self.waiting):
                request.digests.clear()  # the block size may differ
                rejected = refuse_for_good(request.spec, info)
                if rejected is not None:
                    self._finish(request, FinishReason.FAILED, rejected.message)
        self.info = info
        self.cache = KVCache(info.kv_blocks, info.block_size, self._prefix_key)

    def _take_events(self) -> list[Event]:
        events, self._events = self._events, []
        return events
