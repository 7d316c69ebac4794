"""A run's closed loops become points of a calibration; what says nothing is left out with its reason."""

from __future__ import annotations

import pytest

from headway.bench.figures import ClassFigures, ClientHealth, Level, Quantiles, Run
from headway.plan.calibrate import Measured, calibrate, described, measured_levels
from headway.plan.errors import PlanError
from headway.plan.precision import Precision
from tests.plan.setups import setup


def level(concurrency: int, tpot_s: float, **changed: object) -> Level:
    quantiles = Quantiles(n=40, mean=tpot_s, p50=tpot_s, p90=tpot_s, p95=tpot_s, p99=tpot_s, max=tpot_s)
    figures = ClassFigures(
        name="", offered=40, ok=40, prompt_tokens=40 * 100, output_tokens=40 * 50, latencies={"tpot": quantiles}
    )
    whole: dict[str, object] = {
        "name": f"{concurrency} at once",
        "load": {"kind": "closed", "concurrency": concurrency},
        "classes": [figures],
        **changed,
    }
    return Level(**whole)  # type: ignore[arg-type]


def run(*levels: Level) -> Run:
    return Run(id="7f3a", started_at="2026-11-24T10:00:00Z", target={"version": "0.19.0"}, levels=list(levels))


def test_levels_are_read_by_concurrency() -> None:
    levels, left_out = measured_levels(run(level(16, 0.020), level(1, 0.010)))
    assert not left_out
    assert [each.concurrency for each in levels] == [1, 16]
    assert (levels[0].prompt_tokens, levels[0].output_tokens, levels[0].tpot_s) == (100.0, 50.0, 0.010)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"load": {"kind": "open", "rate": 3.0}}, "no closed loop"),
        ({"state": "partial"}, "it is partial"),
        ({"client": ClientHealth(bound="no processor time")}, "the client was the limit"),
        ({"classes": []}, "fewer than 8"),
        ({"classes": [ClassFigures(name="", offered=3, ok=3)]}, "fewer than 8"),
    ],
)
def test_what_says_nothing_is_left_out(changed: dict[str, object], says: str) -> None:
    levels, left_out = measured_levels(run(level(1, 0.010), level(16, 0.020, **changed)))
    assert len(levels) == 1
    assert says in left_out[0]


def test_failures_are_left_out() -> None:
    failing = level(4, 0.010)
    failing.classes[0].offered = 45
    levels, left_out = measured_levels(run(level(1, 0.010), failing))
    assert "5 of 45 requests failed" in left_out[0]
    assert len(levels) == 1


def test_a_run_without_a_closed_loop() -> None:
    with pytest.raises(PlanError, match="--concurrency"):
        measured_levels(run(level(1, 0.010, load={"kind": "open"})))


def test_two_levels_fix_both_parameters_and_the_band() -> None:
    levels, _ = measured_levels(run(level(1, 0.013), level(16, 0.024)))

    def predict(each: Measured) -> float:
        return 0.010 if each.concurrency == 1 else 0.020

    found, compared = calibrate(levels, predict, 0.1)
    assert found.step_s == pytest.approx(0.002)
    assert found.factor == pytest.approx(1.1)
    assert found.band == 0.1
    assert [each.after_s for each in compared] == pytest.approx([0.013, 0.024])
    whole = described(found, run(), setup("llama-3.1-70b", tp=4, precision=Precision.FP8), "570")
    assert (whole.gpu, whole.engine, whole.model, whole.tp) == ("h100-sxm", "vllm", "llama-3.1-70b", 4)
    assert (whole.precision, whole.kv_precision) == (Precision.FP8, Precision.BF16)
    assert (whole.engine_version, whole.date, whole.driver) == ("0.19.0", "2026-11-24", "570")
    assert "7f3a" in whole.source
