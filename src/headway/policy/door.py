"""From coming in to having ended: who is here, who is refused at the door, and what is told of it.

The part of the scheduler that is not about steps (``scheduler`` is the rest).
"""

from __future__ import annotations

from collections.abc import Callable

from headway.policy.admission import DrainRate, refuse_for_good, refuse_for_now
from headway.policy.baselines import StaticPolicy
from headway.policy.batch import StepInFlight
from headway.policy.config import SchedulerConfig
from headway.policy.events import Demoted, Event, Finished, FinishReason, Queued, Rejected, RejectReason
from headway.policy.kv import KVCache
from headway.policy.ledger import LATE, Denial, Ledger
from headway.policy.outputs import OutputLengths
from headway.policy.plan import ExecutorInfo
from headway.policy.policy import Policy, Refusal, Scene
from headway.policy.request import Request, RequestSpec, State
from headway.policy.seats import Seats
from headway.policy.slo import ServiceClasses
from headway.policy.stats import Counters
from headway.policy.waiting import Deadlines, Lane, WaitingQueue


class Door:
    """``submit``, ``abort`` and ``expire``, at any time; see ``Scheduler``."""

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

    @property
    def running(self) -> list[Request]:
        """Those that hold blocks, in rank order."""
        return self._seats.running

    @property
    def cache(self) -> KVCache:
        return self._seats.cache

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

    def keep_books_with(self, make_cache: Callable[[int, int, bytes], KVCache]) -> None:
        """Another kind of books of the KV cache, before anything is in it."""
        assert not self.requests, "somebody is here already"
        self._make_cache = make_cache
        self._seats.cache = self._new_cache()

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

    def tell(self, event: Event) -> None:
        """Something that happened: it comes with the next events returned."""
        self._events.append(event)

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
