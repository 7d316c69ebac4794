"""Every figure is what its definition says, also where another method would say something nicer."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import pytest

from headway.bench.figures import ClassFigures
from headway.bench.judge import GOOD, Judge, token_weights
from headway.bench.metrics import measure, tokens_between
from headway.bench.record import Outcome, Record
from headway.bench.timeline import timeline
from headway.policy.slo import Objective
from tests.bench.made_records import failure, reply

PROMISE = Objective(ttft_s=0.3, itl_s=0.1)
HOUR = (0.0, 3600.0)


def figures(
    records: Sequence[Record], window_s: tuple[float, float] = HOUR, default: Objective = PROMISE
) -> ClassFigures:
    return measure(records, window_s, {}, default)[0]


@pytest.mark.parametrize(
    ("record", "said"),
    [
        (reply(5.0, 0.29, [0.09] * 20), GOOD),
        (reply(5.0, 0.31, [0.09] * 20), "ttft"),
        (reply(5.0, 0.2, [0.09] * 19 + [5.0]), GOOD),  # one gap in twenty may be late
        (reply(5.0, 0.2, [0.09] * 18 + [0.11]), "itl"),
        (reply(5.0, 0.2, [0.5] * 4, chunk_tokens=[1, 5, 5, 5, 5]), "itl" if 0.5 / 5 > 0.1 + 1e-9 else GOOD),
        (reply(5.0, 0.2), GOOD),
        (failure(5.0, Outcome.REFUSED), "refused"),
        (failure(5.0, Outcome.TIMEOUT, after_s=60.0, chunk_s=[5.1]), "timeout"),
        (failure(5.0, Outcome.CUT, after_s=0.2), None),
        (failure(5.0, Outcome.CUT, after_s=0.4), "ttft"),  # it was late already
        (failure(5.0, Outcome.CUT, after_s=9.0, chunk_s=[5.1]), None),
    ],
)
def test_what_a_request_counts_as(record: Record, said: str | None) -> None:
    assert Judge({}, PROMISE)(record) == said


def test_an_end_to_end_promise() -> None:
    judge = Judge({"fast": Objective(e2e_s=1.0)})
    assert judge(reply(0.0, 0.5, [0.6], service_class="fast")) == "e2e"
    assert judge(reply(0.0, 0.5, [0.6], service_class="slow")) == GOOD
    assert judge(failure(0.0, Outcome.CUT, after_s=1.1, chunk_s=[0.1], service_class="fast")) == "e2e"


def test_all_figures_of_a_small_run() -> None:
    records = [
        reply(10.0, 0.1, [0.05, 0.15], chunk_tokens=[1, 1, 3]),
        reply(11.0, 0.4, [0.05], chunk_tokens=[2, 1]),
        failure(12.0, Outcome.REFUSED),
        reply(13.0, 0.2),
        reply(30.0, 9.0),  # after the window
    ]
    found = figures(records, (10.0, 20.0))
    assert (found.offered, found.ok, found.good, found.misses) == (4, 3, 2, {"refused": 1, "ttft": 1})
    assert found.attainment == 0.5
    assert found.attainment_low == pytest.approx(0.15, abs=0.01)
    assert (found.request_rate, found.completed_rate, found.goodput) == (0.4, 0.3, 0.2)
    assert found.throughput == pytest.approx(0.9)
    assert (found.output_tokens, found.prompt_tokens, found.cached_tokens) == (9, 30, None)
    latencies = found.latencies
    assert latencies["ttft"].n == 3
    assert latencies["ttft"].max == pytest.approx(0.4)
    assert latencies["itl"].n == 5
    assert latencies["itl"].max == pytest.approx(0.05)
    assert latencies["chunk_gap"].n == 3
    assert latencies["chunk_gap"].max == pytest.approx(0.15)
    assert latencies["stall"].max == pytest.approx(0.15)
    assert latencies["tpot"].n == 2
    assert latencies["tpot"].max == pytest.approx(0.05)
    assert latencies["e2e"].max == pytest.approx(0.45)
    assert (found.ttft_target_s, found.itl_target_s, found.e2e_target_s) == (0.3, 0.1, None)
    assert "queue" not in latencies


def test_times_are_from_the_intended_start() -> None:
    """Coordinated omission: from the real one, a client that is stuck for a second sees a fast server."""
    records = [reply(at / 100, 0.01) for at in range(1000)]
    for record in records[300:400]:
        stuck_until_s = 4.0
        record.sent_s, record.chunk_s, record.ended_s = stuck_until_s, [stuck_until_s + 0.01], stuck_until_s + 0.01
    found = figures(records).latencies
    assert found["ttft_sent"].p95 == pytest.approx(0.01)
    assert found["ttft"].p95 == pytest.approx(0.51)


def test_failures_never_improve_a_percentile() -> None:
    """A server that drops its slow requests has a fine p95 of those that are left."""
    slow = [reply(at, 0.1 if at % 10 else 3.0, [0.01] * 5) for at in range(200)]
    dropping = [each if each.intended_s % 10 else failure(each.intended_s, Outcome.TIMEOUT) for each in slow]
    before, after = figures(slow), figures(dropping)
    assert before.latencies["ttft"].p95_with_misses == pytest.approx(3.0)
    for name in ("ttft", "ttft_sent", "tpot", "e2e", "stall"):
        assert after.latencies[name].p95 < 0.2  # what the naive method shows
        assert after.latencies[name].p95_with_misses is None
    assert after.attainment == before.attainment == 0.9
    assert after.misses == {"timeout": 20}


def test_what_broke_off_keeps_the_gaps_it_had() -> None:
    """Else the stall in the middle of a reply would be forgotten once the reply fails of it."""
    stalled = [failure(at, Outcome.BROKEN, after_s=9.0, chunk_s=[at + 0.1, at + 5.0]) for at in range(10)]
    found = figures([reply(at, 0.1, [0.01] * 5) for at in range(20)] + stalled).latencies
    assert found["itl"].n == 110
    assert found["itl"].max == pytest.approx(4.9)
    assert found["ttft"].n == 30


def test_one_token_has_no_time_per_token() -> None:
    """Counting such a reply as TPOT 0 halves the mean of this one."""
    found = figures([reply(at, 0.1, [0.05] * (10 if at % 2 else 0)) for at in range(100)]).latencies["tpot"]
    assert found.n == 50
    assert found.mean == pytest.approx(0.05)
    assert found.p95_with_misses == pytest.approx(0.05)  # none of them failed


def test_a_percentile_is_over_all_gaps_not_over_means_of_requests() -> None:
    """One gap in ten is ten times as long: no request's mean shows it."""
    records = [reply(at, 0.1, [0.02] * 9 + [0.2]) for at in range(100)]
    found = figures(records).latencies
    assert found["tpot"].p95 == pytest.approx(0.038)
    assert found["itl"].p95 == pytest.approx(0.2)


def test_without_counts_there_are_only_gaps_between_chunks() -> None:
    records = [reply(at, 0.1, [0.06] * 5, is_counted=at != 7, usage=18) for at in range(20)]
    found = figures(records)
    assert "itl" not in found.latencies
    assert found.latencies["chunk_gap"].p95 == pytest.approx(0.06)
    assert found.output_tokens == 360


def test_tokens_of_a_chunk_share_its_gap() -> None:
    found = figures([reply(at, 0.1, [0.06] * 5, chunk_tokens=[3] * 6) for at in range(20)]).latencies
    assert found["itl"].p95 == found["tpot"].p95 == pytest.approx(0.02)
    assert found["itl"].n == 300


def test_classes_have_their_own_figures_and_promises() -> None:
    records = [reply(at, 0.4, service_class="chat" if at % 2 else "batch") for at in range(10)]
    records += [failure(3.5, Outcome.CUT, service_class="batch")]
    everything, batch, chat = measure(records, HOUR, {"chat": PROMISE})
    assert [each.name for each in (everything, batch, chat)] == ["", "batch", "chat"]
    assert (everything.offered, everything.good) == (10, 5)
    assert (batch.offered, batch.good, batch.misses) == (5, 5, {})
    assert (chat.offered, chat.good, chat.misses) == (5, 0, {"ttft": 5})
    assert (everything.ttft_target_s, batch.ttft_target_s, chat.ttft_target_s) == (None, None, 0.3)


def test_nothing_at_all() -> None:
    (found,) = measure([], (0.0, 10.0), {})
    assert (found.offered, found.attainment, found.latencies) == (0, None, {})


def test_what_came_in_the_window_counts_there_whenever_it_was_asked_for() -> None:
    records = [reply(9.0, 0.5, [0.25] * 8), reply(11.0, 0.5, [0.25] * 8)]
    found = figures(records, (10.0, 12.0))
    assert found.offered == 1
    assert found.throughput == (7 + 2) / 2.0
    assert tokens_between(records[0], 9.5, 9.75) == 1


def test_the_rate_is_the_one_that_came_not_the_one_asked_for() -> None:
    """Gaps rescaled so that the last request comes at n / rate make any run look exact."""
    draw, at_s, records = random.Random(3), 0.0, []
    while at_s < 100.0:
        at_s += draw.expovariate(2.0)
        records.append(reply(at_s))
    found = figures(records, (10.0, 90.0))
    assert found.request_rate == sum(10.0 <= each.intended_s < 90.0 for each in records) / 80.0
    assert found.request_rate != pytest.approx(2.0, rel=1e-3)


@pytest.mark.parametrize(
    ("usage", "expected"), [(None, [1, 1, 1, 1]), (4, [1, 1, 1, 1]), (10, [2, 3, 2, 3]), (0, [0] * 4)]
)
def test_what_the_server_counts_is_spread_over_the_chunks(usage: int | None, expected: list[int]) -> None:
    assert token_weights(reply(0.0, 0.1, [0.1] * 3, usage=usage, is_counted=False)) == expected


def test_the_peak_is_never_below_the_mean() -> None:
    """Counting a chunk as a token, the peak of this server was a third of its mean."""
    draw = random.Random(4)
    records = [
        reply(draw.uniform(0, 20), 0.1, [draw.uniform(0.01, 0.2) for _ in range(20)], is_counted=False, usage=63)
        for _ in range(150)
    ]
    for window_s in ((0.0, 20.0), (3.3, 17.9), (4.25, 5.0)):
        found = figures(records, window_s)
        points = timeline(records, window_s, 25.0, {}, PROMISE)
        within = [each for each in points if window_s[0] <= each.at_s < window_s[1] - 1e-9]
        assert within[0].at_s == window_s[0]
        assert sum(each.step_s for each in within) == pytest.approx(window_s[1] - window_s[0])
        assert sum(each.tokens for each in within) == pytest.approx(found.throughput * (window_s[1] - window_s[0]))
        assert max(each.tokens / each.step_s for each in within) >= found.throughput
        assert sum(each.tokens for each in points) == 150 * 63


def test_the_timeline() -> None:
    records = [
        reply(0.5, 0.25, [0.5, 0.5]),
        reply(1.5, 0.4, [0.2]),
        failure(1.6, Outcome.REFUSED),
        failure(2.2, Outcome.CONNECT, after_s=0.5),
        failure(2.5, Outcome.CUT, after_s=0.5, chunk_s=[2.9]),
    ]
    points = timeline(records, (0.0, 3.0), 3.0, {}, PROMISE)
    assert [each.at_s for each in points] == [0.0, 1.0, 2.0]
    assert [each.sent for each in points] == [1, 2, 1]
    assert [each.ended for each in points] == [0, 2, 3]
    assert [each.in_flight for each in points] == [1, 1, 0]
    assert [each.good for each in points] == [0, 0, 0]
    assert [each.refused for each in points] == [0, 1, 0]
    assert [each.failed for each in points] == [0, 0, 1]
    assert [each.tokens for each in points] == [1, 3, 2]
    assert points[1].ttft_p95_s == pytest.approx(0.4)
    assert points[1].itl_p95_s == pytest.approx(0.5)
    assert points[2].itl_p95_s == pytest.approx(0.2)
    assert points[0].itl_p95_s is None


def test_a_long_run_has_longer_steps_and_an_empty_one_none() -> None:
    assert len(timeline([], (0.0, 86400.0), 86400.0, {})) == 3600
    assert timeline([], (0.0, 1.0), 0.0, {}) == []


def test_the_interval_of_itl_knows_that_gaps_of_one_moment_are_alike() -> None:
    """A server that stutters for everybody now and then: a thousand late gaps are a handful of events."""
    draw = random.Random(6)
    records = [reply(at / 10, 0.1, [0.02 + (1.0 if at // 100 in (7, 23) else 0.0)] * 10) for at in range(5000)]
    for record in records:
        record.chunk_s = [at_s + draw.uniform(0, 1e-4) for at_s in record.chunk_s]
    found = figures(records).latencies["itl"]
    assert found.p95 < 0.03
    assert found.p95_high is not None
    assert found.p95_high > 0.9
    assert not math.isnan(found.mean)
