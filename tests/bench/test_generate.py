"""The load generator tells the truth: what it records is what a scripted server did, and each known trap is avoided.

The server runs on the test's own event loop and notes when it wrote. A busy machine may keep both from running, so
times are compared with what was noted, and by their median.
"""

from __future__ import annotations

import asyncio
import itertools
import statistics
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field

import pytest

from headway.bench.call import Call, Turn
from headway.bench.generate import BACK_OFF_S, LoadStats, Options, run_load
from headway.bench.loads import ClosedLoop, Load, OpenLoop
from headway.bench.record import Outcome, Record
from headway.bench.target import Target
from tests.bench.scripted_server import (
    DONE,
    HOST,
    LAST_CHUNK,
    STREAM_HEAD,
    Asked,
    ScriptedServer,
    chunk,
    error,
    said,
    scripted_server,
    token,
    usage,
    whole,
)

WAIT_S = 30.0
KEPT = 1_000_000
"""Requests on one connection before the server closes it: more than any machine sends here. A thousand were too few."""


@dataclass
class Offered:
    """A run, and the clock time of its start."""

    records: list[Record]
    stats: LoadStats
    start_s: float
    server: ScriptedServer


def numbered(**fields: object) -> Iterator[Call]:
    """The prompt is the number of the call."""
    return (Call(prompt=str(number), **fields) for number in itertools.count())  # type: ignore[arg-type]


def offer(
    answer: Callable[[Asked], Awaitable[None]],
    load: Load,
    calls: Iterator[Call] | None = None,
    *,
    stop_after_s: float | None = None,
    on_record: Callable[[Record], None] = lambda record: None,
    **options: float,
) -> Offered:
    async def run() -> Offered:
        records: list[Record] = []
        stop = asyncio.Event()
        if stop_after_s is not None:
            asyncio.get_running_loop().call_later(stop_after_s, stop.set)

        def keep(record: Record) -> None:
            records.append(record)
            on_record(record)

        async with scripted_server(answer, requests_a_connection=KEPT) as server:
            start_s = time.perf_counter() + 0.05
            running = run_load(
                Target(host=HOST, port=server.port),
                numbered() if calls is None else calls,
                load,
                on_record=keep,
                stop=stop,
                options=Options(**options),  # type: ignore[arg-type]
                start_s=start_s,
            )
            stats = await asyncio.wait_for(running, WAIT_S)
        return Offered(sorted(records, key=lambda each: (each.index, each.turn)), stats, start_s, server)

    return asyncio.run(run())


def constant(rate: float, seconds: float, **fields: int) -> OpenLoop:
    return OpenLoop(rate=rate, seconds=seconds, arrivals="constant", **fields)


def number_of(asked: Asked) -> int:
    return int(asked.body["messages"][0]["content"])


async def quick(asked: Asked) -> None:
    await asked.send(whole("a", "b"))


# ---- the truth -------------------------------------------------------------------------------------------------------


@dataclass
class Script:
    """Writes tokens with given gaps, and notes when."""

    gaps_s: tuple[float, ...]
    written_s: dict[int, list[float]] = field(default_factory=dict)
    asked_s: dict[int, float] = field(default_factory=dict)

    async def __call__(self, asked: Asked) -> None:
        number = number_of(asked)
        self.asked_s[number] = asked.at_s
        await asked.send(STREAM_HEAD + chunk(said({"role": "assistant", "content": ""})))
        written_s = self.written_s[number] = []
        for gap_s in self.gaps_s:
            await asyncio.sleep(gap_s)
            written_s.append(await asked.send(chunk(said({"content": "x"}))))
        await asked.send(chunk(said(usage=usage(1, len(self.gaps_s)))) + chunk(DONE) + LAST_CHUNK)


def median_error(pairs: Iterator[tuple[float, float]]) -> float:
    """Beyond 1 % of what it should be."""
    return statistics.median(max(0.0, abs(measured - true) - 0.01 * true) for measured, true in pairs)


def test_all_times_are_those_of_the_script() -> None:
    """Slow head, long and short gaps, and a stall."""
    script = Script((0.15, 0.02, 0.02, 0.05, 0.25, 0.02))
    run = offer(script, constant(40.0, 0.5))
    assert len(run.records) == 20
    assert {(each.outcome, each.is_counted, each.tokens) for each in run.records} == {(Outcome.OK, True, 6)}
    truth = [[at_s - run.start_s for at_s in script.written_s[each.index]] for each in run.records]
    for at in range(6):
        assert median_error((each.chunk_s[at], true[at]) for each, true in zip(run.records, truth, strict=True)) < 0.001
    both = list(zip(run.records, truth, strict=True))
    assert [each.intended_s for each in run.records] == pytest.approx([number / 40.0 for number in range(20)])
    assert median_error((each.ttft_s or 0.0, true[0] - each.intended_s) for each, true in both) < 0.001
    assert median_error((each.e2e_s or 0.0, true[-1] - each.intended_s) for each, true in both) < 0.001
    assert median_error((each.tpot_s or 0.0, (true[-1] - true[0]) / 5) for each, true in both) < 0.001
    assert median_error((max(each.chunk_gaps_s()), true[4] - true[3]) for each, true in both) < 0.001
    assert median_error((each.sent_s or 0.0, script.asked_s[each.index] - run.start_s) for each in run.records) < 0.002


def test_what_comes_together_is_stamped_together() -> None:
    """Events that a slow client finds in one read came at one time, whatever each takes to handle."""

    async def answer(asked: Asked) -> None:
        await asked.send(STREAM_HEAD)
        await asked.send(chunk(token("a") + token("b")) + chunk(token("c")) + chunk(DONE) + LAST_CHUNK)

    (record,) = offer(answer, constant(1.0, 0.5)).records
    assert record.chunk_gaps_s() == [0.0, 0.0]


def test_errors_are_told_apart_and_none_makes_latency_look_better() -> None:
    replies = (
        whole("a"),
        error(429, "busy", "retry-after: 1"),
        error(503, "starting", "retry-after: 1"),
        error(500, "oh"),
        error(400, "too long for its promise", code="objective_impossible"),
        STREAM_HEAD + chunk(said({"content": "a"})) + chunk(b'data: {"error": {"message": "lost"}}\n\n') + LAST_CHUNK,
        b"nonsense\r\n\r\n",
    )

    async def answer(asked: Asked) -> None:
        await asked.send(replies[number_of(asked)])

    run = offer(answer, constant(70.0, 0.1))
    expected = ["ok", "refused", "refused", "error", "refused", "error", "malformed"]
    assert [each.outcome.value for each in run.records] == expected
    assert [each.e2e_s is not None for each in run.records] == [name == "ok" for name in expected]
    assert run.stats.requests == 7


# ---- traps -----------------------------------------------------------------------------------------------------------


def test_a_request_does_not_wait_for_the_one_before() -> None:
    async def run() -> Offered:
        last_came = asyncio.Event()

        async def answer(asked: Asked) -> None:
            if number_of(asked) == 2:
                last_came.set()
            await last_came.wait()  # in closed loop nobody would ever be answered
            await quick(asked)

        return await asyncio.to_thread(offer, answer, constant(100.0, 0.03))

    assert [each.outcome for each in asyncio.run(run()).records] == [Outcome.OK] * 3


def test_coordinated_omission() -> None:
    """One connection, a server that takes 40 ms, a request every 10 ms: measured from the real send time all would look
    like 40 ms; those who wait have waited up to ten times as long."""

    async def answer(asked: Asked) -> None:
        await asyncio.sleep(0.04)
        await quick(asked)

    run = offer(answer, constant(100.0, 0.15, in_flight_max=1))
    assert (len(run.records), run.server.open_max) == (15, 1)
    naive = [each.chunk_s[0] - (each.sent_s or 0.0) for each in run.records]
    assert statistics.median(naive) < 0.15
    for each in run.records:
        assert each.intended_s == pytest.approx(each.index * 0.01)
        assert each.ttft_s == pytest.approx(naive[each.index] + each.slip_s)
    assert (run.records[-1].ttft_s or 0.0) >= 15 * 0.04 - 0.15 > statistics.median(naive)


def test_chunks_of_several_tokens_are_split() -> None:
    """Four tokens every 80 ms are one every 20 ms; by chunks it would be 80."""

    async def answer(asked: Asked) -> None:
        await asked.send(STREAM_HEAD)
        for tokens in (4, 8, 12):
            await asyncio.sleep(0.08)
            await asked.send(chunk(said({"content": "a b c d"}, usage=usage(1, tokens))))
        await asked.send(chunk(DONE) + LAST_CHUNK)

    (record,) = offer(answer, constant(1.0, 0.5)).records
    assert record.chunk_tokens == [4, 4, 4]
    gaps_s = list(record.gaps_s())
    assert len(gaps_s) == 8
    assert sum(gaps_s) == pytest.approx(sum(record.chunk_gaps_s()))
    assert max(gaps_s) == pytest.approx(max(record.chunk_gaps_s()) / 4)


def test_a_client_that_stalls_shows() -> None:
    """What keeps the event loop from running is late sends and late reads, and no fault of the server's."""

    def block(record: Record) -> None:
        if record.index == 3:
            time.sleep(0.15)  # what a client does that parses and counts as it goes

    run = offer(quick, constant(100.0, 0.3), on_record=block)
    assert run.stats.lag_max_s >= 0.12
    assert run.stats.lag_p99_s >= 0.1, "every wake-up that was due meanwhile was late, not one"
    assert max(each.slip_s for each in run.records) >= 0.1
    assert run.stats.lag_n > 0


def test_a_closed_loop_does_not_start_all_at_once() -> None:
    """The first wave of eight at once would have eight times the TTFT of any later one: it is spread over a life."""

    async def answer(asked: Asked) -> None:
        await asyncio.sleep(0.2)
        await quick(asked)

    run = offer(answer, ClosedLoop(concurrency=8, seconds=2.0))
    first = sorted(each.sent_s or 0.0 for each in run.records)[:8]
    assert first[1] >= 0.2
    assert 0.1 <= first[7] - first[1] <= 0.8
    assert run.stats.ramped_s == pytest.approx(first[7], abs=0.1)
    assert run.server.open_max == 8


def test_a_closed_loop_does_not_storm_a_server_that_refuses() -> None:
    """One that says 429 at once would be asked as fast as the client can, and all figures would be of refusals."""

    async def answer(asked: Asked) -> None:
        await asked.send(error(429, "too many", "retry-after: 1"))

    run = offer(answer, ClosedLoop(concurrency=2, seconds=1.2, ramp_s=0.0))
    assert {each.outcome for each in run.records} == {Outcome.REFUSED}
    assert 2 <= len(run.records) <= 6
    assert max(each.intended_s for each in run.records) >= BACK_OFF_S


def test_a_ramp_may_be_given() -> None:
    run = offer(quick, ClosedLoop(concurrency=4, seconds=0.4, ramp_s=0.2))
    assert run.server.connections == 4
    assert {0.0, 0.05, 0.1, 0.15} <= {round(each.intended_s, 9) for each in run.records}
    assert run.stats.ramped_s == pytest.approx(0.15, abs=0.1)


def test_the_next_of_a_closed_loop_is_intended_when_the_last_one_has_ended() -> None:
    run = offer(quick, ClosedLoop(concurrency=1, seconds=0.2))
    for earlier, later in itertools.pairwise(run.records):
        assert later.intended_s == earlier.ended_s
        assert later.slip_s > 0.0
    assert run.records[-1].intended_s < 0.2


# ---- conversations ---------------------------------------------------------------------------------------------------


def test_a_conversation_goes_on_with_the_answers_of_the_server() -> None:
    seen: list[list[str]] = []

    async def answer(asked: Asked) -> None:
        seen.append([each["content"] for each in asked.body["messages"]])
        answers = {1: ("we", "ll"), 3: ("s", "o")}
        texts = answers[len(seen[-1])]
        events = (*(said({"content": each}) for each in texts), said(usage=usage(1, 2)), DONE)
        await asked.send(STREAM_HEAD + b"".join(chunk(each) for each in events) + LAST_CHUNK)

    turn = Turn(text="and?", tokens=3, max_tokens=7, think_s=0.1)
    calls = iter((Call(prompt="hi", prompt_tokens=1, turns=(turn,)),))
    first, second = offer(answer, constant(1.0, 2.0), calls).records
    assert seen == [["hi"], ["hi", "well", "and?"]]
    assert (first.conversation, first.turn, second.conversation, second.turn) == (0, 0, 0, 1)
    assert second.intended_s == pytest.approx(first.ended_s + 0.1)
    assert second.slip_s >= 0.0
    assert (second.prompt_tokens, second.max_tokens) == (6, 7)


def test_a_conversation_ends_with_a_failure_and_with_the_load() -> None:
    async def answer(asked: Asked) -> None:
        await asked.send(error(500, "oh") if number_of(asked) else whole("a"))

    turn = Turn(text="and?", tokens=1, max_tokens=1, think_s=60.0)
    run = offer(answer, constant(10.0, 0.2), numbered(turns=(turn,)))
    assert [(each.index, each.turn, each.is_ok) for each in run.records] == [(0, 0, True), (1, 0, False)]


# ---- the end ---------------------------------------------------------------------------------------------------------


async def silent(asked: Asked) -> None:
    await asked.send(STREAM_HEAD + chunk(token("a")))
    await asyncio.Event().wait()


def test_what_is_not_whole_after_the_drain_is_a_miss_sent_or_not() -> None:
    """Those that never got a connection as well: left out they would be omitted, and the rest look better."""
    run = offer(silent, constant(50.0, 0.2, in_flight_max=4), drain_s=0.1)
    assert Counter(each.outcome for each in run.records) == {Outcome.TIMEOUT: 10}
    assert sum(each.sent_s is None for each in run.records) == 6
    assert {each.error for each in run.records} == {"not whole 0.1 s after the end of the load"}


def test_a_request_may_take_only_so_long_from_when_it_was_intended() -> None:
    run = offer(silent, constant(50.0, 0.2, in_flight_max=4), timeout_s=0.15)
    assert Counter(each.outcome for each in run.records) == {Outcome.TIMEOUT: 10}
    for each in run.records:
        assert each.ended_s - each.intended_s >= 0.14


@pytest.mark.parametrize("load", [constant(20.0, 20.0), ClosedLoop(concurrency=3, seconds=20.0, ramp_s=0.0)])
def test_an_interrupted_run_keeps_what_there_is(load: Load) -> None:
    async def answer(asked: Asked) -> None:
        await (silent(asked) if number_of(asked) >= 2 else quick(asked))

    run = offer(answer, load, stop_after_s=0.4, grace_s=0.1)
    outcomes = [each.outcome for each in run.records]
    assert outcomes[:2] == [Outcome.OK] * 2
    assert len(outcomes) > 2
    assert set(outcomes[2:]) == {Outcome.CUT}
    assert run.stats.elapsed_s < 5.0


def test_an_interrupt_lets_replies_end_within_the_grace() -> None:
    async def answer(asked: Asked) -> None:
        await asyncio.sleep(0.3)
        await quick(asked)

    turn = Turn(text="and?", tokens=1, max_tokens=1, think_s=30.0)
    run = offer(answer, constant(20.0, 60.0), numbered(turns=(turn,)), stop_after_s=0.5, grace_s=10.0)
    assert {each.outcome for each in run.records} == {Outcome.OK}
    assert run.stats.elapsed_s < 5.0


def test_a_load_ends_when_there_are_no_more_calls() -> None:
    for load in (constant(100.0, 30.0), ClosedLoop(concurrency=2, seconds=30.0, ramp_s=0.0)):
        run = offer(quick, load, itertools.islice(numbered(), 3))
        assert len(run.records) == 3
        assert run.stats.has_run_dry
        assert run.stats.elapsed_s < 10.0


def test_calls_that_the_api_can_not_take_end_the_run_with_one_error() -> None:
    with pytest.raises(ValueError, match="token ids are for the completions API"):
        offer(quick, constant(10.0, 0.5), iter((Call(prompt=(1, 2)),)))


def test_stats() -> None:
    run = offer(quick, constant(50.0, 0.2))
    assert (run.stats.requests, run.stats.tokens) == (10, 20)
    assert run.stats.cpu_s > 0.0
    assert run.stats.elapsed_s > 0.15
    assert run.stats.lag_max_s >= run.stats.lag_p99_s >= 0.0
    assert not run.stats.has_run_dry
