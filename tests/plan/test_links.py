"""All-reduces against measured ones, and where nobody measured."""

from __future__ import annotations

import pytest

from headway.plan.catalogue import find_gpu, gpus
from headway.plan.errors import PlanError
from headway.plan.gpu import AllReduce, Link
from headway.plan.links import all_reduce
from tests.plan.setups import plain_gpu


@pytest.mark.parametrize(
    ("size", "measured_us"), [(128 << 10, 7.8), (1 << 20, 14.8), (8 << 20, 51.0), (32 << 20, 178.0)]
)
def test_h100_all_reduce_of_eight(size: int, measured_us: float) -> None:
    assert all_reduce(find_gpu("h100-sxm", gpus()), 8).seconds(size) * 1e6 == pytest.approx(measured_us, rel=0.2)


@pytest.mark.parametrize(
    ("gpu", "tp", "start_us", "bus"), [("h100-sxm", 4, 4.6, 340e9), ("a100-80-sxm", 8, 6.3, 216e9)]
)
def test_small_messages_cost_the_start_and_large_ones_the_bus(gpu: str, tp: int, start_us: float, bus: float) -> None:
    found = all_reduce(find_gpu(gpu, gpus()), tp)
    assert found.seconds(0) * 1e6 == pytest.approx(start_us)
    ring_s = 2 * (tp - 1) / tp * 256e6 / bus
    assert found.seconds(256e6) == pytest.approx(ring_s, rel=0.1)
    assert not found.assumed


def test_one_gpu_reduces_nothing() -> None:
    assert all_reduce(plain_gpu(), 1).seconds(1e6) == 0.0


def test_sizes_between_measured_ones() -> None:
    link = Link(
        kind="nvswitch",
        bandwidth=300e9,
        most=16,
        all_reduce=AllReduce(start_s={2: 4e-6, 8: 8e-6}, bus={2: 1e11, 8: 2e11}),
    )
    gpu = plain_gpu(link=link)
    assert all_reduce(gpu, 4).seconds(0) == pytest.approx(6e-6)
    assert not all_reduce(gpu, 4).assumed
    assert all_reduce(gpu, 16).seconds(0) == pytest.approx(8e-6)
    assert all_reduce(gpu, 16).assumed


@pytest.mark.parametrize("kind", ["nvswitch", "nvlink-bridge", "xgmi", "pcie"])
def test_unmeasured_links_are_assumed_and_slower_with_more_gpus(kind: str) -> None:
    gpu = plain_gpu(link=Link(kind=kind, bandwidth=64e9, most=8))
    two, eight = all_reduce(gpu, 2), all_reduce(gpu, 8)
    assert two.assumed
    assert two.seconds(1e6) < eight.seconds(1e6)


def test_more_gpus_than_the_link_joins() -> None:
    with pytest.raises(PlanError, match=r"Plain: 4 GPUs are more than one link domain joins \(2\)"):
        all_reduce(plain_gpu(link=Link(kind="nvlink-bridge", bandwidth=3e11, most=2)), 4)
