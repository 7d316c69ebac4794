"""Bands from residuals, and what they cover where they were not made: without a source, without a GPU.

Residuals of one source are more alike than those of two, so what holds 90 % of all residuals holds less of the next
source. Bands are therefore made wider, on a log scale, by the one factor with which bands made without each source in
turn hold 90 % of it (as in cross-conformal prediction, with sources for folds). Where that is itself judged without a
source or a GPU, the factor is found without it, too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date

from benchmarks.plan_scores import Scored, coverage
from headway.plan.bands import Group, Metric
from headway.sim.record import nearest_rank

SHARE = 0.90
"""Of measured values that a band is meant to hold."""
LEAST = 12
"""Points that a band needs; groups with fewer take the band of all groups, and their own extremes where they are out
of it."""
ANY = "any"


@dataclass(frozen=True, slots=True)
class Interval:
    """``low`` to ``high`` of measured over predicted, from ``n`` points of ``sources`` sources."""

    low: float
    high: float
    n: int
    sources: int


Bands = Mapping[tuple[str, Metric], Interval]
"""By group and metric."""


def is_for_bands(each: Scored) -> bool:
    """What bands are made from: what has one, on engines of 2024 and later; eager ones besides, which are all older."""
    return each.banded_as is not None and (each.point.is_modern or each.kind == Group.EAGER)


def fit_bands(scored: Iterable[Scored], widening: float = 1.0) -> Bands:
    """By group and metric, and of all groups together (``ANY``); ``widening`` times as wide, in log space."""
    groups: dict[tuple[str, Metric], list[Scored]] = {}
    for each in filter(is_for_bands, scored):
        assert each.banded_as is not None
        groups.setdefault((each.kind, each.banded_as), []).append(each)
        groups.setdefault((ANY, each.banded_as), []).append(each)
    enough = {key: interval(each) for key, each in groups.items() if len(each) >= LEAST}
    few = {key: _widened(enough[ANY, key[1]], each) for key, each in groups.items() if (ANY, key[1]) in enough}
    return {
        key: replace(each, low=each.low**widening, high=each.high**widening) for key, each in (few | enough).items()
    }


def widening(scored: Sequence[Scored]) -> float:
    """What bands take to hold ``SHARE`` of the points of sources that they were made without; at least 1."""
    sources = {each.point.source for each in scored}
    apart = [
        each
        for name in sorted(sources)
        for each in banded(
            (one for one in scored if one.point.source == name),
            fit_bands(one for one in scored if one.point.source != name),
        )
    ]
    needed = [_needed(each) for each in apart if each.band is not None]
    return max(1.0, nearest_rank(sorted(needed), SHARE)) if needed else 1.0


def _needed(each: Scored) -> float:
    """How many times as wide its band would have to be, to hold it."""
    assert each.band is not None
    at, (low, high) = math.log(each.band_ratio), each.band
    edge = math.log(high if at > 0.0 else low)
    return at / edge if edge else math.inf if at else 0.0


def _widened(of_all: Interval, scored: Sequence[Scored]) -> Interval:
    ratios = [each.band_ratio for each in scored]
    return replace(of_all, low=min(of_all.low, *ratios), high=max(of_all.high, *ratios))


def interval(scored: Sequence[Scored]) -> Interval:
    """Of residuals on a log scale, ranks taken so that the next point falls within with at least ``SHARE`` (as in
    conformal prediction); the extremes where there are too few points for that. Always holds the prediction itself."""
    ordered = sorted(math.log(each.band_ratio) for each in scored)
    n = len(ordered)
    low = max(0, math.floor((n + 1) * (1.0 - SHARE) / 2.0) - 1)
    high = min(n - 1, math.ceil((n + 1) * (1.0 + SHARE) / 2.0) - 1)
    return Interval(
        low=math.exp(min(0.0, ordered[low])),
        high=math.exp(max(0.0, ordered[high])),
        n=n,
        sources=len({each.point.source for each in scored}),
    )


def banded(scored: Iterable[Scored], bands: Bands) -> list[Scored]:
    found = []
    for each in scored:
        metric = each.banded_as
        band = (bands.get((each.kind, metric)) or bands.get((ANY, metric))) if metric is not None else None
        found.append(replace(each, band=(band.low, band.high) if band else None))
    return found


def left_out(scored: Sequence[Scored], key: Callable[[Scored], str]) -> list[Scored]:
    """Every group judged by bands that were made, and widened, without it."""
    found: list[Scored] = []
    for name in sorted({key(each) for each in scored}):
        rest = [each for each in scored if key(each) != name]
        bands = fit_bands(rest, widening(rest))
        found += banded([each for each in scored if key(each) == name], bands)
    return found


def bands_toml(scored: Sequence[Scored], groups: Sequence[str]) -> str:
    """The planner's ``data/bands.toml``. ``coverage``: of every source by bands made without it."""
    used = [each for each in scored if is_for_bands(each)]
    wider = widening(used)
    bands = fit_bands(used, wider)
    apart = left_out(used, lambda each: each.point.source)
    lines = [
        "# Factors on a prediction that hold 90 % of measured values, from residuals of published points, each",
        "# predicted with constants that were fitted without its source (without its GPU where there is one source).",
        f"# Wider by a power of {wider:.3f}, with which bands made without a source hold 90 % of its points.",
        "# Written by: python -m benchmarks plan points --points FILE --write-bands THIS",
        f'date = "{date.today().isoformat()}"',
    ]
    for group in groups:
        lines += ["", f"[bands.{group}]"]
        for metric in (Metric.TPOT, Metric.THROUGHPUT, Metric.TTFT):
            band = bands.get((group, metric)) or bands.get((ANY, metric))
            if band is None:
                continue
            own = [each for each in apart if each.kind == group and each.banded_as is metric]
            of_all = len(own) < LEAST
            covered = coverage(own)
            source = f"{band.sources} published source{'s' if band.sources > 1 else ''}"
            if of_all:
                source += f", of all groups{f' and the extremes of these {len(own)}' if own else ''}"
            share = f", coverage = {covered['share']:.2f}" if "share" in covered else ""
            lines.append(
                f'{metric.value} = {{ low = {band.low:.3f}, high = {band.high:.3f}, n = {band.n}, source = "{source}"'
                f"{share} }}"
            )
    return "\n".join(lines) + "\n"
