"""What is sent when: fixed by load and seed."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Iterator

import pytest

from headway.bench.call import Call
from headway.bench.loads import ClosedLoop, OpenLoop
from headway.bench.schedule import Plan


def calls(*times_s: float | None) -> Iterator[Call]:
    return (Call(prompt=str(number), at_s=at_s) for number, at_s in enumerate(times_s))


def endless() -> Iterator[Call]:
    return calls(*itertools.repeat(None, 100_000))


def times_of(plan: Plan) -> list[float]:
    return [each.at_s for each in plan]


def test_constant_arrivals() -> None:
    plan = Plan(OpenLoop(rate=4.0, seconds=1.0, arrivals="constant"), endless(), 0)
    planned = list(plan)
    assert [each.at_s for each in planned] == [0.0, 0.25, 0.5, 0.75]
    assert [each.index for each in planned] == [0, 1, 2, 3]
    assert [each.call.prompt for each in planned] == ["0", "1", "2", "3"]
    assert not plan.has_run_dry


def test_poisson_arrivals_are_not_rescaled() -> None:
    """Stretched so that the last one comes at n / rate, they would be as many for every seed, and no Poisson process:
    its count scatters by its root."""
    load = OpenLoop(rate=100.0, seconds=4.0)
    counts = [len(times_of(Plan(load, endless(), seed))) for seed in range(60)]
    assert statistics.mean(counts) == pytest.approx(400, rel=0.02)
    assert statistics.stdev(counts) == pytest.approx(20, rel=0.35)
    assert times_of(Plan(load, endless(), 7)) == times_of(Plan(load, endless(), 7))


def test_bursts_scatter_more() -> None:
    load = OpenLoop(rate=100.0, seconds=40.0, arrivals="gamma", cv=4.0)
    times = times_of(Plan(load, endless(), 1))
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert statistics.stdev(gaps) / statistics.mean(gaps) == pytest.approx(4.0, rel=0.25)


def test_a_trace_has_times_of_its_own() -> None:
    plan = Plan(OpenLoop(rate=0.0, seconds=10.0, arrivals="trace"), calls(0.5, 1.0, 4.0, 12.0), 0)
    assert times_of(plan) == [0.5, 1.0, 4.0]
    assert not plan.has_run_dry


def test_a_trace_may_be_stretched_to_a_rate() -> None:
    plan = Plan(OpenLoop(rate=2.0, seconds=10.0, arrivals="trace"), calls(0.0, 1.0, 4.0), 0)
    assert times_of(plan) == [0.0, 0.25, 1.0]
    assert plan.has_run_dry


def test_a_workload_without_times_is_no_trace() -> None:
    with pytest.raises(ValueError, match="no times of its own: use poisson"):
        next(Plan(OpenLoop(rate=0.0, seconds=1.0, arrivals="trace"), calls(None), 0))
    with pytest.raises(ValueError, match="too short to have a rate"):
        Plan(OpenLoop(rate=1.0, seconds=1.0, arrivals="trace"), calls(1.0), 0)


def test_too_few_calls_are_noted() -> None:
    plan = Plan(OpenLoop(rate=10.0, seconds=1.0, arrivals="constant"), calls(None, None), 0)
    assert len(list(plan)) == 2
    assert plan.has_run_dry


def test_a_closed_loop_has_no_times() -> None:
    plan = Plan(ClosedLoop(concurrency=1, seconds=1.0), calls(None, 5.0), 0)
    assert times_of(plan) == [0.0, 0.0]
