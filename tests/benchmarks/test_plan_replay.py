"""The replay of a measured overload: its data, its figures, and what the simulation must get right of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.measured_run import Engine, Run, Served, batch_error, errors, read_engine, stretched
from benchmarks.plan_replay import calibrate, replay, rest, setup_of, variants, within_gate
from headway.plan.engine import Calibration
from headway.plan.setup import Setup
from headway.plan.steptime import machine
from headway.policy.scheduler import SchedulerConfig


@pytest.fixture(scope="module")
def measured() -> Run:
    return Run.read()


@pytest.fixture(scope="module")
def engine() -> Engine:
    return read_engine()


@pytest.fixture(scope="module")
def setup(engine: Engine) -> Setup:
    return setup_of(variants()["operators"], engine)


def short(run: Run, requests: int) -> Run:
    return Run(run.served[:requests])


def served(arrived_s: float, first_s: float, last_s: float, output_tokens: int = 11) -> Served:
    return Served(arrived_s=arrived_s, first_s=first_s, last_s=last_s, prompt_tokens=5, output_tokens=output_tokens)


def test_the_run_is_the_one_that_was_published(measured: Run, engine: Engine) -> None:
    figures = measured.figures()
    assert len(measured.served) == 300
    assert figures["ttft_mean_s"] == pytest.approx(65.46, abs=0.005)
    assert figures["tpot_mean_s"] == pytest.approx(0.03245, abs=0.000005)
    assert figures["duration_s"] == pytest.approx(183.6, abs=0.05)
    assert figures["output_tok_s"] == pytest.approx(1066.4, abs=0.05)
    assert engine == Engine(version="0.19.0", kv_blocks=2587, block_tokens=16, max_step_tokens=2048, max_running=256)


def test_figures_of_two_requests() -> None:
    run = Run((served(0.0, 1.5, 3.5), served(1.0, 2.5, 5.0, output_tokens=6)))
    assert run.batch(run.duration_s) == [0, 0, 1, 2, 1]
    figures = run.figures()
    assert figures["ttft_mean_s"] == 1.5
    assert figures["tpot_mean_s"] == pytest.approx((0.2 + 0.5) / 2)
    assert figures["output_tok_s"] == pytest.approx(17 / 5)
    assert figures["batch_mean"] == pytest.approx(4 / 5)


def test_a_run_has_no_error_against_itself_and_half_of_it_one_of_a_half() -> None:
    run = Run((served(0.0, 1.0, 5.0),))
    assert set(errors(run, run).values()) == {0.0}
    quick = stretched(run, 2.5)
    assert errors(quick, run)["duration_s"] == -0.5
    assert batch_error(quick, run) == pytest.approx(0.5)
    assert errors(quick, run)["batch_over_progress"] == 0.0
    assert not within_gate(errors(quick, run))


def test_a_replay_serves_everybody_and_is_never_idle(measured: Run, engine: Engine, setup: Setup) -> None:
    few = short(measured, 12)
    replayed = replay(few, setup, engine)
    assert [each.output_tokens for each in replayed.run.served] == [each.output_tokens for each in few.served]
    assert [each.prompt_tokens for each in replayed.run.served] == [each.prompt_tokens for each in few.served]
    assert replayed.ends_s[-1] == pytest.approx(replayed.run.duration_s)
    assert replayed.preemptions == 0


def test_calibration_finds_the_two_numbers_that_were_put_in(measured: Run, engine: Engine, setup: Setup) -> None:
    few = short(measured, 12)
    true = Calibration(step_s=0.004, factor=1.3)
    made_up = replay(few, replace(setup, calibration=true), engine).run
    found = calibrate(made_up, replay(few, setup, engine), until_s=made_up.duration_s)
    assert found.factor == pytest.approx(true.factor, rel=0.05)
    assert found.step_s == pytest.approx(true.step_s, rel=0.25)


def test_the_rest_are_those_that_started_later(measured: Run) -> None:
    late = rest(measured, measured)
    assert 0 < len(late.served) < len(measured.served)
    assert min(each.first_s for each in late.served) > 30.0


def test_the_predicted_kv_cache_is_that_of_the_engine(engine: Engine, setup: Setup) -> None:
    """Not a test of the planner's foresight: its memory constants are fitted on five runs, and this is one of them."""
    assert machine(setup).info.kv_blocks == pytest.approx(engine.kv_blocks, rel=0.05)


@pytest.mark.slow
def test_queue_preemption_and_batch_are_those_of_vllm(measured: Run, engine: Engine, setup: Setup) -> None:
    replayed = replay(measured, setup, engine, engine.kv_blocks)
    error = errors(replayed.run, measured)
    for name in ("ttft_mean_s", "ttft_p90_s", "tpot_mean_s", "duration_s", "output_tok_s", "batch_mean"):
        assert abs(error[name]) < 0.10, name
    assert error["batch_over_progress"] < 0.10
    assert replayed.preemptions > 100


@pytest.mark.slow
def test_with_limits_of_its_own_the_scheduler_would_run_fewer(measured: Run, engine: Engine, setup: Setup) -> None:
    replayed = replay(measured, setup, engine, engine.kv_blocks, SchedulerConfig())
    assert errors(replayed.run, measured)["batch_mean"] < -0.10
    assert replayed.preemptions < 20
