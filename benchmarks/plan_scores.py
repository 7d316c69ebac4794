"""Errors of predictions against points: relative, (predicted - measured) / measured, over any selection of them."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from benchmarks.plan_names import gpu_name
from benchmarks.plan_point import Load, Metric, Point
from headway.plan.bands import Metric as BandMetric
from headway.plan.standing import Level

LOW_LOAD_BATCH = 8
"""TTFT counts as at low load up to so many requests at once: published sweeps of closed loops start at 4 to 8."""


class Figure:
    """Names under which points are scored."""

    TPOT = "tpot"
    THROUGHPUT = "throughput"
    STATIC_E2E = "static_e2e"
    OPEN_E2E = "open_e2e"
    TTFT = "ttft_low_load"
    TTFT_LOADED = "ttft_loaded"
    TTFT_START = "ttft_start_not_stated"
    ALL = (TPOT, THROUGHPUT, STATIC_E2E, OPEN_E2E, TTFT, TTFT_LOADED, TTFT_START)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """``kind``: the group of residuals that the planner counts it to. ``band``: (low, high) that it states for measured
    over predicted; None where it states none."""

    point: Point
    predicted: float
    is_dense: bool
    level: Level
    kind: str
    band: tuple[float, float] | None = None

    @property
    def error(self) -> float:
        return self.predicted / self.point.value - 1.0

    @property
    def banded_as(self) -> BandMetric | None:
        """Whose band it is judged by: seconds of a static batch are its throughput; a first token under load has
        none."""
        return _BANDED_AS.get(self.figure)

    @property
    def band_ratio(self) -> float:
        """Measured over predicted of what the band is for."""
        ratio = self.point.value / self.predicted
        return 1.0 / ratio if self.figure == Figure.STATIC_E2E else ratio

    @property
    def gpu(self) -> str:
        return gpu_name(self.point.gpu)

    @property
    def figure(self) -> str:
        return figure_of(self.point)

    @property
    def is_headline(self) -> bool:
        """Dense models on engines of 2024 and later: what the planner is meant for."""
        return self.is_dense and self.point.is_modern


_BANDED_AS = {
    Figure.TPOT: BandMetric.TPOT,
    Figure.OPEN_E2E: BandMetric.TPOT,
    Figure.THROUGHPUT: BandMetric.THROUGHPUT,
    Figure.STATIC_E2E: BandMetric.THROUGHPUT,
    Figure.TTFT: BandMetric.TTFT,
}


def figure_of(point: Point) -> str:
    match point.metric:
        case Metric.TPOT | Metric.GAP:
            return Figure.TPOT
        case Metric.THROUGHPUT:
            return Figure.THROUGHPUT
        case Metric.E2E:
            return Figure.OPEN_E2E if point.load is Load.OPEN else Figure.STATIC_E2E
        case Metric.TTFT | Metric.PREFILL:
            if point.burst is None:  # a closed loop's mean hinges on how many of its requests came at once
                return Figure.TTFT_START
            is_low = point.load is not Load.OPEN and point.batch is not None and point.batch <= LOW_LOAD_BATCH
            return Figure.TTFT if is_low else Figure.TTFT_LOADED


def quantile(values: Sequence[float], share: float) -> float:
    """Linear between ranks."""
    ordered = sorted(values)
    at = share * (len(ordered) - 1)
    low = math.floor(at)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (at - low)


def summary(scored: Iterable[Scored]) -> dict[str, float | int]:
    """n, median and 90th percentile of the absolute error, signed median."""
    errors = [each.error for each in scored]
    if not errors:
        return {"n": 0}
    sizes = [abs(each) for each in errors]
    return {
        "n": len(errors),
        "median_abs": round(statistics.median(sizes), 4),
        "p90_abs": round(quantile(sizes, 0.9), 4),
        "median_signed": round(statistics.median(errors), 4),
    }


def by_figure(scored: Iterable[Scored], prefix: str) -> dict[str, float | int]:
    """Flat: ``PREFIX.FIGURE.n`` and so on, for every figure that has points."""
    listed = list(scored)
    return {
        f"{prefix}.{figure}.{name}": value
        for figure in Figure.ALL
        for name, value in summary(each for each in listed if each.figure == figure).items()
        if any(each.figure == figure for each in listed)
    }


def by_group(scored: Iterable[Scored], prefix: str, key: Callable[[Scored], str]) -> dict[str, float | int]:
    groups: dict[str, list[Scored]] = {}
    for each in scored:
        groups.setdefault(key(each), []).append(each)
    figures: dict[str, float | int] = {}
    for name in sorted(groups):
        figures |= by_figure(groups[name], f"{prefix}.{name}")
    return figures


def coverage(scored: Iterable[Scored]) -> dict[str, float | int]:
    """Share of points inside the band that goes with each; points without a band are counted apart."""
    listed = list(scored)
    inside = [each.band[0] <= each.band_ratio <= each.band[1] for each in listed if each.band is not None]
    figures: dict[str, float | int] = {"n": len(inside), "without_band": len(listed) - len(inside)}
    if inside:
        figures["share"] = round(sum(inside) / len(inside), 4)
    return figures
