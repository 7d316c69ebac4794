"""One level, with a load generator that tells what a test says: what is made of what came."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

import pytest

from headway.bench import run
from headway.bench.figures import Level
from headway.bench.generate import LoadStats
from headway.bench.loads import OpenLoop
from headway.bench.record import Outcome, Record
from headway.bench.target import Target
from headway.bench.workload_interface import Workload

RATE, LIFE_S = 10.0, 0.1


class NoCalls:
    shares_prefixes = False

    def describe(self) -> dict[str, object]:
        return {}


def level_of(monkeypatch: pytest.MonkeyPatch, *, died_s: float, stops: bool, error: str | None) -> Level:
    """A minute at a constant rate, of which nothing is sent after ``died_s``."""

    async def run_processes(
        *_: object, on_record: Callable[[Record], None], stop: asyncio.Event, **__: object
    ) -> list[LoadStats]:
        for index in range(round(died_s * RATE)):
            at_s = index / RATE
            on_record(
                Record(
                    index=index,
                    intended_s=at_s,
                    sent_s=at_s,
                    ended_s=at_s + LIFE_S,
                    chunk_s=[at_s + LIFE_S],
                    chunk_tokens=[1],
                )
            )
        if stops:
            stop.set()
        return [LoadStats(error=error)]

    monkeypatch.setattr(run, "run_processes", run_processes)
    setting = run.Setting(target=Target(host="", port=1), workload=cast(Workload, NoCalls()))
    load = OpenLoop(rate=RATE, seconds=60.0, arrivals="constant")
    level, _ = asyncio.run(run.run_level(setting, load, seed=0))
    return level


@pytest.mark.parametrize(("stops", "error"), [(True, None), (False, "load generator process 0 died")])
def test_a_level_that_ended_early_is_measured_for_as_long_as_it_was_offered(
    monkeypatch: pytest.MonkeyPatch, stops: bool, error: str | None
) -> None:
    """Seconds in which nothing was sent any more would make every rate look lower than it was: those of the grace after
    an interrupt, or all that were still to come when a process died."""
    level = level_of(monkeypatch, died_s=10.0, stops=stops, error=error)
    assert level.state == "partial"
    assert level.window_s[1] <= 10.0
    assert level.classes[0].request_rate == pytest.approx(RATE, rel=0.02)
    assert level.elapsed_s == pytest.approx(10.0)
    assert sum(point.tokens for point in level.timeline) == 100


class _Held:
    """A load generator that has told of some requests, and ends when it is told to, or never."""

    def __init__(self, *, outcome: Outcome = Outcome.OK, ends: bool = True, chunks: int = 1) -> None:
        self.has_told = asyncio.Event()
        self._outcome, self._ends, self._chunks = outcome, ends, chunks

    async def __call__(
        self, *_: object, on_record: Callable[[Record], None], stop: asyncio.Event, **__: object
    ) -> list[LoadStats]:
        for index in range(50):
            at_s = index / RATE
            chunks = [at_s + LIFE_S] * self._chunks if self._outcome is Outcome.OK else []
            on_record(
                Record(
                    index=index,
                    intended_s=at_s,
                    ended_s=at_s + LIFE_S,
                    chunk_s=chunks,
                    chunk_tokens=[1] * len(chunks),
                    outcome=self._outcome,
                    error="refused",
                )
            )
        self.has_told.set()
        await (stop if self._ends else asyncio.Event()).wait()
        return [LoadStats()]


def running(
    monkeypatch: pytest.MonkeyPatch, held: _Held, stop: asyncio.Event
) -> asyncio.Task[tuple[Level, list[Record]]]:
    monkeypatch.setattr(run, "run_processes", held)
    setting = run.Setting(target=Target(host="", port=1), workload=cast(Workload, NoCalls()))
    load = OpenLoop(rate=RATE, seconds=60.0, arrivals="constant")
    return asyncio.create_task(run.run_level(setting, load, seed=0, stop=stop))


def test_a_second_interrupt_ends_a_level_at_once_and_keeps_what_came(monkeypatch: pytest.MonkeyPatch) -> None:
    """It dropped the level under way: all that was measured while the last replies were waited for."""

    async def go() -> tuple[Level, list[Record]]:
        held, stop = _Held(ends=False), asyncio.Event()
        level = running(monkeypatch, held, stop)
        await held.has_told.wait()
        stop.set()
        level.cancel()
        return await level

    level, records = asyncio.run(go())
    assert (level.state, level.reason) == ("partial", "interrupted")
    assert len(records) == 50
    assert level.classes[0].ok == level.classes[0].offered >= 40


def test_a_level_that_is_cancelled_without_an_interrupt_is_no_result(monkeypatch: pytest.MonkeyPatch) -> None:
    async def go() -> None:
        held = _Held(ends=False)
        level = running(monkeypatch, held, asyncio.Event())
        await held.has_told.wait()
        level.cancel()
        with pytest.raises(asyncio.CancelledError):
            await level

    asyncio.run(go())


def test_a_server_that_goes_away_ends_its_level_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """It ended all of a search, as if interrupted, though the next probe may start the server anew."""
    monkeypatch.setattr(run, "GONE_S", 1.0)

    async def go() -> tuple[Level, bool]:
        stop = asyncio.Event()
        level, _ = await running(monkeypatch, _Held(outcome=Outcome.CONNECT), stop)
        return level, stop.is_set()

    level, is_stopped = asyncio.run(go())
    assert (level.state, level.reason) == ("partial", "the server went away: refused")
    assert not is_stopped


@pytest.mark.parametrize(
    ("limit", "most", "said"), [("RECORDS_MAX", 30, "30 requests"), ("CHUNKS_MAX", 80, "80 events")]
)
def test_a_level_of_more_than_fits_in_memory_ends(
    limit: str, most: int, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A closed loop has no number of requests: a fast server filled the memory for as long as it was asked to."""
    monkeypatch.setattr(run, limit, most)

    async def go() -> Level:
        level, _ = await running(monkeypatch, _Held(chunks=2), asyncio.Event())
        return level

    level = asyncio.run(go())
    assert level.state == "partial"
    assert said in (level.reason or "")
