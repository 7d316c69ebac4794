"""Several processes offer what one would; what goes wrong with one of them is said, and nothing that came is lost."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from headway.bench import processes as processes_module
from headway.bench import worker
from headway.bench.call import Call
from headway.bench.generate import LoadStats, Options
from headway.bench.loads import ClosedLoop, Load, OpenLoop
from headway.bench.processes import processes_for, run_processes
from headway.bench.record import Outcome, Record
from headway.bench.schedule import Plan
from headway.bench.target import Target
from tests.bench.scripted_server import HOST, Asked, scripted_server, whole

WAIT_S = 60.0


@dataclass(frozen=True)
class Numbered:
    """The prompt is the number of the call."""

    name: str = "numbered"
    rate: float | None = None
    count: int = 1_000_000
    prompt: str | tuple[int, ...] | None = None
    shares_prefixes: bool = False

    def describe(self) -> dict[str, object]:
        return {}

    def calls(self, seed: int, *, first: int = 0, step: int = 1) -> Iterator[Call]:
        numbers = itertools.islice(itertools.count(first, step), self.count)
        return (Call(prompt=self.prompt or str(each), max_tokens=2) for each in numbers)


async def quick(asked: Asked) -> None:
    await asked.send(whole("a", "b"))


def offer(
    load: Load,
    processes: int,
    workload: Numbered | None = None,
    answer: Callable[[Asked], Awaitable[None]] = quick,
    *,
    stop_after: int | None = None,
    on_record: Callable[[Record], None] = lambda record: None,
    options: Options | None = None,
) -> tuple[list[Record], list[LoadStats], list[float]]:
    async def run() -> tuple[list[Record], list[LoadStats], list[float]]:
        records: list[Record] = []
        starts_s: list[float] = []
        stop = asyncio.Event()

        def keep(record: Record) -> None:
            records.append(record)
            on_record(record)
            if len(records) == stop_after:
                stop.set()

        async with scripted_server(answer, requests_a_connection=1000) as server:
            running = run_processes(
                Target(host=HOST, port=server.port),
                workload or Numbered(),
                load,
                processes=processes,
                on_record=keep,
                stop=stop,
                options=options,
                on_start=starts_s.append,
            )
            stats = await asyncio.wait_for(running, WAIT_S)
        return sorted(records, key=lambda each: each.index), stats, starts_s

    return asyncio.run(run())


def test_all_together_send_what_one_alone_would() -> None:
    load = OpenLoop(rate=60.0, seconds=1.0)
    records, stats, starts_s = offer(load, 3, options=Options(seed=4))
    planned = list(Plan(load, Numbered().calls(4), 4))
    assert [each.index for each in records] == [each.index for each in planned]
    assert [each.intended_s for each in records] == [each.at_s for each in planned]
    assert [each.process for each in records] == [each.index % 3 for each in planned]
    assert {each.outcome for each in records} == {Outcome.OK}
    assert [each.process for each in stats] == [0, 1, 2]
    assert sum(each.requests for each in stats) == len(records)
    assert sum(each.tokens for each in stats) == 2 * len(records)
    assert all(each.cpu_s > 0.0 and each.error is None for each in stats)
    assert len(starts_s) == 1


def test_the_slots_of_a_closed_loop_are_divided() -> None:
    load = ClosedLoop(concurrency=5, seconds=1.0, ramp_s=0.0)

    async def slow(asked: Asked) -> None:
        await asyncio.sleep(0.2)
        await quick(asked)

    records, stats, _ = offer(load, 2, answer=slow)
    first = Counter(each.process for each in records if each.intended_s == 0.0)
    assert first == {0: 3, 1: 2}
    assert len({each.index for each in records}) == len(records)
    assert not any(each.has_run_dry for each in stats)


def test_there_are_no_more_processes_than_slots_and_no_more_calls_than_there_are() -> None:
    records, stats, _ = offer(ClosedLoop(concurrency=1, seconds=60.0), 4, Numbered(count=3))
    assert (len(stats), len(records), stats[0].has_run_dry) == (1, 3, True)


def test_an_interrupt_ends_all_and_keeps_what_came() -> None:
    load = OpenLoop(rate=50.0, seconds=60.0, arrivals="constant")
    records, stats, _ = offer(load, 2, stop_after=10)
    assert 10 <= len(records) < 1000
    assert {each.outcome for each in records} == {Outcome.OK}
    assert all(each.elapsed_s < 30.0 and each.error is None for each in stats)


def test_a_process_that_dies_is_told_and_ends_the_run() -> None:
    """The others' records, and those that it sent before, are kept."""
    children = _children()
    killed: list[int] = []

    def kill(record: Record) -> None:
        if record.index >= 20 and not killed:
            killed.append(min(_children() - children))
            os.kill(killed[0], signal.SIGKILL)

    load = OpenLoop(rate=50.0, seconds=60.0, arrivals="constant")
    records, stats, _ = offer(load, 2, on_record=kill)
    assert {each.process for each in records} == {0, 1}
    (error,) = [each.error for each in stats if each.error]
    assert "load generator process" in error
    assert "died (exit status -9)" in error


def test_what_goes_wrong_with_a_record_is_not_taken_for_a_process_that_hangs() -> None:
    def fail(record: Record) -> None:
        raise RuntimeError("a bug of ours")

    with pytest.raises(RuntimeError, match="a bug of ours"):
        offer(OpenLoop(rate=50.0, seconds=60.0), 2, on_record=fail)


def _children() -> set[int]:
    files = Path("/proc/self/task").glob("*/children")
    return {int(each) for file in files for each in file.read_text().split()}


def test_long_calls_are_not_put_together_into_a_message_that_is_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """So many megabytes of a workload's line, 64 of them in a message: that was an assertion."""
    monkeypatch.setattr(worker, "FRAME_BYTES_MAX", 100_000)
    monkeypatch.setattr(processes_module, "BATCH_BYTES", 50_000)
    records, _, _ = offer(OpenLoop(rate=40.0, seconds=1.0, arrivals="constant"), 1, Numbered(prompt="a b " * 10_000))
    assert len(records) == 40
    assert {each.outcome for each in records} == {Outcome.OK}


def test_calls_that_the_api_can_not_take_are_one_error() -> None:
    with pytest.raises(ValueError, match="token ids are for the completions API"):
        offer(OpenLoop(rate=50.0, seconds=30.0), 2, Numbered(prompt=(1, 2)))


def test_a_trace_without_times_is_one_error() -> None:
    with pytest.raises(ValueError, match="no times of its own"):
        offer(OpenLoop(rate=0.0, seconds=30.0, arrivals="trace"), 2)


def test_as_many_processes_as_are_of_use() -> None:
    assert processes_for([ClosedLoop(concurrency=1, seconds=1.0)]) == 1
    assert processes_for([OpenLoop(rate=1.0, seconds=1.0), ClosedLoop(concurrency=10_000, seconds=1.0)]) >= 1
