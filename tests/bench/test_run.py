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
from headway.bench.record import Record
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
