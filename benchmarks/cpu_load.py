"""The loads of ``benchmarks.cpu``: the same requests to every server, as token ids, greedy, of exact lengths."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median

import uvloop

from benchmarks.cpu_peers import NAME
from benchmarks.promise_traffic import Lengths, Traffic
from headway.bench.body import Dialect
from headway.bench.call import Call
from headway.bench.generate import LoadStats, Options, run_load
from headway.bench.judge import GOOD, Judge
from headway.bench.launch import HOST
from headway.bench.loads import SECONDS_MAX, ClosedLoop, Load, OpenLoop
from headway.bench.record import Outcome, Record
from headway.bench.sender import ReplyError
from headway.bench.target import Target
from headway.bench.verdict import Verdict, judge
from headway.policy.slo import CONVERSATIONAL, TARGET_ATTAINMENT, Objective

DIALECT = Dialect(has_continuous_usage=False, has_exact_output=False)
"""What all of them take: usage at the end, to check that every token was seen; the length by ``ignore_eos``."""
PROMPT = Lengths(96, 0.7, 16, 256)
OUTPUT = Lengths(48, 0.7, 8, 192)
"""Of the conversations: short enough for an idle machine to answer within the promise."""
TIER = CONVERSATIONAL.tiers[0]
PATIENT = {"x-slo-ttft-ms": "3600000", "x-slo-itl-ms": "3600000"}
DRAIN_S = 25.0
"""Longer than the longest answer takes within the promise."""
TIMEOUT_S = 120.0
GRACE_S = 0.2
SOCKETS_MAX = 512
REQUESTS_MIN = 24
"""Of fewer than 20, not one may miss."""
LONGER = 4.0
"""A window of few requests is longer than others, until it has so many on average, but no more than by this factor."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A closed loop: ``requests`` in all, ``streams`` of them at once."""

    streams: int
    prompt_tokens: int
    output_tokens: int
    requests: int

    def __str__(self) -> str:
        return f"{self.streams} at once, {self.prompt_tokens} in, {self.output_tokens} out"

    def calls(self, vocab_size: int, seed: int, *, has_promises: bool) -> Iterator[Call]:
        """No two prompts are alike, in any of the points. Where promises are known, these are promised so little that
        nobody is refused or kept waiting: it is the engine that is measured."""
        rng = random.Random(f"{seed} {self}")
        for _ in range(self.requests):
            yield Call(
                prompt=tuple(rng.randrange(vocab_size) for _ in range(self.prompt_tokens)),
                prompt_tokens=self.prompt_tokens,
                max_tokens=self.output_tokens,
                tier=TIER if has_promises else None,
                headers=PATIENT if has_promises else {},
                extra={"temperature": 0, "ignore_eos": True},
            )


def run_point(port: int, point: Point, calls: Iterator[Call]) -> dict[str, float]:
    """Medians of TTFT and of the gaps, in ms; output tokens a second; events that carried a token, by tokens written.

    Raises ``ReplyError`` when a request fails.
    """
    records: list[Record] = []
    load = ClosedLoop(concurrency=point.streams, seconds=SECONDS_MAX, ramp_s=0.0)
    stats = _run(port, calls, load, records.append)
    for each in records:
        if not each.is_ok:
            raise ReplyError(each)
    return {
        "ttft_ms": 1000 * median(each.ttft_s or 0.0 for each in records),
        "itl_ms": 1000 * median(gap_s for each in records for gap_s in each.chunk_gaps_s()),
        "output_tok_s": sum(each.tokens for each in records) / stats.elapsed_s,
        "events_per_token": sum(len(each.chunk_s) for each in records) / sum(each.tokens for each in records),
    }


def traffic(vocab_size: int, objective: Objective, *, has_promises: bool) -> Traffic:
    """Conversations. Who keeps promises is told which."""
    assert objective.ttft_s is not None
    assert objective.itl_s is not None
    headers = {"x-slo-ttft-ms": f"{1000 * objective.ttft_s:g}", "x-slo-itl-ms": f"{1000 * objective.itl_s:g}"}
    return Traffic(
        vocab_size=vocab_size,
        tier=TIER if has_promises else None,
        headers=headers if has_promises else {},
        prompt=PROMPT,
        output=OUTPUT,
    )


def window_s(rate: float, seconds: float) -> float:
    """How long a window at this rate is, where windows are usually of ``seconds``."""
    return min(max(seconds, REQUESTS_MIN / rate), LONGER * seconds)


@dataclass(frozen=True, slots=True)
class Offered:
    """What became of one window of load. ``is_whole``: it was not ended before its time."""

    rate: float
    verdict: Verdict
    is_whole: bool

    @property
    def is_kept(self) -> bool:
        return self.is_whole and self.verdict.attainment >= TARGET_ATTAINMENT


def offer(
    port: int, rate: float, calls: Sequence[Call], objective: Objective, seconds: float, *, whole: bool
) -> Offered:
    """Open loop. Unless it is to be ``whole``, the window ends as soon as too many of its requests are misses for it to
    be kept: a server that refuses nobody would take long to get through what it was sent, and nothing more be known."""
    allowed = len(calls) - TARGET_ATTAINMENT * len(calls)
    verdict_of = Judge({}, objective)
    stop = asyncio.Event()
    records: list[Record] = []
    misses = 0

    def look(record: Record) -> None:
        nonlocal misses
        records.append(record)
        misses += record.outcome is not Outcome.CUT and verdict_of(record) != GOOD
        if misses > allowed + 1e-9 and not whole:
            stop.set()

    load = OpenLoop(rate=0.0, seconds=seconds, arrivals="trace", in_flight_max=SOCKETS_MAX)
    _run(port, iter(calls), load, look, stop)
    return Offered(rate, judge(records, objective, seconds), not stop.is_set())


def _run(
    port: int,
    calls: Iterator[Call],
    load: Load,
    on_record: Callable[[Record], None],
    stop: asyncio.Event | None = None,
) -> LoadStats:
    target = Target(host=HOST, port=port, api="completions", model=NAME)
    seconds = SECONDS_MAX if isinstance(load, ClosedLoop) else DRAIN_S
    options = Options(dialect=DIALECT, drain_s=seconds, timeout_s=TIMEOUT_S, grace_s=GRACE_S)
    return uvloop.run(run_load(target, calls, load, on_record=on_record, stop=stop or asyncio.Event(), options=options))
