"""What must hold between any two calls, whatever happened: checks for tests, simulations and idle moments.

Each raises ``AssertionError`` naming the invariant it found broken. ``check`` looks at one moment of a scheduler and
its step in flight; ``History`` follows the events.

 1 free, cached and referenced blocks are disjoint and sum to the pool
 2 a block has as many references as tables hold it
 3 a block to be written has one owner; only full, computed blocks are shared or published
 4 a table holds the blocks of its computed and planned tokens, and no more
 5 a block found in the cache holds the same tokens at the same position under the same salt
 6 nobody here: nothing referenced, nothing queued, nothing to tell
 7 exactly one ending for each request that came in, and nothing after it
 8 output tokens come as 0, 1, 2, ... once each; usage counts them, and the stop token
 9 who is not running holds nothing and is in no step
11 a step keeps to its budget and to the number of sequences; each request in it once, within its known tokens
12 a step is planned whenever somebody is here, and none when nobody is
13 the queue and the running requests are in order; preemptions of one request are bounded

22 counters are sums over the events, and each request counts once for what became of it

The scheduler itself asserts number 14 (a request computed something before it is preempted again). The others are
tests: 10, 15, 16 and 24 compare whole runs, 17 reads the code, 18 to 21 and 23 are about many runs.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from headway.policy.events import (
    Demoted,
    Event,
    Finished,
    FinishReason,
    Preempted,
    Queued,
    Rejected,
    Scheduled,
    TokenOut,
)
from headway.policy.plan import StepPlan
from headway.policy.request import Request, State
from headway.policy.scheduler import Scheduler


def check(scheduler: Scheduler) -> None:
    """Everything that can be seen in one moment. Looks at every block and request: not for every step in production."""
    _check_blocks(scheduler)
    for request in scheduler.running:
        _check_table(scheduler, request)
    _check_membership(scheduler)
    if scheduler.in_flight is not None:
        _check_step(scheduler)


def check_planned(scheduler: Scheduler, plan: StepPlan | None) -> None:
    """What must hold right after ``plan``."""
    if plan is None:
        assert not scheduler.requests, "12: no step, though somebody is here"
    else:
        assert plan.chunks, "12: an empty step"
        check(scheduler)


def check_ledger(scheduler: Scheduler) -> None:
    """Number 22, by class: whoever was offered is here, or was counted once for what became of them."""
    here = Counter(
        each.spec.service_class for each in scheduler.requests.values() if each.service_class == each.spec.service_class
    )
    for name, counters in scheduler.ledger.classes.items():
        known = counters.refused + counters.shed + counters.demoted
        known += counters.in_slo + counters.late + counters.unfinished + here[name]
        assert counters.offered == known, f"22: {counters.offered} of class {name} were offered, {known} are known of"


def check_counters(scheduler: Scheduler, history: History) -> None:
    """Number 22: the counters are sums over the events, all of them seen by ``history``, once nobody is here."""
    counters, counts, classes = scheduler.counters, history.counts, scheduler.ledger.classes.values()
    assert sum(counters.finished.values()) == counts["Finished"] == counts["Queued"], "22: endings"
    assert sum(counters.rejected.values()) == counts["Rejected"], "22: refusals"
    assert counters.preemptions + counters.displaced == counts["Preempted"], "22: preemptions"
    assert counters.output_tokens == sum(end.output_tokens for end in history.ended.values()), "22: output tokens"
    assert sum(each.offered for each in classes) == counts["Queued"] + counts["Rejected"], "22: offered"
    assert sum(each.refused for each in classes) == counts["Rejected"], "22: refused"
    assert sum(each.demoted for each in classes) == counts["Demoted"], "22: demoted"
    assert sum(each.shed for each in classes) == counters.finished[FinishReason.SHED], "22: shed"


def _check_blocks(scheduler: Scheduler) -> None:
    pool, index = scheduler.cache.pool, scheduler.cache.index
    free, cached, references = pool.census()
    held = set(references)
    assert free | cached | held == set(range(pool.total)), "1: blocks do not sum to the pool"
    assert len(free) + len(cached) + len(held) == pool.total, "1: a block is in two places"
    holders = Counter(block for request in scheduler.running for block in request.block_table)
    assert holders == references, "2: references differ from the tables that hold a block"
    published = index.published()
    assert cached <= published, "3: a cached block that nobody can find"
    assert published <= cached | held, "3: a free block can be found"
    assert all(pool.owner(block) == index.salt(block) for block in published), "3: a block is kept for a stranger"
    if not scheduler.requests:
        assert not held, "6: nobody here, and blocks are referenced"
        assert not scheduler.waiting.tokens, "6: nobody here, and tokens are queued"


def _check_table(scheduler: Scheduler, request: Request) -> None:
    cache, name = scheduler.cache, request.request_id
    size = cache.block_size
    expected = cache.blocks_for(request.computed + request.planned)
    assert len(request.block_table) == expected, f"4: {name} holds {len(request.block_table)} blocks, not {expected}"
    assert request.computed + request.planned <= len(request.tokens), f"11: {name} computes tokens it does not have"
    for position, block in enumerate(request.block_table):
        full = (position + 1) * size <= request.computed
        assert full or cache.pool.references(block) == 1, f"3: {name} writes to a shared block"
        assert full or block not in cache.index, f"3: {name} writes to a published block"
        if block in cache.index:
            tokens = tuple(request.tokens[position * size : (position + 1) * size])
            assert cache.index.content(block) == (request.spec.salt, position, tokens), f"5: {name} has a false hit"


def _check_membership(scheduler: Scheduler) -> None:
    waiting = list(scheduler.waiting)
    for request in waiting:
        assert request.state is State.WAITING, f"7: {request.request_id} waits while {request.state}"
        idle = not (request.block_table or request.computed or request.planned or request.published)
        assert idle, f"9: {request.request_id} waits and holds something"
    for request in scheduler.running:
        assert request.state is State.RUNNING, f"7: {request.request_id} runs while {request.state}"
    everyone = {request.request_id: request for request in [*waiting, *scheduler.running]}
    assert everyone == scheduler.requests, "7: a request is lost, or in two places"
    assert len(everyone) == len(waiting) + len(scheduler.running), "7: a request is in two places"
    assert scheduler.waiting.tokens == sum(len(request.tokens) for request in waiting), "6: queued tokens drifted"
    for lane in scheduler.waiting.lanes:
        places = [(request.key, request.order) for request in lane]
        assert places == sorted(places), "13: the queue is out of order"
    cap = scheduler.config.max_preemptions
    ranks = [(request.preemptions < cap, request.deferrable, request.order) for request in scheduler.running]
    assert ranks == sorted(ranks), "13: running requests are out of rank"
    assert all(request.preemptions <= cap for request in everyone.values()), "13: a request was preempted too often"


def _check_step(scheduler: Scheduler) -> None:
    step = scheduler.in_flight
    assert step is not None
    if step.plan is None:
        return  # nobody was told, so there is no message to compare
    chunks = step.plan.chunks
    assert 1 <= step.plan.token_count <= step.token_limit, "11: a step over its budget"
    assert len(chunks) <= scheduler.config.max_running, "11: too many sequences in a step"
    assert len({chunk.request_id for chunk in chunks}) == len(chunks), "11: a request is in a step twice"
    assert len(scheduler.running) <= scheduler.config.max_running, "11: too many requests hold blocks"
    for (request, draws), chunk in zip(step.entries, chunks, strict=True):
        assert request.state is not State.WAITING, f"9: {request.request_id} waits, and is in a step"
        if request.state is State.RUNNING:
            assert (chunk.start, len(chunk.tokens)) == (request.computed, request.planned), "11: not what is planned"
            assert chunk.tokens == tuple(request.tokens[chunk.start : chunk.start + len(chunk.tokens)]), (
                "11: wrong tokens"
            )
            assert chunk.block_table == request.block_table, "4: a chunk's table is not its request's"
            assert draws == (chunk.draw is not None), "11: a draw that is not wanted"


@dataclass
class History:
    """Follows the events of one scheduler, from its first on, and raises at the first that can't be."""

    output: dict[str, list[int]] = field(default_factory=dict)
    ended: dict[str, Finished] = field(default_factory=dict)
    running: set[str] = field(default_factory=set)
    started: set[str] = field(default_factory=set)
    counts: Counter[str] = field(default_factory=Counter)

    def observe(self, events: list[Event]) -> None:
        for event in events:
            self.counts[type(event).__name__] += 1
            if isinstance(event, Queued):
                self.output[event.request_id] = []
                self.ended.pop(event.request_id, None)  # an id may come again once its request has ended
                self.started.discard(event.request_id)
            elif not isinstance(event, Rejected):
                name = event.request_id
                assert name in self.output, f"7: {name} was never queued"
                assert name not in self.ended, f"7: {name} has ended, and then came {event}"
                self._follow(event)

    def _follow(self, event: Demoted | Scheduled | Preempted | TokenOut | Finished) -> None:
        name = event.request_id
        output = self.output[name]
        if isinstance(event, Scheduled):
            assert name not in self.running, f"7: {name} was scheduled twice"
            self.running.add(name)
            self.started.add(name)
        elif isinstance(event, Preempted):
            assert name in self.running, f"7: {name} was preempted while it did not run"
            assert event.output_tokens == len(output), f"8: {name} lost or gained tokens when it was preempted"
            self.running.discard(name)
        elif isinstance(event, TokenOut):
            assert name in self.running, f"9: {name} got a token while it did not run"
            assert event.index == len(output), f"8: {name} got token {event.index} after {len(output)}"
            output.append(event.token)
        elif isinstance(event, Demoted):
            assert not output, f"7: {name} was demoted after its first token"
        else:
            shed = event.reason is FinishReason.SHED
            assert not (shed and name in self.started), f"9: {name} was refused after something was computed for it"
            stop_token = event.output_tokens - len(output)
            assert stop_token == 0 or (stop_token == 1 and event.reason is FinishReason.STOP), f"8: usage of {name}"
            self.running.discard(name)
            self.ended[name] = event

    def check_idle(self) -> None:
        """What must hold once nothing is left to do."""
        assert not self.running, f"6: {sorted(self.running)} still run"
        assert set(self.output) == set(self.ended), f"7: no ending for {sorted(set(self.output) - set(self.ended))}"
