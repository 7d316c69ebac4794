"""The whole: strangers' tables never crash it, what is fitted is fitted without what it judges, figures are flat."""

from __future__ import annotations

import argparse
import csv
import math
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import plan_points
from benchmarks.plan_calibrated import Pair, all_others, settings, two_points
from benchmarks.plan_held import ANY, banded, bands_toml, fit_bands, interval, left_out, widening
from benchmarks.plan_point import Load, Metric, Point
from benchmarks.plan_predict import Predictor, Unpredictable
from benchmarks.plan_refit import START, Constants, Refit
from benchmarks.plan_rows import COLUMNS
from benchmarks.plan_scores import Scored, coverage
from headway.plan.bands import Group
from headway.plan.bands import Metric as BandMetric
from headway.plan.catalogue import gpus
from headway.plan.engine import Calibration
from headway.plan.precision import Precision
from headway.plan.standing import Level
from tests.benchmarks.test_plan_rows import PLAIN
from tests.benchmarks.test_plan_scores import POINT

REAL = replace(POINT, model="llama-3.1-8b", gpu="H100 SXM 80GB")


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor(gpus())


def write(path: Path, *rows: dict[str, str]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows({**PLAIN, **row} for row in rows)
    return path


def run(*arguments: str) -> dict[str, plan_points.Value]:
    parser = argparse.ArgumentParser()
    plan_points.add_arguments(parser)
    return plan_points.run(parser.parse_args(arguments))


def test_without_points_it_says_what_is_needed() -> None:
    with pytest.raises(SystemExit, match="--points CSV"):
        run()


def test_a_file_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="can't be read"):
        run("--points", str(tmp_path / "none.csv"))


def test_strange_rows_are_counted_by_reason(tmp_path: Path) -> None:
    path = write(
        tmp_path / "points.csv",
        {},
        {"model": "nobody/knows-it"},
        {"gpu": "Quantum 9000"},
        {"engine": "abacus"},
        {"metric": "joy"},
        {"model": "llama-3.1-405b"},
    )
    figures = run("--points", str(path), "--quick", "--rows", str(tmp_path / "rows.csv"))
    assert (figures["rows"], figures["predicted"], figures["skipped"]) == (6, 1, 5)
    assert figures["headline.tpot.n"] == 1
    assert figures["skipped.model not known: nobody/knows-it"] == 1
    assert figures["skipped.GPU not in the catalogue: Quantum 9000"] == 1
    assert len((tmp_path / "rows.csv").read_text().splitlines()) == 7
    assert all(isinstance(value, int | float | str | None) for value in figures.values())


def test_a_table_without_rows(tmp_path: Path) -> None:
    figures = run("--points", str(write(tmp_path / "points.csv")))
    assert figures["predicted"] == 0


@pytest.mark.parametrize(
    ("metric", "load", "batch", "least", "most"),
    [
        (Metric.TPOT, Load.CLOSED, 1, 0.004, 0.010),
        (Metric.GAP, Load.CLOSED, 1, 0.004, 0.010),
        (Metric.TTFT, Load.CLOSED, 1, 0.01, 0.1),
        (Metric.E2E, Load.CLOSED, 1, 0.5, 1.5),
        (Metric.THROUGHPUT, Load.CLOSED, 1, 80.0, 250.0),
        (Metric.E2E, Load.STATIC, 64, 0.8, 4.0),
        (Metric.E2E, Load.STATIC, 4096, 50.0, 500.0),
        (Metric.THROUGHPUT, Load.STATIC, 64, 1500.0, 8000.0),
        (Metric.PREFILL, Load.STATIC, 16, 0.2, 0.8),
        (Metric.THROUGHPUT, Load.MAXIMUM, None, 2000.0, 10000.0),
    ],
)
def test_predictions_are_in_the_points_terms(
    predictor: Predictor, metric: Metric, load: Load, batch: int | None, least: float, most: float
) -> None:
    made = predictor.predict(replace(REAL, metric=metric, load=load, batch=batch))
    assert least < made.value < most
    assert made.measured_round_s(replace(REAL, metric=metric, value=made.value)) == pytest.approx(made.round_s)


def test_an_open_loop_by_littles_law(predictor: Predictor) -> None:
    point = replace(REAL, load=Load.OPEN, batch=128, metric=Metric.E2E, rates=((1.0, 60.0), (4.0, 60.0)))
    slow, fast = (predictor.predict(replace(point, rates=((rate, 60.0),))).value for rate in (1.0, 4.0))
    assert slow < predictor.predict(point).value < fast
    with pytest.raises(Unpredictable, match="simulated queue"):
        predictor.predict(replace(point, rates=((500.0, 60.0),)))


def test_a_burst_waits_longer(predictor: Predictor) -> None:
    point = replace(REAL, metric=Metric.TTFT, batch=64, burst=0.0)
    assert predictor.predict(replace(point, burst=0.5)).value > predictor.predict(point).value


def test_replicas_share_the_load(predictor: Predictor) -> None:
    one = predictor.predict(replace(REAL, metric=Metric.THROUGHPUT)).value
    two = predictor.predict(replace(REAL, metric=Metric.THROUGHPUT, gpus=2, batch=32)).value
    assert two == pytest.approx(2 * one)


def made(value: float, source: str = "a", kind: str = Group.DENSE, predicted: float = 0.010) -> Scored:
    point = replace(POINT, source=source, value=value)
    return Scored(point=point, predicted=predicted, is_dense=True, level=Level.SUPPORTED, kind=kind)


def test_a_band_holds_nine_tenths() -> None:
    found = interval([made(0.010 * (1.0 + at / 1000.0)) for at in range(-100, 101)])
    assert 0.9 <= found.low < 0.92
    assert 1.08 < found.high <= 1.1


def test_groups_with_few_points_take_the_band_of_all() -> None:
    points = [made(0.011)] * 80 + [made(0.015, kind=Group.MOE)]
    bands = fit_bands(points)
    whole = bands[ANY, BandMetric.TPOT]
    assert whole.high == pytest.approx(1.1)
    assert banded(points, bands)[-1].band == pytest.approx((whole.low, 1.5))  # and its own extreme


def test_a_source_is_judged_by_bands_made_without_it() -> None:
    points = [made(0.011, "a")] * 20 + [made(0.020, "b")] * 20
    apart = {each.point.source: each.band for each in left_out(points, lambda each: each.point.source)}
    assert apart["a"] == pytest.approx((1.0, 2.0))
    assert apart["b"] == pytest.approx((1.0, 1.1))


def test_bands_are_as_wide_as_the_next_source_needs() -> None:
    """90 % of all residuals were held, but 87 % of those of a source that had no say in the bands."""
    points = [
        made(0.010 * (1.0 + share * at / 20), source)
        for source, share in zip("abcd", (0.05, 0.1, 0.2, 0.4), strict=True)
        for at in range(-20, 21)
    ]
    factor = widening(points)
    assert factor > 1.5
    plain, wide = fit_bands(points), fit_bands(points, factor)
    for key, each in plain.items():
        assert math.log(wide[key].high) == pytest.approx(factor * math.log(each.high))

    def held(widened: float) -> float:
        apart = [
            each
            for source in "abcd"
            for each in banded(
                [one for one in points if one.point.source == source],
                fit_bands([one for one in points if one.point.source != source], widened),
            )
        ]
        return float(coverage(apart)["share"])

    assert held(1.0) < 0.88
    assert held(factor * 1.001) >= 0.90
    assert widening([made(0.011)] * 40) == 1.0


def test_bands_are_written_as_the_planner_reads_them() -> None:
    read = tomllib.loads(bands_toml([made(0.011)] * 20, [each.value for each in Group]))
    assert read["bands"]["dense"]["tpot"]["n"] == 20
    assert read["bands"]["moe"]["tpot"]["high"] == pytest.approx(1.1)


def pair(predictor: Predictor, point: Point, step_s: float, factor: float) -> Pair:
    """Measured as a machine would whose steps take so much more."""
    slower = Calibration(step_s=step_s, factor=factor)
    value = predictor.predict(point, slower).value
    uncalibrated = predictor.predict(point)
    scored = replace(made(value), point=replace(point, value=value), predicted=uncalibrated.value)
    return Pair(scored, uncalibrated)


def test_two_points_calibrate_the_others(predictor: Predictor) -> None:
    pairs = [pair(predictor, replace(REAL, batch=batch), 0.002, 1.1) for batch in (1, 8, 32, 64)]
    outcome = two_points(pairs, predictor)
    assert (outcome.settings, outcome.refused, len(outcome.after)) == (1, 0, 2)
    assert all(abs(each.error) > 0.1 for each in outcome.before)
    assert all(abs(each.error) < 0.02 for each in outcome.after)
    assert len(all_others(pairs, predictor).after) == 4


def test_settings_are_not_mixed(predictor: Predictor) -> None:
    pairs = [pair(predictor, replace(REAL, batch=batch), 0.0, 1.0) for batch in (1, 8)]
    other = replace(REAL, batch=4, precision=Precision.FP8)
    assert settings([*pairs, pair(predictor, other, 0.0, 1.0)]) == []


def test_constants_are_found_again_without_what_they_predict(predictor: Predictor) -> None:
    truth = Predictor(gpus(), adjust=Constants(layer_us=28.0, step_ms=2.0).of)
    points = [replace(REAL, batch=batch, source=source) for source in "ab" for batch in range(1, 40, 3)]
    scored = [
        replace(
            made(1.0), point=replace(each, value=truth.predict(each).value), predicted=predictor.predict(each).value
        )
        for each in points
    ]
    refit = Refit(scored, gpus())
    _, constants = refit.fit(range(len(scored)))
    assert constants["vllm"].step_ms + 0.032 * constants["vllm"].layer_us == pytest.approx(2.0 + 0.032 * 28.0, abs=0.4)
    apart = refit.left_out(lambda each: each.point.source)
    assert len(apart) == len(scored)
    assert max(abs(each.error) for each in apart) < 0.1


def test_with_few_points_constants_stay(predictor: Predictor) -> None:
    scored = [replace(made(0.5), point=replace(REAL, value=0.5))]
    assert Refit(scored, gpus()).fit([0])[1] == {"vllm": START}
