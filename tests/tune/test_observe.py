"""From levels to what the search wants to know."""

from __future__ import annotations

import asyncio
import math

from headway.bench.loads import ClosedLoop
from headway.bench.record import Outcome, Record
from headway.policy.slo import Objective
from headway.tune.observation import FAILURES, MISSES, Verdict
from headway.tune.observe import Measurement, Promise, observe
from tests.tune.levels import FakeServer

OBJECTIVE = Objective(ttft_s=1.0, itl_s=0.05)
PROMISE = Promise(OBJECTIVE)


def measured(concurrency: int = 40, seconds: float = 5.0, seed: int = 1) -> Measurement:
    load = ClosedLoop(concurrency=concurrency, seconds=seconds)
    return Measurement(*asyncio.run(FakeServer(OBJECTIVE).measure(load, seed)))


def test_values_of_several_runs_are_pooled_and_their_interval_is_narrower() -> None:
    first, second = measured(seconds=2.0, seed=1), measured(seconds=10.0, seed=2)
    alone, both = observe([first], PROMISE), observe([first, second], PROMISE)
    assert both.samples == alone.samples + observe([second], PROMISE).samples
    assert both.parts["itl"].high - both.parts["itl"].low <= alone.parts["itl"].high - alone.parts["itl"].low
    assert both.parts["itl"].low <= 0.03 * 1.0 <= both.parts["itl"].high * 1.01
    assert both.verdict(PROMISE.targets) is Verdict.PASS


def test_what_failed_makes_no_latency_look_better() -> None:
    found = measured()
    records = list(found.records)
    for index in range(0, len(records), 10):
        records[index] = Record(
            index=index, intended_s=records[index].intended_s, ended_s=records[index].ended_s, outcome=Outcome.REFUSED
        )
    seen = observe([Measurement(found.level, records)], PROMISE)
    assert seen.parts["ttft"].value == math.inf
    assert 0.09 < seen.parts[FAILURES].value < 0.11
    assert seen.parts[MISSES].value == seen.parts[FAILURES].value
    assert seen.verdict(PROMISE.targets) is Verdict.FAIL


def test_requests_that_the_end_cut_off_count_for_nothing() -> None:
    found = measured()
    cut = [Record(index=9999, intended_s=4.9, ended_s=5.0, outcome=Outcome.CUT)]
    seen = observe([Measurement(found.level, [*found.records, *cut])], PROMISE)
    assert seen.samples == observe([found], PROMISE).samples
    assert seen.parts[FAILURES].value == 0.0


def test_a_run_that_was_cut_or_bound_by_its_client_is_void() -> None:
    found = measured()
    found.level.state, found.level.reason = "partial", "interrupted"
    seen = observe([found], PROMISE)
    assert (seen.void, seen.is_client_bound, seen.verdict(PROMISE.targets)) == ("interrupted", False, Verdict.VOID)
    bound = measured()
    bound.level.client.bound = "the event loop lagged"
    assert observe([bound], PROMISE).is_client_bound


def test_each_class_is_held_to_its_own_targets() -> None:
    strict, loose = Objective(itl_s=0.02), Objective(ttft_s=1.0)
    promise = Promise(Objective(), {"a": strict, "b": loose}, ("a", "b", "c"))
    assert promise.targets == {"a itl": 0.02, "b ttft": 1.0, FAILURES: promise.targets[FAILURES]}
    found = measured()
    for index, record in enumerate(found.records):
        record.service_class = "ab"[index % 2]
    seen = observe([found], promise)
    assert seen.verdict(promise.targets) is Verdict.FAIL
    assert seen.worst(promise.targets) == "a itl"
    assert 0.4 < seen.parts[MISSES].value < 0.6


def test_without_a_promise_there_is_nothing_to_hold() -> None:
    assert Promise().targets == {}
