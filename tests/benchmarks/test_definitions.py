"""One record, of which every figure is known by every definition."""

from __future__ import annotations

import pytest

from benchmarks.definitions import as_aiperf, as_guidellm, as_vllm, percentile
from headway.bench.record import Outcome, Record


def record(**fields: object) -> Record:
    """To be sent at 1.0, sent at 1.1, first of four tokens at 1.3, then one every 0.2 s; the reply ends at 2.0."""
    given: dict[str, object] = {
        "index": 0,
        "intended_s": 1.0,
        "sent_s": 1.1,
        "chunk_s": [1.3, 1.5, 1.7, 1.9],
        "chunk_tokens": [1, 1, 1, 1],
        "usage_completion": 4,
        "ended_s": 2.0,
    }
    return Record(**(given | fields))  # type: ignore[arg-type]


def test_all_count_from_when_it_was_sent() -> None:
    for convert in (as_vllm, as_guidellm, as_aiperf):
        assert convert([record()])["ttft_mean"] == pytest.approx(0.2)


def test_time_per_token_has_three_meanings() -> None:
    assert as_vllm([record()])["tpot_mean"] == pytest.approx(0.2)
    assert as_guidellm([record()])["tpot_mean"] == pytest.approx(0.8 / 4)
    assert as_guidellm([record()])["itl_mean"] == pytest.approx(0.2)
    assert as_aiperf([record()])["itl_mean"] == pytest.approx(0.2)


def test_an_event_of_two_tokens_is_one_gap_and_two_tokens() -> None:
    pair = record(chunk_s=[1.3, 1.5, 1.9], chunk_tokens=[1, 1, 2])
    assert as_aiperf([pair])["icl_mean"] == pytest.approx(0.3)
    assert as_aiperf([pair])["itl_mean"] == pytest.approx(0.2)


def test_vllm_has_a_gap_of_nothing_before_the_end_of_each_reply() -> None:
    assert as_vllm([record()])["itl_mean"] == pytest.approx(0.6 / 4)
    assert as_vllm([record()])["itl_p95"] == pytest.approx(0.2)


def test_only_guidellm_waits_for_the_end_of_the_reply() -> None:
    assert as_vllm([record()])["e2e_mean"] == pytest.approx(0.8)
    assert as_aiperf([record()])["e2e_mean"] == pytest.approx(0.8)
    assert as_guidellm([record()])["e2e_mean"] == pytest.approx(0.9)


def test_throughput_is_over_the_whole_run() -> None:
    both = [record(), record(intended_s=2.0, sent_s=2.0, chunk_s=[2.5, 2.6, 2.7, 2.8], ended_s=3.0)]
    assert as_vllm(both)["throughput"] == pytest.approx(8 / 2.0)


def test_what_failed_is_left_out() -> None:
    failed = record(outcome=Outcome.BROKEN, chunk_s=[9.0], chunk_tokens=[1], ended_s=9.0)
    for convert in (as_vllm, as_guidellm, as_aiperf):
        assert convert([record(), failed]) == convert([record()])


def test_percentiles_are_linear_between_ranks() -> None:
    assert percentile([3.0, 1.0, 2.0, 4.0], 0.5) == pytest.approx(2.5)
    assert percentile([5.0], 0.95) == 5.0
