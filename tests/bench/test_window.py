"""The window leaves out what fills up and what drains, and says so where it can't."""

from __future__ import annotations

import pytest

from headway.bench.loads import ClosedLoop, OpenLoop
from headway.bench.metrics import measure
from headway.bench.record import Outcome
from headway.bench.window import life_of, steady_window
from tests.bench.made_records import failure, reply


def test_a_life_is_that_of_nine_in_ten_that_were_worked_on() -> None:
    records = [reply(0.0, length) for length in (1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 60.0)]
    records += [failure(0.0, Outcome.REFUSED)] * 50 + [failure(0.0, Outcome.CONNECT)] * 50
    assert life_of(records) == 9.0
    assert life_of([]) == 0.0


def test_an_open_loop_is_steady_after_a_life_and_until_a_life_before_its_end() -> None:
    records = [reply(at / 10, 2.0) for at in range(300)]
    window = steady_window(OpenLoop(rate=10, seconds=30), records)
    assert window.span_s == (2.0, 28.0)
    assert window.warning is None
    assert not window.is_whole
    assert steady_window(OpenLoop(rate=10, seconds=30), records, stopped_s=20.0).span_s == (2.0, 18.0)
    assert steady_window(OpenLoop(rate=10, seconds=30), records, warm_up_s=5.0).span_s == (5.0, 28.0)


@pytest.mark.parametrize(("ramp_s", "start_s"), [(None, 3.0), (0.0, 3.0), (8.0, 8.0)])
def test_a_closed_loop_is_steady_after_its_ramp(ramp_s: float | None, start_s: float) -> None:
    """Also without a ramp, when all begin at once in an empty server: those are not what is measured."""
    records = [reply(at * 3.0, 3.0) for at in range(10)]
    window = steady_window(ClosedLoop(concurrency=4, seconds=30, ramp_s=ramp_s), records)
    assert window.span_s == (start_s, 27.0)


def test_a_run_that_is_too_short_is_taken_whole_and_says_what_would_do() -> None:
    window = steady_window(OpenLoop(rate=1, seconds=10), [reply(1.0, 6.0), reply(6.0, 6.0)])
    assert window.span_s == (0.0, 12.0)
    assert window.offered_s == 10.0
    assert window.is_whole
    assert window.warning is not None
    assert "6 s fill up and 6 s drain" in window.warning
    assert "18 s or longer" in window.warning


@pytest.mark.parametrize("stopped_s", [None, 0.0, -1.0, 0.5])
def test_a_window_is_never_empty(stopped_s: float | None) -> None:
    for load in (OpenLoop(rate=1, seconds=1), ClosedLoop(concurrency=1, seconds=1, ramp_s=100.0)):
        for records in ([], [reply(0.0, 50.0)], [failure(0.0, Outcome.CONNECT)]):
            window = steady_window(load, records, stopped_s=stopped_s)
            assert window.end_s > window.start_s >= 0.0
            assert 0.0 < window.offered_s <= window.end_s - window.start_s


def test_in_overload_what_is_offered_is_not_divided_by_the_time_that_the_queue_takes_to_drain() -> None:
    """Requests wait ever longer, so that no part of the level is steady: 8 a second looked like 4, and goodput too."""
    records = [reply(at / 8, 0.1 + at / 8) for at in range(240)]
    window = steady_window(OpenLoop(rate=8, seconds=30), records)
    assert window.is_whole
    assert window.end_s > 59.0
    figures = measure(records, window.span_s, {}, offered_s=window.offered_s)[0]
    assert figures.request_rate == figures.goodput == 8.0
    assert figures.completed_rate == pytest.approx(4.0, rel=0.05)


def test_a_start_burst_inside_the_window_would_be_the_p99() -> None:
    """Sixteen requests at once in an empty server wait for one another; once spread out, none does."""
    burst = [reply(0.0, 0.1 * (slot + 1), [0.1] * 19) for slot in range(16)]
    steady = [reply(2.0 + at / 8, 0.1, [0.1] * 19) for at in range(8 * 56)]
    records = burst + steady
    window = steady_window(ClosedLoop(concurrency=16, seconds=60, ramp_s=0.0), records)
    naive = measure(records, (0.0, 60.0), {})[0].latencies["ttft"]
    ours = measure(records, window.span_s, {})[0].latencies["ttft"]
    assert naive.p99 > 1.0
    assert ours.p99 == ours.max == pytest.approx(0.1)
