"""The true operating points that ``headway tune`` is held against: where they can be told without a simulation."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest

from benchmarks import tune, tune_cases
from benchmarks.tune_cases import draw_case
from benchmarks.tune_truth import Sizes, Truth, closed_level, find_truth, largest, open_level, p95
from headway.policy.plan import ExecutorInfo
from headway.policy.slo import NO_PROMISE, Objective
from headway.sim.hardware import LinearHardware
from headway.sim_engine.record import read_hardware

PER_SEQUENCE = LinearHardware(
    name="by-the-head",
    description="a step takes 5 ms for each request in it",
    source="made up",
    info=ExecutorInfo(64, 4096, 4096, 1 << 32, "made up"),
    constant_s=0.0,
    token_s=0.0,
    sequence_s=0.005,
    decode_context_s=0.0,
    prefill_read_s=0.0,
)
SIZES = Sizes((16, 16), (12, 20))
REQUESTS = 200


def test_the_largest_number_is_found_wherever_it_is() -> None:
    for true in range(40):
        assert largest(lambda number, true=true: number <= true, 37) == min(true, 37)  # type: ignore[misc]


def test_the_rank_is_the_nearest() -> None:
    assert p95([float(value) for value in range(1, 101)]) == 95.0
    assert p95([3.0]) == 3.0
    assert p95([]) == 0.0


def test_a_closed_loop_on_a_machine_that_counts_heads_is_known_beforehand() -> None:
    level = closed_level(PER_SEQUENCE, SIZES, NO_PROMISE, 10, REQUESTS)
    assert level.tails.itl_s == pytest.approx(0.050, rel=0.02)  # a step may have one less: the next one is on its way
    assert level.requests_per_s == pytest.approx(1 / 0.005 / 16, rel=0.1)
    truth = find_truth(PER_SEQUENCE, SIZES, Objective(itl_s=0.0501), requests=REQUESTS)
    assert truth.concurrency == 10


def test_a_promise_that_no_request_can_have_has_no_point() -> None:
    truth = find_truth(PER_SEQUENCE, SIZES, Objective(itl_s=0.004), requests=60)
    assert (truth.concurrency, truth.rate) == (0, 0.0)


def test_attainment_falls_as_the_rate_grows() -> None:
    promise = Objective(ttft_s=0.1)
    attainments = [
        open_level(PER_SEQUENCE, SIZES, promise, rate, max_running=10, requests=REQUESTS).attainment
        for rate in (2.0, 13.0, 20.0)
    ]
    assert attainments[0] == 1.0
    assert all(earlier > later for earlier, later in pairwise(attainments))


def test_a_case_is_the_same_for_its_seed_and_its_machine_can_be_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tune_cases, "ROUGH_REQUESTS", 150)
    case = draw_case(4)
    assert case == draw_case(4) != draw_case(5)
    path = tmp_path / "machine.toml"
    path.write_text(case.record())
    served = read_hardware(path)
    assert isinstance(served, LinearHardware)
    assert served.info.kv_blocks == case.machine.info.kv_blocks
    assert served.decode_context_s == case.machine.decode_context_s
    assert case.slo.count("=") == 3
    assert case.slo.count("none") == 1


def written(tmp_path: Path, **changes: object) -> Path:
    level = {"client": {"lag_p99_s": 0.004}}
    steps = [{"verdict": verdict} for verdict in ("pass", "void", "fail")]
    answer = {"found": "point", "load": 41.0, "probes": 9}
    whole = {"run": {"levels": [level, {"client": None}]}, "steps": steps, "batch": answer, "rate": None, **changes}
    path = tmp_path / "tuned.json"
    path.write_text(json.dumps(whole))
    return path


def test_what_tune_wrote_is_held_against_the_truth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tune_cases, "ROUGH_REQUESTS", 150)
    tuned = tune.Tuned.read(written(tmp_path))
    assert tuned == tune.Tuned(tune.Answer("point", 41.0, 9), tune.Answer("missing", None, 0), void=1, lag_s=0.004)
    assert tuned.batch.error(40) == pytest.approx(0.025)
    assert tuned.rate.error(3.0) == 1.0
    assert tuned.rate.error(0.0) == 0.0
    level = closed_level(PER_SEQUENCE, SIZES, NO_PROMISE, 2, 20)
    outcome = tune.Outcome(tune_cases.draw_case(4), Truth(40, 10.0, level), tuned)
    figures = tune.summary([outcome], with_rate=True)
    assert figures["batch_within_5_percent_in_12_probes"] == 1
    assert figures["rate_within_10_percent"] == 0
    assert tune.row(outcome, with_rate=True)["case_04_batch_true"] == 40


def test_repeats_are_judged_by_how_far_they_lie_apart() -> None:
    def once(batch: float | None) -> tune.Tuned:
        return tune.Tuned(tune.Answer("point", batch, 8), tune.Answer("point", 2.0, 8), void=0, lag_s=0.0)

    figures = tune.repeated([once(20.0), once(21.0), once(22.0)], with_rate=True)
    assert figures["real_batch_spread"] == pytest.approx(2 / 21, abs=1e-4)
    assert figures["real_batch_within_10_percent"] == figures["real_rate_within_10_percent"] == 1
    assert tune.repeated([once(None), once(20.0), once(20.0)], with_rate=False)["real_batch_within_10_percent"] == 0
