"""Which requests the next step runs, and what a step's result changes: continuous batching over a paged KV cache.

Who runs, who starts and who gives way to whom is decided in ``seats``, by the policy's order and allowance.

Abort in flight. One step is in flight at a time, and blocks are handed out by ``plan`` alone, which is never called
while a step is in flight. So the blocks of a request that ended during a step come to another request only after
that step is over, and its writes can't land in them. (Executors run plans in order, so this would hold for a plan
made early as well.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict

from headway.policy.admission import DrainRate, refuse_for_good, refuse_for_now
from headway.policy.baselines import StaticPolicy
from headway.policy.batch import StepInFlight, build, partition
from headway.policy.config import SchedulerConfig
from headway.policy.events import (
    Demoted,
    Event,
    Finished,
    FinishReason,
    Queued,
    Rejected,
    RejectReason,
    TokenOut,
)
from headway.policy.kv import KVCache
from headway.policy.ledger import LATE, Denial, Ledger
from headway.policy.outputs import OutputLengths
from headway.policy.plan import DrawnToken, ExecutorInfo, FailedDraw, StepPlan, StepResult
from headway.policy.policy import Policy, Refusal, Scene
from headway.policy.request import Foretold, Request, RequestSpec, State
from headway.policy.rounds import most_repeats, repeat_step
from headway.policy.seats import Seats
from headway.policy.slo import ServiceClasses
from headway.policy.stats import Counters, Stats
from headway.policy.steptime import StepShape
from headway.policy.waiting import Deadlines, Lane, WaitingQueue

__all__ = ("Scheduler", "SchedulerConfig")


class Scheduler:
    """Three verbs: ``plan`` a step, have it executed, ``apply`` its result. ``submit`` and ``abort`` at any time.

    Time never goes backwards from call to call. Every method that returns events returns all that happened since the
    last events were returned, in order, except ``submit``, which answers for its own request alone.
    Attributes are for reading (``invariants.check`` does); only the scheduler writes them.
    """

    def __init__(
        self, info: ExecutorInfo, config: SchedulerConfig, *, prefix_key: bytes, policy: Policy | None = None
    ) -> None:
        self.info = info
        self.config = config
        self.policy: Policy = policy or StaticPolicy()
        self.waiting = WaitingQueue()
        self.in_flight: StepInFlight | None = None
        self.requests: dict[str, Request] = {}  # running and waiting
        self.counters = Counters()
        self.ledger = Ledger()
        self.outputs = OutputLengths()
        self._prefix_key = prefix_key
        self._make_cache: Callable[[int, int, bytes], KVCache] = KVCache
        self._events: list[Event] = []
        self._seats = self._new_seats()
        self._deadlines = Deadlines()
        self._drain_rate = DrainRate()
        self._draining = False
        self._arrivals = 0
        self._step_id = 0
        self._last_shape = StepShape(0, 0, 0, 0.0)
        self._step_ended_s: float | None = None  # the last step, if there was more to do right after it

    @property
    def running(self) -> list[Request]:
        """Those that hold blocks, in rank order."""
        return self._seats.running

    @property
    def cache(self) -> KVCache:
        return self._seats.cache

    # The door.

    def submit(self, now: float, spec: RequestSpec) -> list[Queued | Rejected]:
        """Take a request in, or say why not. One event, ``Queued`` or ``Rejected``.

        Others that waited may have to leave for it: that comes with the next events returned.
        """
        self.ledger.of(spec.service_class).offered += 1
        rejected = self._refuse(now, spec) or self._take_in(now, spec)
        if rejected is not None:
            self.ledger.deny(spec, Denial.REFUSED, rejected.reason.value)
            self.counters.rejected[rejected.reason] += 1
            return [rejected]
        return [Queued(spec.request_id)]

    def abort(
        self, now: float, request_id: str, reason: FinishReason = FinishReason.ABORTED, detail: str = ""
    ) -> list[Event]:
        """End a request in any state. One that is unknown or has ended already is counted, and nothing more."""
        request = self.requests.get(request_id)
        if request is None:
            self.counters.ignored_aborts += 1
        else:
            self._finish(now, request, reason, detail)
        return self._take_events()

    def expire(self, now: float) -> list[Event]:
        """End every request whose deadline has passed."""
        self._expire(now)
        return self._take_events()

    def configure(self, config: SchedulerConfig, classes: ServiceClasses) -> None:
        """Other caps and promises from the next call on. Requests that are here keep what they were promised."""
        self.config = self._seats.config = config
        self.policy.set_classes(classes)

    def drain(self) -> None:
        """Refuse all that comes from now on; what is here goes on to its end."""
        self._draining = True

    # The three verbs.

    def plan(self, now: float) -> StepPlan | None:
        """The next step, or None if nothing is here to run. Not to be called while a step is in flight.

        Who runs goes on before anybody starts, and who was promised something before who was not, as long as the
        step's allowance lasts. No work is planned for a request past its deadline. What happened comes with the next
        events returned.
        """
        step = self._begin(now, with_plan=True)
        return None if step is None else step.plan

    def _begin(self, now: float, *, with_plan: bool) -> StepInFlight | None:
        assert self.in_flight is None, "a step is in flight"
        self._expire(now)
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
            self._advance(now, request, draws, outcomes.pop(request.spec.request_id, None))
        self.counters.discarded_tokens += len(outcomes)
        return self._ended(now, step, prompt_tokens)

    def _ended(self, now: float, step: StepInFlight, prompt_tokens: int) -> list[Event]:
        elapsed_s = now - step.began_s
        self._drain_rate.observe(prompt_tokens, elapsed_s)
        self.policy.observe(now, step.shape, elapsed_s)
        self._step_ended_s = now if self.requests else None
        return self._take_events()

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

    # The same for an executor that is a formula: no messages, and answers that are known beforehand.

    def keep_books_with(self, make_cache: Callable[[int, int, bytes], KVCache]) -> None:
        """Another kind of books of the KV cache, before anything is in it."""
        assert not self.requests, "somebody is here already"
        self._make_cache = make_cache
        self._seats.cache = self._new_cache()

    def foretell(self, request_id: str, answer: Foretold) -> None:
        """What will be drawn for a request that was just taken in. ``begin``, ``repeat`` and ``end`` need it of all."""
        self.requests[request_id].foretold = answer

    def begin(self, now: float) -> StepInFlight | None:
        """As ``plan``, without the message."""
        return self._begin(now, with_plan=False)

    def repeats(self) -> int:
        """How often the step in flight can be followed by its like: while all who are here decode in it."""
        step = self.in_flight
        assert step is not None, "no step is in flight"
        if len(step.entries) != len(self.requests) or step.shape.prefill_reads:
            return 0
        return most_repeats(step, self.cache)

    def repeat(self, ends: Sequence[float]) -> None:
        """The step in flight has ended and its like has begun, at each of these times: see ``repeats``. Leaves what as
        many calls of ``apply`` and ``plan`` would, but for what a policy learns: see ``Policy.repeated``."""
        step = self.in_flight
        assert step is not None, "no step is in flight"
        rounds, count = len(ends), len(step.entries)
        self.in_flight = after = repeat_step(step, ends, self.cache)
        self._last_shape = after.shape
        self._step_id += rounds
        self._seats.pass_steps(rounds)
        self.counters.steps += rounds
        self.counters.output_tokens += rounds * count
        began_s = step.began_s
        for end in ends:
            self._drain_rate.observe(0, end - began_s)
            began_s = end
        middle = StepShape(count, count, step.shape.decode_context + count * (rounds - 1) // 2, 0.0)
        self.policy.repeated(began_s, middle, rounds, began_s - step.began_s)

    def end(self, now: float) -> list[Event]:
        """As ``apply`` with what was foretold. Of tokens that come right after those of the step before, only an
        answer's last one is told."""
        step = self.in_flight
        assert step is not None, "no step is in flight"
        self.in_flight = None
        self.counters.steps += 1
        cache, began_s = self.cache, step.began_s
        size = cache.block_size
        prompt_tokens = 0
        gap_s, drawn = now - began_s, 0
        for request, draws in step.entries:
            if request.state is not State.RUNNING:
                continue  # it ended during the step
            planned, tokens, foretold = request.planned, request.tokens, request.foretold
            assert foretold is not None, f"nobody knows what {request.request_id} draws"
            if planned > 1 or not draws:
                prompt_tokens += planned
            if draws and len(tokens) >= foretold.tokens:
                self._advance(now, request, draws, DrawnToken(request.spec.request_id, foretold.last))
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
                self._events.append(TokenOut(request.spec.request_id, request.output_tokens - 1, foretold.token))
                request.tell(now)
        self.counters.output_tokens += drawn
        return self._ended(now, step, prompt_tokens)

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
        return None

    def _take_in(self, now: float, spec: RequestSpec) -> Rejected | None:
        request = Request.new(spec, self._arrivals, now)
        request.uncached = len(spec.prompt) - len(self.cache.lookup(request)) * self.cache.block_size
        refusal = self.policy.offer(now, request, self._scene())
        if refusal is not None and (refusal.is_final or not spec.may_demote):
            return _rejected(refusal)
        if refusal is not None:
            request.lane = Lane.BATCH
        full = refuse_for_now(request, self.waiting, self.config, self._drain_rate)
        if full is not None:
            return full
        self._arrivals += 1
        self.requests[spec.request_id] = request
        if refusal is not None:
            self._demote(request, refusal.reason.value)
        self.waiting.add(request, Lane(request.lane), request.key)
        self._deadlines.add(request, live=len(self.requests))
        return self._review(now, newcomer=request)

    def _review(self, now: float, newcomer: Request | None = None) -> Rejected | None:
        """Let those go that can't be on time. A newcomer among them is refused as if it had never been here."""
        answer: Rejected | None = None
        for refusal in self.policy.review(now, self._scene()):
            request = refusal.request
            self.waiting.remove(request)
            if request.spec.may_demote:
                self._demote(request, refusal.reason.value if request is newcomer else LATE)
                self.waiting.add(request, Lane.BATCH)
                continue
            request.move(State.FINISHED)
            del self.requests[request.request_id]
            if request is newcomer:
                answer = _rejected(refusal)
            else:
                self.ledger.deny(request.spec, Denial.SHED, LATE)
                self._tell_finished(request, FinishReason.SHED, refusal.message, refusal.retry_after_s)
        return answer

    def _demote(self, request: Request, reason: str) -> None:
        self.ledger.deny(request.spec, Denial.DEMOTED, reason)
        request.demote()
        request.lane, request.key = Lane.BATCH, 0.0
        self._events.append(Demoted(request.request_id, request.service_class))

    def _scene(self) -> Scene:
        step = self.in_flight
        return Scene(
            self.running,
            self.waiting,
            self.outputs,
            self.config.max_step_tokens,
            self._seats.room_tokens,
            None if step is None else step.shape,
            0.0 if step is None else step.began_s,
        )

    # Parts of apply.

    def _outcomes(self, result: StepResult) -> dict[str, DrawnToken | FailedDraw]:
        """What came for each request; of two tokens for one request the first counts, and a failure before both."""
        outcomes: dict[str, DrawnToken | FailedDraw] = {drawn.request_id: drawn for drawn in reversed(result.drawn)}
        outcomes.update((failed.request_id, failed) for failed in reversed(result.failed))
        self.counters.discarded_tokens += len(result.failed) + len(result.drawn) - len(outcomes)
        return outcomes

    def _advance(self, now: float, request: Request, draws: bool, outcome: DrawnToken | FailedDraw | None) -> None:
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

    # Endings.

    def _finish(self, now: float, request: Request, reason: FinishReason, detail: str = "") -> None:
        if request.state is State.RUNNING:
            if reason is FinishReason.FAILED:
                self.cache.distrust(request)
            self._seats.leave(request)
        else:
            self.waiting.remove(request)
        request.move(State.FINISHED)
        del self.requests[request.spec.request_id]
        if reason in (FinishReason.STOP, FinishReason.LENGTH):
            self.outputs.observe(request.service_class, request.output_tokens)
            if request.first_token_s is None:
                request.first_token_s = now  # an empty answer
            self.ledger.ended(now, request, complete=True)
            self.policy.finished(now, request)
        else:
            self.ledger.ended(now, request, complete=False)
        self._tell_finished(request, reason, detail)

    def _tell_finished(
        self, request: Request, reason: FinishReason, detail: str, retry_after_s: float | None = None
    ) -> None:
        self.counters.finished[reason] += 1
        self._events.append(
            Finished(
                request.spec.request_id,
                reason,
                request.prompt_tokens,
                request.output_tokens,
                request.cached_tokens,
                detail,
                retry_after_s,
            )
        )

    def _expire(self, now: float) -> None:
        while (request := self._deadlines.pop_due(now)) is not None:
            self._finish(now, request, FinishReason.EXPIRED, "the deadline passed")

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

    def _take_events(self) -> list[Event]:
        if not self._events:
            return []
        events = self._events[:]
        self._events.clear()
        return events

    def _new_seats(self) -> Seats:
        return Seats(
            self._new_cache(),
            self.config,
            self.waiting,
            self.outputs,
            self.counters,
            self._events,
            tells_room=self.policy.looks_at_room,
        )

    def _new_cache(self) -> KVCache:
        return self._make_cache(self.info.kv_blocks, self.info.block_size, self._prefix_key)


def _rejected(refusal: Refusal) -> Rejected:
    return Rejected(refusal.request.request_id, refusal.reason, refusal.message, retry_after_s=refusal.retry_after_s)
