"""Figures: what counts as kept, over whom shares are taken, and what is cut."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from headway.policy.slo import Objective, late_gaps_allowed
from headway.sim.record import Outcome, Record, p95_of_gaps
from headway.sim.result import Percentiles, Result, Window

SERVED = Record(
    index=0,
    service_class="conversational",
    tenant="",
    prompt_tokens=100,
    arrived_s=10.0,
    sent_s=10.0,
    attempts=1,
    outcome=Outcome.SERVED,
    reason="stop",
    demoted=False,
    promised=True,
    cached_tokens=0,
    output_tokens=10,
    ttft_s=0.2,
    itl_p95_s=0.05,
    itl_worst_s=0.05,
    e2e_s=1.0,
    in_slo=True,
    every_gap_in_slo=True,
    answered_s=1.0,
)
LATE = replace(SERVED, index=1, ttft_s=0.9, in_slo=False, every_gap_in_slo=False)
SHED = replace(
    SERVED,
    index=2,
    outcome=Outcome.SHED,
    ttft_s=None,
    e2e_s=None,
    in_slo=False,
    every_gap_in_slo=False,
    answered_s=0.01,
)
DEMOTED = replace(LATE, index=3, demoted=True, prompt_tokens=5000)
BEFORE = replace(LATE, index=4, arrived_s=1.0)


def result(*records: Record) -> Result:
    return Result(Window(5.0, 15.0), records, 20.0, 100, {}, {"conversational": 400})


def test_attainment_is_of_those_offered_in_the_window_and_of_those_admitted() -> None:
    summary = result(SERVED, LATE, SHED, DEMOTED, BEFORE).summary()
    assert (summary.offered, summary.admitted, summary.shed, summary.demoted) == (4, 2, 1, 1)
    assert summary.attainment == 0.25
    assert summary.attainment_admitted == 0.5
    assert summary.goodput == pytest.approx(0.1)
    assert summary.throughput == pytest.approx(40.0)
    assert summary.ttft == Percentiles(3, 0.9, 0.9, 0.9)


def test_attainment_leaves_out_what_was_promised_nothing() -> None:
    nothing = replace(SERVED, index=5, service_class="batch", promised=False)
    assert result(SERVED, LATE, nothing, nothing).attainment() == 0.5
    assert result(nothing).attainment() == 1.0


def test_short_and_long_prompts_are_told_apart() -> None:
    buckets = result(SERVED, LATE, DEMOTED).by_prompt_length((1000,))
    assert [(each.shortest, each.longest, each.offered, each.attainment) for each in buckets] == [
        (1, 999, 2, 0.5),
        (1000, None, 1, 0.0),
    ]


def test_a_class_without_calls_has_no_shares() -> None:
    summary = result(SERVED).summary("batch")
    assert (summary.offered, summary.attainment, summary.attainment_admitted) == (0, None, None)
    assert summary.itl == Percentiles(0)


def test_figures_are_plain_values() -> None:
    assert json.loads(json.dumps(result(SERVED, SHED).figures()))["classes"]["conversational"]["in_slo"] == 1


@pytest.mark.parametrize("gaps", [1, 19, 20, 21, 39, 40, 200])
def test_the_p95_of_a_call_says_the_same_as_its_late_gaps(gaps: int) -> None:
    objective, late = Objective(itl_s=0.05), late_gaps_allowed(gaps)
    within = [0.01] * (gaps - late) + [1.0] * late
    beyond = [*within[1:], 1.0]
    assert objective.keeps_itl(objective.late_gaps_of(within), gaps) is (p95_of_gaps(within) <= 0.05) is True
    assert objective.keeps_itl(objective.late_gaps_of(beyond), gaps) is (p95_of_gaps(beyond) <= 0.05) is False


def test_percentiles_are_exact_by_nearest_rank() -> None:
    assert Percentiles.of(float(value) for value in range(100, 0, -1)) == Percentiles(100, 50.0, 95.0, 99.0)


def test_an_empty_window_is_an_error() -> None:
    with pytest.raises(ValueError, match="holds nothing"):
        Window(3.0, 3.0)
