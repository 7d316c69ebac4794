"""What counts as kept, and what the figures are over."""

from __future__ import annotations

import pytest

from headway.bench.client import Reply, Timing
from headway.bench.load import Outcome, TimedRequest
from headway.bench.verdict import Quantiles, in_slo, judge
from headway.policy.slo import NO_PROMISE, Objective

PROMISE = Objective(ttft_s=0.3, itl_s=0.1)


def outcome(
    first_s: float, *gaps_s: float, late_s: float = 0.0, error: str | None = None, status: int | None = 200
) -> Outcome:
    """A reply whose first token came ``first_s`` after it was sent, which was ``late_s`` after it should have been."""
    times = [100.0 + late_s + first_s]
    for gap_s in gaps_s:
        times.append(times[-1] + gap_s)
    timing = Timing(100.0 + late_s, times)
    return Outcome(TimedRequest(0.0, {}), 100.0, Reply(timing, ended_s=times[-1], status=status, error=error))


def unanswered(status: int | None, after_s: float) -> Outcome:
    reply = Reply(Timing(100.0), ended_s=100.0 + after_s, status=status, error="no")
    return Outcome(TimedRequest(0.0, {}), 100.0, reply)


@pytest.mark.parametrize(
    ("it", "kept"),
    [
        (outcome(0.29, *[0.09] * 20), True),
        (outcome(0.31, *[0.09] * 20), False),
        (outcome(0.2, *[0.09] * 20, late_s=0.2), False),  # the client's delay counts
        (outcome(0.2, *[0.09] * 19, 5.0), True),  # one gap in twenty may be late
        (outcome(0.2, *[0.09] * 18, 0.11), False),  # of nineteen none may
        (outcome(0.2, *[0.09] * 18, 0.11, 0.11), False),
        (outcome(0.2), True),
        (outcome(0.2, *[0.09] * 20, error="the stream ended early"), False),
        (unanswered(429, 0.01), False),
        (unanswered(None, 5.0), False),
    ],
)
def test_in_slo(it: Outcome, kept: bool) -> None:
    assert in_slo(it, PROMISE) is kept


def test_an_end_to_end_promise_and_none_at_all() -> None:
    it = outcome(0.5, 0.5, 0.5)
    assert in_slo(it, Objective(e2e_s=1.51))
    assert not in_slo(it, Objective(e2e_s=1.49))
    assert in_slo(it, NO_PROMISE)
    assert not in_slo(unanswered(None, 1.0), NO_PROMISE)


def test_a_verdict() -> None:
    outcomes = [outcome(0.1, 0.05, 0.05) for _ in range(6)]
    outcomes += [outcome(0.4, 0.2), unanswered(None, 7.0), unanswered(429, 0.01), unanswered(429, 0.01)]
    verdict = judge(outcomes, PROMISE, seconds=2.0)
    assert (verdict.offered, verdict.admitted, verdict.refused, verdict.failed) == (10, 8, 2, 1)
    assert (verdict.in_slo, verdict.goodput, verdict.output_tokens) == (6, 3.0, 20)
    assert verdict.attainment == pytest.approx(0.6)
    assert verdict.attainment_admitted == pytest.approx(0.75)
    assert (verdict.ttft.n, verdict.itl.n) == (8, 13)
    assert verdict.ttft.p50_s == pytest.approx(0.1)
    assert verdict.ttft.p95_s == pytest.approx(7.0)  # the one that never came counts
    assert verdict.itl.p95_s == pytest.approx(0.2)


def test_nothing_offered_breaks_no_promise() -> None:
    verdict = judge([], PROMISE, seconds=1.0)
    assert (verdict.attainment, verdict.attainment_admitted, verdict.goodput) == (1.0, 1.0, 0.0)
    assert verdict.ttft == verdict.itl == Quantiles(0, 0.0, 0.0)
