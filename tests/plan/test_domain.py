"""Where the planner says that it doesn't know."""

from __future__ import annotations

from dataclasses import replace

import pytest

from headway.plan.bands import Group, Metric, band
from headway.plan.domain import groups, judge, near_saturation
from headway.plan.engine import Calibration
from headway.plan.gpu import AllReduce
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
        (setup("llama-3.1-70b", gpu="l40s", tp=4), "over PCIe", Group.PCIE),
        (setup("llama-3.1-70b", gpu="rtx-pro-6000", tp=2), "over PCIe", Group.PCIE),
        (setup("llama-3.1-70b", tp=2, engine="vllm"), "1 GB more or less", Group.FRAGILE),
        (setup("mixtral-8x7b", tp=2), "mixture of experts", Group.MOE),
        (setup(engine="eager-2023"), "host time rules", Group.EAGER),
        (replace(setup(), gpu=plain_gpu()), "no measured rates of bf16 products on Plain", Group.FRAGILE),
        (replace(setup(), gpu=plain_gpu(), tp=2), "nobody measured the all-reduce", Group.FRAGILE),
        (setup(gpu="mi300x", engine="vllm-2024"), "up to 5 times as long", Group.EARLY_AMD),
        (setup(gpu="mi300x"), "no measured rates of bf16 products on AMD Instinct MI300X", Group.FRAGILE),
        (setup(precision=Precision.INT4), "kernels differ widely", Group.FRAGILE),
    ],
)
def test_what_is_fragile_says_why(one: Setup, reason: str, group: Group) -> None:
    found = judge(one)
    assert found.level is Level.FRAGILE
    assert any(reason in each for each in found.reasons)
    assert groups(one, memory(one))[0] is group
    assert found.tpot is not None


def test_close_to_saturation() -> None:
    assert near_saturation(judge(setup()), 0.5) == judge(setup())
    found = near_saturation(judge(setup()), 0.97)
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
    assert found.ttft == band([Group.DENSE], Metric.TTFT)
    over_pcie = judge(replace(setup(gpu="l40s", tp=4), calibration=calibration))
    assert over_pcie.tpot == band([Group.PCIE], Metric.TPOT)  # how far calibrations hold there, nobody knows


def test_a_measured_all_reduce_of_ones_own_host_is_no_guess() -> None:
    """A catalogue's or a user's own figures were called fragile all the same, and asked for once more."""
    one = setup("llama-3.1-70b", gpu="l40s", tp=4, precision=Precision.FP8)
    link = replace(one.gpu.link, assumed=False, all_reduce=AllReduce(start_s={4: 2e-5}, bus={4: 12e9}))
    assert judge(replace(one, gpu=replace(one.gpu, link=link))).level is Level.SUPPORTED


def test_whoever_is_fragile_in_two_ways_has_what_holds_in_both() -> None:
    both, room = setup("mixtral-8x7b", gpu="l40s", tp=4), memory(setup("mixtral-8x7b", gpu="l40s", tp=4))
    assert groups(both, room) == (Group.MOE, Group.PCIE)
    for metric in Metric:
        each = [band([group], metric) for group in (Group.MOE, Group.PCIE)]
        found = band(groups(both, room), metric)
        assert (found.low, found.high) == (min(one.low for one in each), max(one.high for one in each))


def test_every_group_has_a_band_for_every_metric() -> None:
    for group in Group:
        for metric in Metric:
            assert 0.0 < band([group], metric).low <= 1.0 <= band([group], metric).high
