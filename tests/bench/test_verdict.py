"""What counts as kept, and what the figures are over."""

from __future__ import annotations

import pytest

from headway.bench.record import Outcome, Record
from headway.bench.verdict import Quantiles, judge
from headway.policy.slo import Objective

PROMISE = Objective(ttft_s=0.3, itl_s=0.1)


def reply(first_s: float, *gaps_s: float, late_s: float = 0.0) -> Record:
    """A reply whose first token came ``first_s`` after it was sent, which was ``late_s`` after it should have been."""
    times = [100.0 + late_s + first_s]
    for gap_s in gaps_s:
        times.append(times[-1] + gap_s)
    return Record(
        index=0,
        intended_s=100.0,
        sent_s=100.0 + late_s,
        ended_s=times[-1],
        chunk_s=times,
        chunk_tokens=[1] * len(times),
    )


def unanswered(outcome: Outcome, after_s: float) -> Record:
    return Record(index=0, intended_s=100.0, sent_s=100.0, ended_s=100.0 + after_s, outcome=outcome)


def test_a_verdict() -> None:
    records = [reply(0.1, 0.05, 0.05) for _ in range(6)]
    records += [reply(0.4, 0.2), reply(0.1, 0.05, late_s=0.25)]  # the client's delay counts
    records += [unanswered(Outcome.TIMEOUT, 7.0), unanswered(Outcome.REFUSED, 0.01), unanswered(Outcome.REFUSED, 0.2)]
    verdict = judge(records, PROMISE, seconds=2.0)
    assert (verdict.offered, verdict.admitted, verdict.refused, verdict.failed) == (11, 9, 2, 1)
    assert (verdict.in_slo, verdict.goodput, verdict.output_tokens, verdict.refused_late) == (6, 3.0, 22, 1)
    assert verdict.attainment == pytest.approx(6 / 11)
    assert verdict.attainment_admitted == pytest.approx(6 / 9)
    assert (verdict.ttft.n, verdict.itl.n) == (9, 14)
    assert verdict.ttft.p50_s == pytest.approx(0.1)
    assert verdict.ttft.p95_s == pytest.approx(7.0)  # the one that never came counts
    assert verdict.itl.p95_s == pytest.approx(0.2)


def test_nothing_offered_breaks_no_promise() -> None:
    verdict = judge([], PROMISE, seconds=1.0)
    assert (verdict.attainment, verdict.attainment_admitted, verdict.goodput) == (1.0, 1.0, 0.0)
    assert verdict.ttft == verdict.itl == Quantiles(0, 0.0, 0.0)
