"""One load level, end to end: offer the load, read the server's own numbers meanwhile, and make figures of it."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field

from headway.bench.arrivals import ARRIVALS_MAX
from headway.bench.body import Dialect
from headway.bench.doubts import doubts
from headway.bench.figures import ClientHealth, Level
from headway.bench.generate import LoadStats, Options
from headway.bench.health import client_health
from headway.bench.live import Live
from headway.bench.loads import Load, OpenLoop
from headway.bench.metrics import measure
from headway.bench.processes import run_processes
from headway.bench.record import Outcome, Record
from headway.bench.scrape import Scraper
from headway.bench.sender import TIMEOUT_S
from headway.bench.target import Target
from headway.bench.timeline import timeline
from headway.bench.window import steady_window
from headway.bench.workload_interface import Workload
from headway.policy.slo import NO_PROMISE, Objective

GONE_REQUESTS = 20
GONE_S = 3.0
"""If so many requests in a row found no server, for so long, it is taken to be gone."""
RECORDS_MAX, CHUNKS_MAX = ARRIVALS_MAX, 50_000_000
"""Requests of a level, and events with tokens of all of them: what is kept of it must fit in memory (about 2 GB)."""
TICK_S = 0.25
OF_WHOLE_REPLIES = ("e2e", "queue")
"""What there is of a reply that did not come as a stream."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What stays the same from level to level. ``objectives`` by service class; ``default`` for calls that name none.

    ``engine``: whose metrics are read; None: nobody's. ``processes``: of the load generator. ``template_tokens``: what
    the server's chat template adds to a prompt.
    """

    target: Target
    workload: Workload
    objectives: Mapping[str, Objective] = field(default_factory=dict)
    default: Objective = NO_PROMISE
    dialect: Dialect = field(default_factory=Dialect)
    timeout_s: float = TIMEOUT_S
    warm_up_s: float = 0.0
    template_tokens: int = 0
    processes: int = 1
    engine: str | None = None


async def run_level(
    setting: Setting, load: Load, *, seed: int, live: Live | None = None, stop: asyncio.Event | None = None
) -> tuple[Level, list[Record]]:
    """Offer ``load`` and measure. ``stop`` ends it early; what there is until then is measured, and marked partial.
    Cancelled after ``stop`` is set it ends at once, and is measured as well.

    So is the level of a server that goes away meanwhile, and one of more than can be kept. Raises ValueError if
    workload, load and API don't fit.
    """
    stop = stop or asyncio.Event()
    watch = _Watch()
    start_s = math.inf
    records: list[Record] = []

    def clock() -> float:
        """Seconds of the level; 0 until it has begun."""
        return max(0.0, time.perf_counter() - start_s)

    def on_start(at_s: float) -> None:
        nonlocal start_s
        start_s = at_s

    def on_record(record: Record) -> None:
        records.append(record)
        watch.see(record)
        if live is not None:
            live.add(record)

    options = Options(dialect=setting.dialect, seed=seed, timeout_s=setting.timeout_s)
    scraper = Scraper(setting.target, setting.engine, clock) if setting.engine is not None else None
    scraping = scraper.running() if scraper else contextlib.nullcontext()
    async with scraping, _ticking(live, clock), _also(stop, watch.stop):
        try:
            stats = await run_processes(
                setting.target,
                setting.workload,
                load,
                processes=setting.processes,
                on_record=on_record,
                stop=watch.stop,
                options=options,
                on_start=on_start,
            )
        except asyncio.CancelledError:
            if not _is_hurried(stop):
                raise
            stats = []
    errors = [each.error for each in stats if each.error]
    is_partial = watch.stop.is_set() or bool(errors)
    stopped_s = max((each.intended_s for each in records), default=0.0) if is_partial else None
    level = _measured(setting, load, records, stats, stopped_s)
    level.seed = seed
    level.scraped = scraper.result() if scraper else None
    if is_partial:
        level.state = "partial"
        level.reason = watch.reason or (errors[0] if errors else "interrupted")
    return level, records


def _measured(
    setting: Setting, load: Load, records: list[Record], stats: list[LoadStats], stopped_s: float | None
) -> Level:
    ramped_s = max((each.ramped_s or 0.0 for each in stats), default=0.0)
    warm_up_s = max(setting.warm_up_s, ramped_s)
    window = steady_window(load, records, stopped_s=stopped_s, warm_up_s=warm_up_s)
    classes = measure(records, window.span_s, setting.objectives, setting.default, offered_s=window.offered_s)
    if not setting.dialect.is_streaming:
        for figures in classes:
            figures.latencies = {name: each for name, each in figures.latencies.items() if name in OF_WHOLE_REPLIES}
    elapsed_s = max([0.0, *(each.elapsed_s for each in stats), *(each.ended_s for each in records)])
    level = Level(
        name=load.name,
        load={"kind": "open" if isinstance(load, OpenLoop) else "closed", **asdict(load)},
        elapsed_s=elapsed_s,
        window_s=window.span_s,
        classes=classes,
        client=_health(setting, records, stats, min(elapsed_s, load.seconds)),
        timeline=timeline(records, window.span_s, elapsed_s, setting.objectives, setting.default),
        warnings=doubts(
            records,
            window,
            classes,
            exact_output=setting.dialect.has_exact_output
            and setting.workload.describe().get("exact_output", True) is True,
            expects_cached=setting.workload.shares_prefixes,
            template_tokens=setting.template_tokens,
        ),
    )
    if any(each.has_run_dry for each in stats):
        level.warnings.append("the workload had fewer requests than the time had room for")
    return level


def _health(setting: Setting, records: Sequence[Record], stats: Sequence[LoadStats], elapsed_s: float) -> ClientHealth:
    return client_health(
        records,
        cpu_s=[each.cpu_s for each in stats],
        elapsed_s=elapsed_s,
        lag_p99_s=max((each.lag_p99_s for each in stats), default=0.0),
        lag_max_s=max((each.lag_max_s for each in stats), default=0.0),
        tokens=sum(each.tokens for each in stats),
        objectives=(*setting.objectives.values(), setting.default),
    )


def _is_hurried(stop: asyncio.Event) -> bool:
    """Whether this task was cancelled by somebody who has asked for an end before and does not want to wait for the
    replies under way: what came until now is still to be kept. It then is cancelled no more."""
    task = asyncio.current_task()
    if not stop.is_set() or task is None:
        return False
    task.uncancel()
    return True


@contextlib.asynccontextmanager
async def _also(stop: asyncio.Event, own: asyncio.Event) -> AsyncIterator[None]:
    """Sets ``own`` when ``stop`` is."""

    async def pass_on() -> None:
        await stop.wait()
        own.set()

    task = asyncio.create_task(pass_on())
    try:
        yield
        if stop.is_set():
            own.set()
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


class _Watch:
    """Sees a server go away: then going on asking is of no use. And that more has come than can be kept. ``stop`` is
    this level's alone, and may be set by others as well: another level may do better."""

    def __init__(self) -> None:
        self.stop = asyncio.Event()
        self.reason: str | None = None
        self._in_a_row = 0
        self._since_s = 0.0
        self._records = self._chunks = 0

    def see(self, record: Record) -> None:
        self._records += 1
        self._chunks += len(record.chunk_s)
        if self._records >= RECORDS_MAX:
            self._end(f"it has {RECORDS_MAX:,} requests, the most of a level: make it shorter")
        if self._chunks >= CHUNKS_MAX:
            self._end(f"it has {CHUNKS_MAX:,} events with tokens, the most of a level: make it shorter")
        if record.outcome is not Outcome.CONNECT:
            self._in_a_row = 0
            return
        if not self._in_a_row:
            self._since_s = record.ended_s
        self._in_a_row += 1
        if self._in_a_row >= GONE_REQUESTS and record.ended_s - self._since_s >= GONE_S:
            self._end(f"the server went away: {record.error}")

    def _end(self, reason: str) -> None:
        if not self.stop.is_set():
            self.reason = reason
            self.stop.set()


@contextlib.asynccontextmanager
async def _ticking(live: Live | None, clock: Callable[[], float]) -> AsyncIterator[None]:
    """Draws progress meanwhile."""
    if live is None:
        yield
        return

    async def tick() -> None:
        with contextlib.suppress(OSError):  # nobody reads it any more; what is measured matters more
            while True:
                live.tick(clock())
                await asyncio.sleep(TICK_S)

    task = asyncio.create_task(tick())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        with contextlib.suppress(OSError):
            live.tick(clock())
