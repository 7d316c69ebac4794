"""The requests that hold KV blocks: who goes on in a step, who starts, and who gives way when blocks are short.

Rank. Running requests are ordered: protected ones first (preempted ``max_preemptions`` times), then those that were
promised something, then those that run in what others leave (``deferrable``); among equals by arrival. Blocks are
claimed in rank order, and when there are none left the last in rank is preempted: its tokens are computed again
later. So the first in rank always goes on. A protected request starts only when the peaks of all protected ones fit
the cache together, so it is never preempted again.

Order. The policy gives each waiting request its place; nobody overtakes the head of those with a promise, nor that of
those without. A deferrable request gives way to one with a promise that would not fit beside it. Nobody starts in a
step that had to preempt for want of blocks.
"""

from __future__ import annotations

from bisect import insort
from collections import deque
from collections.abc import Iterable
from math import inf

from headway.policy.allowance import Allowance
from headway.policy.batch import share_decodes
from headway.policy.config import SchedulerConfig
from headway.policy.events import Event, Preempted, Scheduled
from headway.policy.forecast import KVForecast
from headway.policy.kv import KVCache
from headway.policy.outputs import OutputLengths
from headway.policy.policy import Load
from headway.policy.request import Request, State
from headway.policy.stats import Counters
from headway.policy.waiting import Lane, WaitingQueue, place

LOOK_AGAIN_STEPS = 16
"""A head that did not fit is looked at again after this many steps: what others publish may have made it smaller.
Otherwise it only fits once somebody leaves, because the needs of those running never fall by themselves."""


class Seats:
    """Everything that takes blocks or gives them back. ``running`` is in rank order; what happens is appended to
    ``events``."""

    def __init__(
        self,
        cache: KVCache,
        config: SchedulerConfig,
        waiting: WaitingQueue,
        outputs: OutputLengths,
        counters: Counters,
        events: list[Event],
        *,
        tells_room: bool = True,
    ) -> None:
        """``tells_room``: whether anybody reads ``room_tokens``, which costs a forecast of all that run."""
        self.running: list[Request] = []
        self.cache = cache
        self.room_tokens = inf  # for those that start next, as far as known
        self.config = config
        self._waiting = waiting
        self._outputs = outputs
        self._counters = counters
        self._events = events
        self._tells_room = tells_room
        self._blocked: set[str] = set()  # heads that did not fit when last looked at
        self._look_again = 0  # steps until they are looked at again, if nobody leaves before
        self._forecast: KVForecast | None = None  # of those running, while requests start

    def fill(self, load: Load, allowance: Allowance, *, prompts_first: bool, may_start: bool) -> list[Request]:
        """Choose who takes part in a step and give them their blocks. Nobody starts once somebody was preempted."""
        self._look_again -= 1
        chosen: list[Request] = []
        before = self._counters.preemptions
        if not self._waiting and len(load.decodes) == len(self.running):  # most steps are like that
            chosen = self._decodes(allowance, load.decodes, before, deferrable=False)
        else:
            for deferrable in (False, True):
                decodes = load.deferrable_decodes if deferrable else load.decodes
                prefills = load.deferrable_prefills if deferrable else load.prefills
                if decodes and not prompts_first:
                    chosen += self._decodes(allowance, decodes, before, deferrable=deferrable)
                may_start = may_start and self._counters.preemptions == before
                if deferrable and self._blocked_head():
                    may_start = False
                chosen += self._prompts(allowance, prefills, deferrable=deferrable, may_start=may_start)
                if decodes and prompts_first:
                    chosen += self._decodes(allowance, decodes, before, deferrable=deferrable)
        if self._counters.preemptions == before:
            return chosen
        return [request for request in chosen if request.planned]

    def pass_steps(self, steps: int) -> None:
        """So many steps were filled with the same requests, and nobody waited."""
        self._look_again -= steps

    def leave(self, request: Request) -> None:
        """A running request has ended."""
        self.running.remove(request)
        self._blocked.clear()
        self.cache.close(request)
        self.room_tokens = self.room_tokens + len(request.tokens) if self.running else inf

    def clear(self) -> int:
        """The cache is lost: all that run wait again. Returns how many."""
        displaced, self.running = self.running, []
        self.room_tokens = inf
        self._blocked.clear()
        for request in displaced:
            self._send_back(request)
        return len(displaced)

    # Going on.

    def _decodes(self, allowance: Allowance, decodes: list[Request], before: int, *, deferrable: bool) -> list[Request]:
        """``before``: how many had been preempted when the step was begun."""
        if self._counters.preemptions != before:
            decodes = [request for request in decodes if request.state is State.RUNNING]
        planned = share_decodes(allowance, decodes, deferrable=deferrable)
        size = self.cache.block_size
        for request in planned:
            if request.computed >= len(request.block_table) * size:
                self._claim(request)
        return planned

    def _claim(self, request: Request) -> None:
        """Give a request that takes part its blocks, preempting the last in rank while there are none left."""
        while request.planned and not self.cache.grow(request):
            victim = self.running.pop()
            assert self.running, f"{victim.request_id} has the cache to itself and does not fit"
            self._put_off(victim)

    def _prompts(
        self, allowance: Allowance, prefills: list[Request], *, deferrable: bool, may_start: bool
    ) -> list[Request]:
        """Prompts begun and prompts that wait, in the policy's order, while there is allowance, place and room."""
        self._forecast = None
        if not prefills and (not may_start or self._waiting.head(deferrable=deferrable) is None):
            return []
        chosen: list[Request] = []
        begun = deque(sorted(prefills, key=place))
        before = self._counters.preemptions
        while True:
            head = self._waiting.head(deferrable=deferrable) if may_start else None
            if head is not None and (not begun or place(head) < place(begun[0])):
                if self._start(allowance, head, deferrable=deferrable):
                    chosen.append(head)
                else:
                    may_start = False
            elif begun:
                request = begun.popleft()
                if request.state is not State.RUNNING:
                    continue  # preempted meanwhile
                request.planned = allowance.chunk(request.computed, request.remaining, deferrable=deferrable)
                if not request.planned:
                    break
                self._claim(request)
                chosen.append(request)
                may_start = may_start and self._counters.preemptions == before
            else:
                break
        if self._forecast is not None and not deferrable:
            giving_way = sum(len(request.tokens) for request in self.running if request.deferrable)
            self.room_tokens = float(self._forecast.room_tokens() + giving_way)
        return chosen

    # Starting.

    def _start(self, allowance: Allowance, request: Request, *, deferrable: bool) -> bool:
        """Start the request that is next, if there are allowance, place and blocks for it."""
        if request.request_id in self._blocked and self._look_again > 0:
            return False
        hits = self.cache.lookup(request)
        while not (fits := self._fits(request, hits, deferrable=deferrable)) and not deferrable:
            if not self._may_put_off(request, hits):
                break
            self._put_off(self.running.pop())
        if not fits:
            self._blocked.add(request.request_id)
            self._look_again = LOOK_AGAIN_STEPS
            return False
        start = len(hits) * self.cache.block_size
        planned = allowance.chunk(start, len(request.tokens) - start, deferrable=deferrable)
        if not planned:
            return False
        self._waiting.remove(request)
        request.move(State.RUNNING)
        self.cache.open(request, hits)
        insort(self.running, request, key=self._rank)
        self._events.append(Scheduled(request.spec.request_id, request.computed, resumed=request.ever_scheduled))
        if not request.ever_scheduled:
            request.ever_scheduled = True
            request.cached_tokens = request.computed
            self._counters.prompt_tokens += request.prompt_tokens
            self._counters.cached_tokens += request.computed
        request.planned = planned
        has_blocks = self.cache.grow(request)
        assert has_blocks, f"{request.request_id} was started without blocks"
        if self._forecast is not None:
            self._forecast.add(request)
        return True

    def _fits(self, request: Request, hits: list[int], *, deferrable: bool) -> bool:
        if len(self.running) >= self.config.max_running:
            return False
        if not self._tells_room and self._forecast is None and self._surely_fits(request, deferrable=deferrable):
            return True
        if self._forecast is None:
            self._forecast = self._new_forecast(self.running, deferrable=deferrable)
        return self._forecast.fits(request, hits)

    def _surely_fits(self, request: Request, *, deferrable: bool) -> bool:
        """Whether there is room even if it and all that run hold the most that they ever may, and share nothing."""
        if deferrable or self.config.protects(request.preemptions):
            return False
        peaks = request.peak_tokens + sum([each.peak_tokens for each in self.running])
        peaks += (len(self.running) + 1) * self.cache.block_size
        return peaks <= (1.0 - self.config.kv_watermark) * self.cache.pool.total * self.cache.block_size

    def _new_forecast(self, running: Iterable[Request], *, deferrable: bool = False) -> KVForecast:
        return KVForecast(running, self.cache, self.config, self._outputs, deferrable=deferrable)

    def _blocked_head(self) -> bool:
        """Whether somebody with a promise waits for blocks, so that nobody without one may take them."""
        head = self._waiting.head(deferrable=False)
        return head is not None and head.request_id in self._blocked

    # Giving way.

    def _may_put_off(self, request: Request, hits: list[int]) -> bool:
        """Whether the last in rank is to give way to one with a promise: it is deferrable, and it would be of use."""
        if not self.running or not self.running[-1].deferrable:
            return False
        others = [each for each in self.running if not each.deferrable or self.config.protects(each.preemptions)]
        return len(others) < self.config.max_running and self._new_forecast(others).fits(request, hits)

    def _put_off(self, victim: Request) -> None:
        """Who was taken out of ``running`` for want of blocks waits again."""
        assert victim.computed > victim.started_at, f"{victim.request_id} is preempted without having computed anything"
        victim.preemptions += 1
        self._counters.preemptions += 1
        self._blocked.clear()
        self._forecast = None
        self._send_back(victim)

    def _send_back(self, request: Request) -> None:
        self.cache.close(request)
        request.move(State.WAITING)
        self._waiting.add(request, Lane.BATCH if request.deferrable else Lane.RETURNING)
        self._events.append(Preempted(request.spec.request_id, request.output_tokens))

    def _rank(self, request: Request) -> tuple[bool, bool, int]:
        return not self.config.protects(request.preemptions), request.deferrable, request.order
