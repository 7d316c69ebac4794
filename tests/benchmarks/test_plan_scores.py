"""Errors of predictions against points."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.plan_point import Load, Metric, Point
from benchmarks.plan_scores import Figure, Scored, by_figure, by_group, coverage, figure_of, quantile, summary
from headway.plan.precision import Precision
from headway.plan.standing import Level

POINT = Point(
    line=2,
    source="a",
    engine="vllm",
    version="",
    model="m",
    gpu="g",
    gpus=1,
    tp=1,
    precision=Precision.BF16,
    kv_precision=Precision.BF16,
    load=Load.CLOSED,
    batch=16,
    isl=1024.0,
    osl=128.0,
    metric=Metric.TPOT,
    value=0.010,
    is_modern=True,
)


def scored(predicted: float, band: tuple[float, float] | None = None, **changed: object) -> Scored:
    point = replace(POINT, **changed)  # type: ignore[arg-type]
    return Scored(point=point, predicted=predicted, is_dense=True, level=Level.SUPPORTED, kind="k", band=band)


def test_errors_are_relative_to_what_was_measured() -> None:
    assert scored(0.012).error == pytest.approx(0.2)
    assert summary([scored(0.012), scored(0.009), scored(0.011)]) == {
        "n": 3,
        "median_abs": 0.1,
        "p90_abs": 0.18,
        "median_signed": 0.1,
    }
    assert summary([]) == {"n": 0}


def test_figures_are_flat() -> None:
    figures = by_figure([scored(0.012), scored(0.012, metric=Metric.THROUGHPUT)], "all")
    assert figures["all.tpot.n"] == 1
    assert figures["all.throughput.n"] == 1
    assert "all.ttft_low_load.n" not in figures
    groups = by_group([scored(0.012), scored(0.012, source="b")], "source", lambda each: each.point.source)
    assert groups["source.b.tpot.n"] == 1


@pytest.mark.parametrize(
    ("metric", "load", "batch", "figure"),
    [
        (Metric.TTFT, Load.STATIC, 1, Figure.TTFT),
        (Metric.TTFT, Load.CLOSED, 8, Figure.TTFT),
        (Metric.TTFT, Load.CLOSED, 9, Figure.TTFT_LOADED),
        (Metric.TTFT, Load.OPEN, 1, Figure.TTFT_LOADED),
        (Metric.PREFILL, Load.STATIC, 64, Figure.TTFT_LOADED),
        (Metric.E2E, Load.STATIC, 64, Figure.STATIC_E2E),
        (Metric.E2E, Load.OPEN, 64, Figure.OPEN_E2E),
        (Metric.GAP, Load.CLOSED, 64, Figure.TPOT),
    ],
)
def test_what_counts_as_what(metric: Metric, load: Load, batch: int, figure: str) -> None:
    assert figure_of(replace(POINT, metric=metric, load=load, batch=batch)) == figure


def test_coverage_counts_what_has_a_band() -> None:
    within, outside = scored(0.010, (0.9, 1.1)), scored(0.020, (0.9, 1.1))
    assert coverage([within, outside, scored(0.010)]) == {"n": 2, "without_band": 1, "share": 0.5}
    assert coverage([scored(0.010)]) == {"n": 0, "without_band": 1}


def test_quantiles_lie_between_ranks() -> None:
    assert quantile([1.0, 2.0, 3.0], 0.25) == 1.5
    assert quantile([1.0], 0.9) == 1.0
