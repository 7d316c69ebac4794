"""One figure of two runs, and whether it changed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import StrEnum

import msgspec

from headway.bench.figures import ClassFigures, Level
from headway.bench.judge import GOOD, Judge
from headway.bench.metrics import VALUES, in_clusters, in_window, tokens_between
from headway.bench.record import Record
from headway.bench.statistics import (
    Interval,
    clustered_interval,
    clustered_share,
    difference,
    mann_whitney,
    nearest_rank,
    student_t,
)
from headway.bench.window import life_of
from headway.policy.slo import Objective

NORMAL_99 = 2.575829
CHANCE_MAX = 0.01
STRETCHES_MAX, STRETCHES_MIN = 32, 8
SHARES = {"p50": 0.5, "p95": 0.95}
LATENCIES = ("ttft", "tpot", "e2e", "stall", "queue")
"""Of those with one value a request."""


class Sureness(StrEnum):
    REAL = "real"
    NOISE = "noise"
    UNKNOWN = "too few"


class Change(msgspec.Struct, kw_only=True):
    """One figure of one class (empty: all together) in both runs; None: infinite, because too many requests failed.

    ``low`` to ``high``: 99 % interval of ``after`` - ``before``; None where there is none. ``why``: of ``sureness``.
    """

    figure: str
    """A name in ``figures.DEFINITIONS``, with the quantile: "ttft p95", "goodput"."""
    service_class: str = ""
    before: float | None
    after: float | None
    low: float | None = None
    high: float | None = None
    sureness: Sureness
    why: str

    @property
    def ratio(self) -> float | None:
        """``after`` over ``before``."""
        return self.after / self.before if self.before and self.after is not None else None


class Side:
    """One level of one run, with what its requests are worth as evidence."""

    def __init__(self, level: Level, records: Sequence[Record]) -> None:
        self.level, self.records = level, records
        self.figures = {each.name: each for each in level.classes}
        self.asked = in_window(records, level.window_s)
        self.seconds = level.window_s[1] - level.window_s[0]
        self.life_s = life_of(self.asked)
        lives = self.seconds / self.life_s if self.life_s else STRETCHES_MAX
        self.stretches = min(STRETCHES_MAX, max(1, math.floor(lives)))
        self.critical = student_t(NORMAL_99, max(self.stretches, STRETCHES_MIN) - 1)

    @property
    def has_figures_only(self) -> bool:
        return not self.records and any(each.offered for each in self.level.classes)

    def of_class(self, name: str, records: Sequence[Record]) -> list[Record]:
        return [each for each in records if not name or each.service_class == name]

    def promises(self) -> dict[str, Objective]:
        return {name: _promise(each) for name, each in self.figures.items()}

    def judge(self) -> Judge:
        promises = self.promises()
        return Judge({name: each for name, each in promises.items() if name}, promises.get("", Objective()))


def _promise(figures: ClassFigures) -> Objective:
    return Objective(ttft_s=figures.ttft_target_s, itl_s=figures.itl_target_s, e2e_s=figures.e2e_target_s)


def by_figures(before: ClassFigures, after: ClassFigures) -> list[Change]:
    """Where the single requests are not there: by the 95 % intervals of the figures, which take requests for
    independent of one another, or not at all."""
    changes = []
    for name in (each for each in before.latencies if each in after.latencies):
        one, two = before.latencies[name], after.latencies[name]
        changes.append(_by_intervals(f"{name} p50", (one.p50, (None, None)), (two.p50, (None, None))))
        sides = ((each.p95, (each.p95_low, each.p95_high)) for each in (one, two))
        changes.append(_by_intervals(f"{name} p95", *sides))
    if before.attainment is not None and after.attainment is not None:
        one_share = before.attainment, (before.attainment_low, before.attainment_high)
        two_share = after.attainment, (after.attainment_low, after.attainment_high)
        changes.append(_by_intervals("attainment", one_share, two_share))
    for name in ("throughput", "goodput"):
        changes.append(_by_intervals(name, (getattr(before, name), (None, None)), (getattr(after, name), (None, None))))
    for each in changes:
        each.service_class = before.name
    return changes


def _by_intervals(figure: str, before: tuple[float, Interval], after: tuple[float, Interval]) -> Change:
    low, high = difference(before, after)
    sureness, why = Sureness.UNKNOWN, "there are no single requests to tell from, only figures"
    if (low is not None and low > 0.0) or (high is not None and high < 0.0):
        sureness, why = Sureness.REAL, "by the 95 % intervals of the figures alone"
    elif low is not None and high is not None:
        sureness, why = Sureness.NOISE, "by the 95 % intervals of the figures alone"
    return Change(figure=figure, before=before[0], after=after[0], sureness=sureness, why=why)


def latencies(before: Side, after: Side, service_class: str) -> list[Change]:
    changes = []
    for name in LATENCIES:

        def values_of(record: Record, name: str = name) -> list[float]:
            value = VALUES[name](record)
            if value is None and not record.is_ok and name != "queue":
                return [math.inf]
            return [] if value is None else [value]

        clusters = [
            in_clusters(side.of_class(service_class, side.asked), values_of, side.stretches) for side in (before, after)
        ]
        changes += _quantiles(before, after, clusters, name, service_class)
    return changes


def gaps_compared(before: ClassFigures, after: ClassFigures) -> str | None:
    """What both have of gaps between tokens; None: not the same."""
    has_itl = {"itl" in each.latencies for each in (before, after) if "chunk_gap" in each.latencies}
    if len(has_itl) > 1:
        return None
    return "itl" if has_itl == {True} else "chunk_gap"


def gaps(before: Side, after: Side, service_class: str, name: str) -> list[Change]:
    def values_of(record: Record) -> list[float]:
        return list(record.gaps_s()) if name == "itl" else record.chunk_gaps_s()

    clusters = [
        in_clusters(side.of_class(service_class, side.asked), values_of, side.stretches) for side in (before, after)
    ]
    return _quantiles(before, after, clusters, name, service_class)


def _quantiles(
    before: Side, after: Side, clusters: Sequence[list[list[float]]], name: str, service_class: str
) -> list[Change]:
    ordered = [sorted(value for each in side for value in each) for side in clusters]
    if not all(ordered):
        return []
    changes = []
    merged = sorted([*ordered[0], *ordered[1]])
    for quantile, share in SHARES.items():
        one, two = (
            (nearest_rank(values, share), clustered_interval(values, groups, share, side.critical))
            for values, groups, side in zip(ordered, clusters, (before, after), strict=True)
        )
        interval = difference(one, two) if math.isfinite(one[0]) and math.isfinite(two[0]) else (None, None)
        change = _change(before, after, (one[0], two[0]), interval)
        _compare_late(change, before, after, clusters, nearest_rank(merged, share))
        change.figure, change.service_class = f"{name} {quantile}", service_class
        changes.append(change)
    return changes


def _compare_late(
    change: Change, before: Side, after: Side, clusters: Sequence[list[list[float]]], common: float
) -> None:
    """Whether a quantile changed is told by the shares of values above the ``common`` one of both runs (those at it
    count half): unlike the quantiles themselves, these always have an interval."""
    if min(before.stretches, after.stretches) < STRETCHES_MIN:
        return
    shares: list[tuple[float, Interval]] = []
    for side, groups in zip((before, after), clusters, strict=True):
        counts = [(sum((value > common) + (value == common) / 2 for value in each), len(each)) for each in groups]
        share = sum(late for late, _ in counts) / sum(count for _, count in counts)
        shares.append((share, clustered_share(counts, side.critical)))
    low, high = difference(*shares)
    if (low is not None and low > 0.0) or (high is not None and high < 0.0):
        change.sureness = Sureness.REAL
        common_one = f"{common * 1000:.4g} ms" if math.isfinite(common) else "any value"
        change.why = (
            f"{shares[0][0]:.1%} and {shares[1][0]:.1%} of values are above {common_one}, which is more than chance"
        )
    elif change.sureness is Sureness.REAL:
        change.sureness, change.why = Sureness.NOISE, "the shares of values above the common quantile differ by chance"


def kept(before: Side, after: Side, service_class: str) -> list[Change]:
    """Attainment."""
    sides: list[tuple[float, Interval]] = []
    for side in (before, after):
        judge = side.judge()

        def values_of(record: Record, judge: Judge = judge) -> list[float]:
            verdict = judge(record)
            return [] if verdict is None else [float(verdict == GOOD)]

        verdicts = in_clusters(side.of_class(service_class, side.asked), values_of, side.stretches)
        counts = [(round(sum(each)), len(each)) for each in verdicts]
        asked = sum(count for _, count in counts)
        if not asked:
            return []
        sides.append((sum(good for good, _ in counts) / asked, clustered_share(counts, side.critical)))
    change = _change(before, after, [sides[0][0], sides[1][0]], difference(*sides))
    change.figure, change.service_class = "attainment", service_class
    return [change]


def _change(before: Side, after: Side, values: Sequence[float], interval: Interval) -> Change:
    low, high = (end if end is not None and math.isfinite(end) else None for end in interval)
    sureness, why = (
        Sureness.UNKNOWN,
        f"{len(before.asked)} and {len(after.asked)} requests like these are too few to tell",
    )
    if min(before.stretches, after.stretches) < STRETCHES_MIN:
        why = _too_short(before, after)
    elif (low is not None and low > 0.0) or (high is not None and high < 0.0):
        sureness, why = Sureness.REAL, "0 is outside the 99 % interval of the difference"
    elif interval[0] is not None and interval[1] is not None:
        sureness, why = Sureness.NOISE, "0 is within the 99 % interval of the difference"
    one, two = (value if math.isfinite(value) else None for value in values)
    return Change(figure="", before=one, after=two, low=low, high=high, sureness=sureness, why=why)


def _too_short(before: Side, after: Side) -> str:
    seconds, life_s = min(before.seconds, after.seconds), max(before.life_s, after.life_s)
    return f"{seconds:.3g} s are too short to know how a figure varies: it takes {STRETCHES_MIN * life_s:.3g} s"


def rates(before: Side, after: Side, service_class: str) -> list[Change]:
    """Throughput and goodput, stretch by stretch."""
    changes = []
    for name in ("throughput", "goodput"):
        found = [_rates_of(side, service_class, name) for side in (before, after)]
        chance = mann_whitney(found[0], found[1])
        if min(before.stretches, after.stretches) < STRETCHES_MIN:
            sureness, why = Sureness.UNKNOWN, _too_short(before, after)
        else:
            sureness = Sureness.REAL if chance < CHANCE_MAX else Sureness.NOISE
            why = f"chance alone: {chance:.2g} (rank test over {len(found[0])} and {len(found[1])} stretches of time)"
        one, two = (getattr(side.figures[service_class], name) for side in (before, after))
        changes.append(
            Change(figure=name, service_class=service_class, before=one, after=two, sureness=sureness, why=why)
        )
    return changes


def _rates_of(side: Side, service_class: str, name: str) -> list[float]:
    count, start_s = side.stretches, side.level.window_s[0]
    step_s = side.seconds / count
    totals = [0.0] * count
    if name == "goodput":
        judge = side.judge()
        for record in side.of_class(service_class, side.asked):
            totals[min(count - 1, int((record.intended_s - start_s) / step_s))] += judge(record) == GOOD
    else:
        for record in side.of_class(service_class, side.records):
            if not record.chunk_s:
                continue
            first = max(0, int((record.chunk_s[0] - start_s) / step_s))
            last = min(count - 1, int((record.chunk_s[-1] - start_s) / step_s))
            for index in range(first, last + 1):
                totals[index] += tokens_between(record, start_s + index * step_s, start_s + (index + 1) * step_s)
    return [total / step_s for total in totals]
