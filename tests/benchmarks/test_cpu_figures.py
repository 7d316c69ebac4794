"""Comparing CPU servers: which rates are tried, and what is computed from measurements."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from benchmarks.cpu_estimate import point_s, shape_s
from benchmarks.cpu_figures import (
    Figures,
    Sample,
    Work,
    beyond_limit,
    capacity_figures,
    comparison,
    point_figures,
    typical,
)
from benchmarks.cpu_load import PROMPT, Offered, Point, window_s
from benchmarks.cpu_peers import Entry
from benchmarks.cpu_probe import Speeds
from benchmarks.cpu_rates import STEP, Bisection, Recheck, Search
from headway.bench.verdict import Quantiles, Verdict
from headway.models.shapes import shape_config

QUIET = Speeds(36.0, 460.0, 930.0)
POINT = Point(streams=1, prompt_tokens=128, output_tokens=64, requests=3)


# ---- rates -----------------------------------------------------------------------------------------------------------


def found(search: Search, is_kept: Callable[[float], bool]) -> list[float]:
    tried = []
    while (rate := search.next_rate()) is not None:
        tried.append(rate)
        search.note(rate, is_kept=is_kept(rate))
    return tried


@pytest.mark.parametrize("true", [0.6, 1.0, 2.5, 4.9])
def test_a_capacity_between_the_bounds_is_found_to_a_step(true: float) -> None:
    search = Bisection(0.5, 5.0, windows=10)
    found(search, lambda rate: rate <= true)
    assert true / STEP <= search.kept <= true


def test_no_more_windows_are_used_than_there_are() -> None:
    search = Bisection(0.1, 10.0, windows=3)
    assert len(found(search, lambda rate: rate <= 1.7)) == 3


def test_a_server_that_keeps_everything_is_asked_for_more_than_was_thought_possible() -> None:
    search = Bisection(1.0, 2.0, windows=6)
    assert max(found(search, lambda rate: rate <= 5.0)) > 2.0
    assert search.kept > 2.0


def test_a_server_that_keeps_nothing_has_no_capacity() -> None:
    search = Bisection(1.0, 4.0, windows=10)
    tried = found(search, lambda rate: False)
    assert search.kept == 0.0
    assert min(tried) <= 1.0 * STEP


def test_a_later_round_looks_a_step_higher_and_then_lower() -> None:
    search = Recheck(2.0, low=0.5, windows=3)
    assert found(search, lambda rate: rate <= 2.1) == [pytest.approx(2.0 * STEP), pytest.approx(2.0)]
    assert search.kept == pytest.approx(2.0)
    assert len(found(Recheck(2.0, low=0.5, windows=3), lambda rate: False)) == 3


def test_a_later_round_tries_the_lowest_rate_once_if_nothing_was_kept() -> None:
    assert found(Recheck(0.0, low=0.5, windows=3), lambda rate: False) == [0.5]


def test_windows_of_few_requests_are_longer() -> None:
    assert window_s(10.0, 12.0) == 12.0
    assert window_s(1.5, 12.0) == pytest.approx(16.0)
    assert window_s(0.1, 12.0) == 48.0


# ---- figures ---------------------------------------------------------------------------------------------------------


def sample(itl_ms: float, before: Speeds = QUIET, after: Speeds = QUIET, others: float = 0.0) -> Sample:
    values = {"ttft_ms": 100.0, "itl_ms": itl_ms, "output_tok_s": 80.0, "events_per_token": 1.0}
    return Sample(values, before, after, others)


def test_medians_spread_and_shares_over_the_rounds() -> None:
    work = Work(weights=135_000_000, head=28_000_000, precision="bf16")
    figures = point_figures(POINT, [sample(10.0), sample(12.0), sample(11.0)], work, QUIET, 0.9)
    assert figures["itl_ms_128x1"] == 11.0
    assert figures["itl_ms_128x1_spread"] == pytest.approx(2 / 11, abs=0.001)
    assert figures["itl_share_of_read_128x1"] == pytest.approx(270e6 / 36e9 / 0.011, abs=0.001)
    operations = 2 * 107e6 * 128 + 2 * 28e6
    assert figures["ttft_share_of_gemm_128x1"] == pytest.approx(operations / (0.9 * 460e9) / 0.1, abs=0.001)
    assert not [name for name in figures if "marked" in name or "events" in name]


def test_shares_are_of_the_machine_as_it_was_at_the_time() -> None:
    work = Work(weights=135_000_000, head=28_000_000, precision="bf16")
    slow = Speeds(18.0, 230.0, 465.0)
    figures = point_figures(POINT, [sample(20.0, slow, slow)], work, QUIET, 0.9)
    assert figures["itl_share_of_read_128x1"] == pytest.approx(270e6 / 18e9 / 0.020, abs=0.001)
    assert figures["rounds_marked_128x1"] == 1


def test_int8_has_half_the_bytes_and_its_own_rate() -> None:
    bf16, int8 = (Work(weights=100, head=10, precision=each) for each in ("bf16", "int8"))
    assert bf16.read_s(QUIET) == 2 * int8.read_s(QUIET)
    assert QUIET.of("int8") == 930.0


@pytest.mark.parametrize(
    ("each", "is_marked"),
    [
        (sample(1.0), False),
        (sample(1.0, after=Speeds(36.0, 400.0, 930.0)), False),
        (sample(1.0, after=Speeds(36.0, 380.0, 930.0)), True),
        (sample(1.0, Speeds(20.0, 460.0, 930.0), Speeds(20.0, 460.0, 930.0)), True),
        (sample(1.0, others=0.3), True),
    ],
)
def test_measurements_are_marked_where_the_machine_was_not_itself(each: Sample, is_marked: bool) -> None:
    assert each.is_marked(QUIET) is is_marked


def test_the_usual_machine_is_the_median_of_all_probes() -> None:
    slow = Speeds(18.0, 230.0, 465.0)
    assert typical([sample(1.0), sample(1.0), sample(1.0, slow, slow)]) == QUIET


def verdict(offered: int, in_slo: int, seconds: float = 10.0) -> Verdict:
    nothing = Quantiles(0, 0.0, 0.0)
    return Verdict(seconds, offered, offered, 0, 0, 0, in_slo, 0, nothing, nothing)


def test_capacity_is_the_median_of_the_rounds_and_goodput_the_best_of_whole_windows() -> None:
    offered = [
        Offered(2.0, verdict(20, 20), True),
        Offered(4.0, verdict(40, 30), True),
        Offered(8.0, verdict(80, 0), False),
    ]
    figures = capacity_figures([2.0, 2.4, 1.7], offered)
    assert figures["capacity_requests_s"] == 2.0
    assert figures["goodput_requests_s"] == 3.0
    assert figures["goodput_at_rate"] == 4.0
    assert figures["windows"] == "2.00: 20 of 20; 4.00: 30 of 40; 8.00: ended"


def test_some_conversations_are_beyond_any_server() -> None:
    work = Work(weights=321_000_000, head=50_000_000, precision="bf16")
    share = beyond_limit(work, QUIET, 0.95, 0.3, PROMPT)
    longest = (0.95 * 460e9 * 0.3 - 2 * 50e6) / (2 * 271e6)
    rng = random.Random(1)
    drawn = [PROMPT.draw(rng) for _ in range(20_000)]
    assert share == pytest.approx(sum(each > longest for each in drawn) / len(drawn), abs=0.01)
    assert PROMPT.share_above(96) == pytest.approx(0.5, abs=0.004)
    assert PROMPT.share_above(96.9) == PROMPT.share_above(96) < 0.5 < PROMPT.share_above(95)
    assert beyond_limit(work, QUIET, 0.95, 1.0, PROMPT) == 0.0
    assert beyond_limit(work, QUIET, 0.95, 1e-6, PROMPT) == 1.0


def test_a_window_is_kept_at_95_percent_and_never_if_it_was_ended() -> None:
    assert Offered(1.0, verdict(20, 19), True).is_kept
    assert not Offered(1.0, verdict(20, 18), True).is_kept
    assert not Offered(1.0, verdict(20, 20), False).is_kept


def test_headway_is_compared_with_the_best_peer_of_equal_precision() -> None:
    figures: dict[Entry, Figures] = {
        Entry("headway-bf16"): {"itl_ms_128x1": 8.0, "capacity_requests_s": 6.0},
        Entry("headway-int8"): {"itl_ms_128x1": 5.0, "capacity_requests_s": 9.0},
        Entry("a-bf16", "x"): {"itl_ms_128x1": 10.0, "capacity_requests_s": 2.0},
        Entry("b-bf16", "x"): {"itl_ms_128x1": 12.0, "capacity_requests_s": 3.0},
        Entry("a-q8_0", "x"): {"itl_ms_128x1": 6.0, "capacity_requests_s": 0.0},
    }
    found = comparison(figures)
    assert found["headway-bf16_itl_ms_128x1_over_best_bf16_peer"] == 1.25
    assert found["headway-bf16_itl_ms_128x1_over_best_bf16_peer_which"] == "a-bf16"
    assert found["headway-int8_itl_ms_128x1_over_best_int8_peer"] == 1.2
    assert found["headway-bf16_capacity_requests_s_over_best_bf16_peer"] == 2.0
    assert found["headway-int8_capacity_requests_s_over_best_bf16_peer"] == 3.0
    assert found["headway-int8_capacity_requests_s_over_best_int8_peer"] is None
    assert "headway-int8_itl_ms_128x1_over_best_bf16_peer" not in found


def test_a_run_is_estimated_from_the_machine_and_the_work() -> None:
    work = Work.of(shape_config("smollm2-135m"), "bf16")
    quick, slow = point_s(POINT, work, QUIET), point_s(POINT, work, Speeds(18.0, 230.0, 465.0))
    assert slow == pytest.approx(2 * quick)
    one = shape_s([(Entry("headway-bf16"), work)], [POINT], QUIET, rounds=1, windows=0, seconds=12.0)
    three = shape_s([(Entry("headway-bf16"), work)], [POINT], QUIET, rounds=3, windows=4, seconds=12.0)
    assert three > one + 3 * quick
