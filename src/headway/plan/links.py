"""What it costs GPUs to add up their shares of a layer's output over the link that joins them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

from headway.plan.errors import PlanError
from headway.plan.gpu import Gpu, Link

BETWEEN = 1.3
"""Messages of middling size pay more than start and bandwidth together: the ring's steps are latency-bound still. Fits
aiconfigurator's H100 figures (8 GPUs, 128 KB to 32 MB: 7.8, 14.8, 51, 178 us) within 10 %; the sum alone falls short by
24 to 39 %."""

_ASSUMED = {  # kind: (seconds to start for 2 GPUs, seconds for each further doubling, share of the link's bandwidth)
    "nvswitch": (5e-6, 0.5e-6, 0.7),
    "nvlink-bridge": (6e-6, 3e-6, 0.6),
    "xgmi": (10e-6, 3e-6, 0.5),
    "pcie": (12e-6, 8e-6, 0.45),
}
"""Set by hand, but for the share of PCIe: fitted to 28 throughputs of TensorRT-LLM 0.9 and 0.14 on A100 PCIe and L40S,
2 to 8 GPUs. Hosts reach from 0.06 to 0.8 of it (root complex, peer access, sockets)."""


@dataclass(frozen=True, slots=True)
class AllReduceTime:
    """Of one all-reduce over the GPUs of a replica: of S bytes, seconds = ``start_s`` + r + ``BETWEEN`` *
    sqrt(``start_s`` * r), with r = S * ``byte_s``. ``assumed``: from the kind of link, or for fewer
    GPUs."""

    start_s: float
    byte_s: float
    assumed: bool

    def seconds(self, size: float) -> float:
        ring_s = size * self.byte_s
        return self.start_s + ring_s + BETWEEN * math.sqrt(self.start_s * ring_s)


def all_reduce(gpu: Gpu, tp: int) -> AllReduceTime:
    """For ``tp`` GPUs of one server. Raises ``PlanError`` where the link joins fewer."""
    if tp == 1:
        return AllReduceTime(0.0, 0.0, assumed=False)
    link = gpu.link
    if tp > link.most:
        raise PlanError(
            f"{gpu.title}: {tp} GPUs are more than one link domain joins ({link.most}); use fewer, or replicas"
        )
    measured = link.all_reduce
    ring = 2 * (tp - 1) / tp
    if measured is None:
        start_s, bus = _assumed(link, tp)
    else:
        start_s, bus = _at(measured.start_s, tp), _at(measured.bus, tp)
    is_assumed = measured is None or link.assumed or not min(measured.bus) <= tp <= max(measured.bus)
    return AllReduceTime(start_s, ring / bus, assumed=is_assumed)


def _assumed(link: Link, tp: int) -> tuple[float, float]:
    start_s, doubling_s, share = _ASSUMED[link.kind]
    return start_s + doubling_s * math.log2(tp / 2), share * link.bandwidth


def _at(measured: Mapping[int, float], tp: int) -> float:
    """The value for ``tp`` GPUs: on a line over log size between measured sizes, held beyond them."""
    points = sorted(measured.items())
    for (low, at_low), (high, at_high) in pairwise(points):
        if low <= tp <= high:
            return at_low + (at_high - at_low) * math.log(tp / low) / math.log(high / low)
    return points[0][1] if tp < points[0][0] else points[-1][1]
