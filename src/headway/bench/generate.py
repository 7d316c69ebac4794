"""The load generator: sends calls as a load says, and makes a record of each, in one process.

Open loop: a request is intended at its time in the schedule, whatever became of those before it; a client that falls
behind is late, and its lateness counts. Closed loop: a request is intended when the one before it in its slot has
ended. Nothing is drained between warm-up and measuring: the load just goes on.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field

import msgspec

from headway.bench.body import Dialect, next_call
from headway.bench.call import Call
from headway.bench.loads import CONCURRENCY_MAX, ClosedLoop, Load, OpenLoop
from headway.bench.record import Outcome, Record
from headway.bench.schedule import Plan, Planned
from headway.bench.sender import TIMEOUT_S, Sender
from headway.bench.target import Target

DRAIN_S = 30.0
"""After the time of the load is over, replies under way are waited for so long at most; then they are timed out."""
GRACE_S = 2.0
"""After an interrupt; then they are cut."""
BACK_OFF_S = 0.5
"""A slot of a closed loop whose request was not served waits so long before its next one, as a client does: else a
server that refuses at once would be asked thousands of times a second."""
LEAD_S = 0.05
"""Between the call and time 0 of the run, if the caller sets none."""
LAG_INTERVAL_S = 0.02
LAG_SAMPLES_MAX = 100_000
FIRST_LIFE_SHARE_MAX = 0.1
"""Of a closed loop's time: how long the first request is waited for to see how long one lives."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How a load is offered.

    ``process`` of ``processes``: which part of the whole this is; only the ramp of a closed loop needs to know.
    """

    dialect: Dialect = field(default_factory=Dialect)
    seed: int = 0
    timeout_s: float = TIMEOUT_S
    drain_s: float = DRAIN_S
    grace_s: float = GRACE_S
    process: int = 0
    processes: int = 1


class LoadStats(msgspec.Struct, kw_only=True):
    """What the generator itself did, in one process. ``cpu_s`` of ``elapsed_s``: processor time of the whole process.

    ``lag_*``: how late the event loop woke up, over ``lag_n`` samples. ``ramped_s``: when a closed loop had started all
    its slots. ``has_run_dry``: there were fewer calls than the load had time for. ``error``: what ended the process.
    """

    process: int = 0
    elapsed_s: float = 0.0
    cpu_s: float = 0.0
    lag_p99_s: float = 0.0
    lag_max_s: float = 0.0
    lag_n: int = 0
    requests: int = 0
    tokens: int = 0
    ramped_s: float | None = None
    has_run_dry: bool = False
    error: str | None = None


Source = Callable[[], Awaitable[Planned | None]]
"""The next call to be sent; None: there are no more."""


async def run_load(
    target: Target,
    calls: Iterator[Call],
    load: Load,
    *,
    on_record: Callable[[Record], None],
    stop: asyncio.Event,
    options: Options | None = None,
    start_s: float | None = None,
) -> LoadStats:
    """Offer ``load`` with ``calls``; ``on_record`` gets the record of each request as it ends.

    ``start_s``: time 0 (``time.perf_counter``); None: right away.

    ``stop`` ends it early: no new requests, and those under way may end within the grace. Raises ValueError if calls
    and load or API don't fit.
    """
    options = options or Options()
    plan = Plan(load, calls, options.seed)

    async def source() -> Planned | None:
        return next(plan, None)

    stats = await generate(target, source, load, on_record=on_record, stop=stop, options=options, start_s=start_s)
    stats.has_run_dry = plan.has_run_dry
    return stats


async def generate(
    target: Target,
    source: Source,
    load: Load,
    *,
    on_record: Callable[[Record], None],
    stop: asyncio.Event,
    options: Options,
    start_s: float | None = None,
) -> LoadStats:
    """``run_load`` with calls that have their times already."""
    start_s = time.perf_counter() + LEAD_S if start_s is None else start_s
    sender = Sender(target, options.dialect, start_s=start_s, timeout_s=options.timeout_s, process=options.process)
    async with sender:
        try:
            return await _Generation(sender, source, load, on_record, stop, options).run()
        except ExceptionGroup as group:
            raise group.exceptions[0] from None


class _Generation:
    """One run. Slots and requests are tasks of one group; ``_pace`` starts them."""

    def __init__(
        self,
        sender: Sender,
        source: Source,
        load: Load,
        on_record: Callable[[Record], None],
        stop: asyncio.Event,
        options: Options,
    ) -> None:
        self._sender = sender
        self._source = source
        self._load = load
        self._on_record = on_record
        self._stop = stop
        self._options = options
        self._stats = LoadStats(process=options.process)
        self._free = asyncio.Semaphore(load.in_flight_max if isinstance(load, OpenLoop) else CONCURRENCY_MAX)
        self._first_life_s: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self._pacer: asyncio.Task[None] | None = None
        self._lags_s: list[float] = []

    async def run(self) -> LoadStats:
        cpu_s = time.process_time()
        loop = asyncio.get_running_loop()
        work, stopping = loop.create_task(self._work()), loop.create_task(self._stop.wait())
        watching = loop.create_task(self._watch_lag())
        try:
            await self._wait_and_end(work, stopping)
            work.result()
        finally:
            for task in (work, stopping, watching):
                task.cancel()
            await asyncio.gather(work, stopping, watching, return_exceptions=True)
        self._stats.elapsed_s = self._sender.now_s
        self._stats.cpu_s = time.process_time() - cpu_s
        self._note_lag()
        return self._stats

    async def _wait_and_end(self, work: asyncio.Task[None], stopping: asyncio.Task[bool]) -> None:
        options = self._options
        left_s = self._load.seconds + options.drain_s - self._sender.now_s
        await asyncio.wait((work, stopping), timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
        if work.done():
            return
        if self._stop.is_set():
            if self._pacer is not None:
                self._pacer.cancel()
            await asyncio.wait((work,), timeout=options.grace_s)
            self._sender.give_up(Outcome.CUT, "the run was interrupted")
        else:
            self._sender.give_up(Outcome.TIMEOUT, f"not whole {options.drain_s:g} s after the end of the load")
        await asyncio.wait((work,))

    async def _work(self) -> None:
        async with asyncio.TaskGroup() as group:
            if isinstance(self._load, OpenLoop):
                self._pacer = group.create_task(self._pace_open(group))
            else:
                self._pacer = group.create_task(self._pace_closed(self._load, group))

    # ---- open loop ---------------------------------------------------------------------------------------------------

    async def _pace_open(self, group: asyncio.TaskGroup) -> None:
        while (planned := await self._source()) is not None:
            await self._sleep_until(planned.at_s)
            await self._free.acquire()
            group.create_task(self._converse(planned, planned.at_s))

    # ---- closed loop -------------------------------------------------------------------------------------------------

    async def _pace_closed(self, load: ClosedLoop, group: asyncio.TaskGroup) -> None:
        options = self._options
        total = load.concurrency * options.processes  # of slots; this process has every so-manieth
        from_s, ramp_s = 0.0, load.ramp_s
        for slot in range(load.concurrency):
            if slot == 1 and ramp_s is None:
                await asyncio.wait((self._first_life_s,), timeout=FIRST_LIFE_SHARE_MAX * load.seconds)
                from_s = self._sender.now_s
                ramp_s = self._first_life_s.result() if self._first_life_s.done() else from_s
            start_s = from_s + (ramp_s or 0.0) * (slot * options.processes + options.process) / total
            await self._sleep_until(start_s)
            group.create_task(self._run_slot(start_s))
        self._stats.ramped_s = max(0.0, self._sender.now_s)

    async def _run_slot(self, intended_s: float) -> None:
        while intended_s < self._load.seconds and not self._stop.is_set():
            planned = await self._source()
            if planned is None:
                return
            await self._free.acquire()
            last = await self._converse(planned, intended_s)
            intended_s = last.ended_s
            if not last.is_ok:
                intended_s += BACK_OFF_S
                if await self._is_stopped_before(intended_s):
                    return

    # ---- one call ----------------------------------------------------------------------------------------------------

    async def _converse(self, planned: Planned, intended_s: float) -> Record:
        """All turns of a call, the first of which has its connection already. Returns the last one that was sent."""
        call, answer = planned.call, list[str]()
        turn = 0
        while True:
            on_text = answer.append if call.turns else None
            try:
                record = await self._sender.send(
                    call, intended_s=intended_s, index=planned.index, turn=turn, on_text=on_text
                )
            finally:
                self._free.release()
            self._note(record)
            if not (record.is_ok and call.turns):
                return record
            intended_s = record.ended_s + call.turns[0].think_s
            if intended_s >= self._load.seconds or await self._is_stopped_before(intended_s):
                return record
            call = next_call(call, "".join(answer), record.tokens)
            answer, turn = [], turn + 1
            await self._free.acquire()

    def _note(self, record: Record) -> None:
        self._stats.requests += 1
        self._stats.tokens += sum(record.chunk_tokens)
        if record.is_ok and not self._first_life_s.done():
            self._first_life_s.set_result(record.ended_s - record.intended_s)
        self._on_record(record)

    # ---- time --------------------------------------------------------------------------------------------------------

    async def _sleep_until(self, at_s: float) -> None:
        """At least once to the event loop, so that a pacer that is behind does not keep the rest from running."""
        while True:
            await asyncio.sleep(max(0.0, at_s - self._sender.now_s))
            if self._sender.now_s >= at_s:  # some event loops wake up to a millisecond early
                return

    async def _is_stopped_before(self, at_s: float) -> bool:
        try:
            async with asyncio.timeout(max(0.0, at_s - self._sender.now_s)):
                return await self._stop.wait()
        except TimeoutError:
            return False

    async def _watch_lag(self) -> None:
        """A wake-up is due every so often, however late the last one was: a loop that stood still for a second was late
        for all that were due in it. While the load lasts: a drain is idle."""
        interval_s = max(LAG_INTERVAL_S, self._load.seconds / LAG_SAMPLES_MAX)
        due_s = max(0.0, self._sender.now_s) + interval_s
        while due_s < self._load.seconds:
            await asyncio.sleep(max(0.0, due_s - self._sender.now_s))
            now_s = self._sender.now_s
            while due_s <= now_s and len(self._lags_s) < LAG_SAMPLES_MAX:
                self._lags_s.append(now_s - due_s)
                due_s += interval_s

    def _note_lag(self) -> None:
        lags_s, stats = sorted(self._lags_s), self._stats
        stats.lag_n = len(lags_s)
        if lags_s:
            stats.lag_max_s = lags_s[-1]
            stats.lag_p99_s = lags_s[math.ceil(0.99 * len(lags_s)) - 1]
