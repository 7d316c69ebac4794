"""Where the planner says that it doesn't know."""

from __future__ import annotations

from dataclasses import replace

import pytest

from headway.plan.bands import Group, Metric, band
from headway.plan.domain import group_of, judge
from headway.plan.engine import Calibration
from headway.plan.memory import memory
from headway.plan.precision import Precision
from headway.plan.setup import Setup
from headway.plan.standing import Level
from tests.plan.setups import plain_gpu, setup


def test_a_dense_model_on_a_measured_gpu_is_supported() -> None:
    for one in (setup(), setup("llama-3.1-70b", tp=4), setup(engine="trtllm", gpu="b200-sxm", precision=Precision.FP8)):
        found = judge(one)
        assert found.level is Level.SUPPORTED
        assert found.reasons == ()
        assert found.tpot is not None
        assert found.throughput is not None
        assert found.ttft is not None
        assert found.tpot.low < 1.0 < found.tpot.high
        assert found.tpot.source


@pytest.mark.parametrize(
    ("one", "reason"),
    [
        (setup("llama-3.1-70b"), "doesn't fit"),
        (setup(gpu="a100-80-sxm", precision=Precision.FP8), "doesn't compute in fp8"),
        (setup(tp=16), "more than one link domain joins"),
        (setup(tp=3), "can't be split over 3 GPUs"),
    ],
)
def test_what_can_not_run_gets_no_number(one: Setup, reason: str) -> None:
    found = judge(one)
    assert found.level is Level.UNSUPPORTED
    assert reason in found.reasons[0]
    assert found.tpot is None
    assert found.throughput is None
    assert found.ttft is None


@pytest.mark.parametrize(
    ("one", "reason", "group"),
    [
        (setup("llama-3.1-70b", gpu="l40s", tp=4), "over PCIe", Group.FRAGILE),
        (setup("llama-3.1-70b", tp=2, engine="vllm"), "1 GB more or less", Group.FRAGILE),
        (setup("mixtral-8x7b", tp=2), "mixture of experts", Group.MOE),
        (setup(engine="eager-2023"), "host time rules", Group.EAGER),
        (replace(setup(), gpu=plain_gpu()), "no measured rates of bf16 products on Plain", Group.FRAGILE),
        (replace(setup(), gpu=plain_gpu(), tp=2), "nobody measured the all-reduce", Group.FRAGILE),
        (setup(gpu="mi300x", engine="vllm-2024"), "up to 5 times as long", Group.FRAGILE),
        (setup(precision=Precision.INT4), "kernels differ widely", Group.FRAGILE),
    ],
)
def test_what_is_fragile_says_why(one: Setup, reason: str, group: Group) -> None:
    found = judge(one)
    assert found.level is Level.FRAGILE
    assert any(reason in each for each in found.reasons)
    assert group_of(one, memory(one)) is group
    assert found.tpot is not None


def test_close_to_saturation() -> None:
    assert judge(setup(), load_share=0.5).level is Level.SUPPORTED
    found = judge(setup(), load_share=0.97)
    assert found.level is Level.FRAGILE
    assert "97% of the highest load" in found.reasons[0]


def test_the_band_of_a_calibration_replaces_that_of_the_group_but_not_for_first_tokens() -> None:
    calibration = Calibration(factor=1.1, band=0.1, date="2026-11-24", source="bench run 7")
    found = judge(replace(setup(), calibration=calibration))
    assert found.tpot is not None
    assert found.ttft is not None
    assert found.tpot.high == pytest.approx(1.105, abs=1e-3)
    assert found.tpot.low == pytest.approx(1 / 1.105, abs=1e-3)
    assert "bench run 7" in found.tpot.source
    assert found.ttft == band(Group.DENSE, Metric.TTFT)


def test_every_group_has_a_band_for_every_metric() -> None:
    for group in Group:
        for metric in Metric:
            assert 0.0 < band(group, metric).low <= 1.0 <= band(group, metric).high
