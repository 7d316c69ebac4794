"""How sure a figure is: quantiles, intervals and tests in plain Python, for samples of up to millions.

quantiles            one sort, nearest rank, with the interval of p95
rank_interval        between which order statistics a quantile lies (binomial)
clustered_interval   the same for values that come in groups that are alike
wilson, decided      shares, and whether one is surely above or below a target
mann_whitney         whether two samples come from the same distribution
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Sequence

from headway.bench.figures import Quantiles

P95 = 0.95
NORMAL_95 = 1.959964
"""97.5 % quantile of the normal distribution: two-sided 95 %."""
EXACT_MAX = 5000
"""Largest sample whose binomial distribution is summed up; above, it is normal to within a rank."""

Interval = tuple[float | None, float | None]
"""None: not bounded on that side."""


def rank(n: int, share: float) -> int:
    """Nearest rank, from 1: the smallest k such that k of ``n`` values are at least ``share`` of them."""
    return max(1, math.ceil(n * share - 1e-9))  # 0.95 * 20 is a little more than 19 in binary


def nearest_rank(ordered: Sequence[float], share: float) -> float:
    """The smallest value that at least ``share`` of the ``ordered`` values are not above. There must be one."""
    return ordered[rank(len(ordered), share) - 1]


def quantiles(
    values: Iterable[float], *, misses: int | None = None, clusters: Sequence[Sequence[float]] | None = None
) -> Quantiles | None:
    """None without values. ``misses``: requests that have no value because they failed (each counts as infinite in
    ``p95_with_misses``); None: the values are not one a request.

    ``clusters``: the same values in groups; then the interval of p95 is that of ``clustered_interval``.
    """
    ordered = sorted(values)
    n = len(ordered)
    if not n:
        return None
    low, high = rank_interval(ordered) if clusters is None else clustered_interval(ordered, clusters)
    with_misses = None
    if misses is not None and (all_rank := rank(n + misses, P95)) <= n:
        with_misses = ordered[all_rank - 1]
    return Quantiles(
        n=n,
        mean=sum(ordered) / n,
        p50=nearest_rank(ordered, 0.5),
        p90=nearest_rank(ordered, 0.9),
        p95=nearest_rank(ordered, P95),
        p99=nearest_rank(ordered, 0.99),
        max=ordered[-1],
        p95_low=low,
        p95_high=high,
        p95_with_misses=with_misses,
    )


def rank_interval(ordered: Sequence[float], share: float = P95) -> Interval:
    """95 % interval of the ``share`` quantile of what the ``ordered`` values are an independent sample of.

    How many of n values are below the true quantile is binomial, whatever the distribution (David and Nagaraja, Order
    Statistics, 7.1). The upper end of p95 takes 72 values, the lower 2.
    """
    n = len(ordered)
    low, high = _ranks_exact(n, share) if n <= EXACT_MAX else _ranks_normal(n, share)
    return (ordered[low - 1] if low >= 1 else None), (ordered[high - 1] if high <= n else None)


def _ranks_exact(n: int, share: float) -> tuple[int, int]:
    """The largest rank below the quantile, and the smallest above it, each but for 2.5 % of samples; 0 and n + 1 if
    there is none. Summed from the top: how many values are above the quantile has the short tail."""
    above, probability, total = 0, share**n, 0.0
    high = n + 1
    while above <= n:
        total += probability  # P(at most ``above`` are above), so P(at least n - above are at or below)
        if total <= 0.025:
            high = n - above
        if total >= 0.975:
            # P(fewer than n - above are below) = 1 - total
            return n - above, high
        probability *= (n - above) / (above + 1) * (1.0 - share) / share
        above += 1
    return 0, high


def _ranks_normal(n: int, share: float) -> tuple[int, int]:
    half = NORMAL_95 * math.sqrt(n * share * (1.0 - share))
    return math.floor(n * share - half), math.ceil(n * share + half) + 1


def clustered_interval(
    ordered: Sequence[float], clusters: Sequence[Sequence[float]], share: float = P95, critical: float = NORMAL_95
) -> Interval:
    """Interval of a quantile of values that come in ``clusters`` that are alike within (the gaps of one reply, the
    requests of one moment): they are worth fewer independent ones, and taking them for such makes any p95 look sure.

    The share of values above the quantile is a ratio over clusters; its standard error, by linearisation, is turned
    into ranks (Woodruff 1952; Francisco and Fuller 1991). ``ordered``: all values of all clusters. ``critical``: half
    of the width in standard errors. Not narrower than for independent values; not bounded with fewer than two clusters.
    """
    n, filled = len(ordered), [each for each in clusters if each]
    if len(filled) < 2:
        return None, None
    at = nearest_rank(ordered, share)
    late_share = (n - bisect_right(ordered, at)) / n
    spread = sum((sum(value > at for value in each) - late_share * len(each)) ** 2 for each in filled)
    error = math.sqrt(spread * len(filled) / (len(filled) - 1)) / n
    half = critical * max(error, math.sqrt(share * (1.0 - share) / n)) * n
    low, high = math.floor(n * share - half), math.ceil(n * share + half) + 1
    return (ordered[low - 1] if low >= 1 else None), (ordered[high - 1] if high <= n else None)


def wilson(k: float, n: int, critical: float = NORMAL_95) -> tuple[float, float]:
    """95 % interval of a share of which ``k`` of ``n`` were seen (Wilson 1927); 0 to 1 if nothing was."""
    assert 0 <= k <= n, (k, n)
    if not n:
        return 0.0, 1.0
    squared, share = critical * critical, k / n
    middle = share + squared / (2 * n)
    half = critical * math.sqrt(share * (1.0 - share) / n + squared / (4 * n * n))
    scale = 1.0 + squared / n
    return max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale)


def decided(k: int, n: int, target: float) -> bool | None:
    """Whether the share is at least ``target``: surely so, surely not, or None: ``n`` is too few to tell."""
    low, high = wilson(k, n)
    if low >= target:
        return True
    return False if high < target else None


def clustered_share(clusters: Sequence[tuple[float, int]], critical: float = NORMAL_95) -> tuple[float, float]:
    """The same for (good, all) of groups that are alike within; not narrower than Wilson's."""
    k, n = sum(good for good, _ in clusters), sum(count for _, count in clusters)
    low, high = wilson(k, n, critical)
    filled = [each for each in clusters if each[1]]
    if len(filled) < 2:
        return 0.0, 1.0
    share = k / n
    spread = sum((good - share * count) ** 2 for good, count in filled)
    half = critical * math.sqrt(spread * len(filled) / (len(filled) - 1)) / n
    return max(0.0, min(low, share - half)), min(1.0, max(high, share + half))


def student_t(normal: float, freedom: int) -> float:
    """The quantile of Student's distribution where the normal one has ``normal``, from 5 degrees of freedom up to 1 %
    (Cornish and Fisher's expansion; Abramowitz and Stegun 26.7.5)."""
    z = normal
    first = (z**3 + z) / (4 * freedom)
    second = (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
    return z + first + second + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * freedom**3)


def difference(first: tuple[float, Interval], second: tuple[float, Interval]) -> Interval:
    """Interval of ``second`` - ``first``, each a value with its own interval, from independent samples.

    Squares of the distances to the ends add up (Zou and Donner 2008; for shares Newcombe's)."""
    (a, (a_low, a_high)), (b, (b_low, b_high)) = first, second
    low = None if a_high is None or b_low is None else b - a - math.hypot(b - b_low, a_high - a)
    high = None if a_low is None or b_high is None else b - a + math.hypot(b_high - b, a - a_low)
    return low, high


SAMPLES_MAX = 1_000_000


def samples_needed(share: float, target: float) -> int | None:
    """How many samples with ``share`` of them good would decide on ``target``; None: more than ``SAMPLES_MAX``.

    From the width of Wilson's interval where it touches the target: n = z² p₀(1 - p₀) / (p - p₀)².
    """
    if share == target:
        return None
    needed = math.ceil(NORMAL_95**2 * target * (1.0 - target) / (share - target) ** 2 - 1e-9)
    return needed if needed <= SAMPLES_MAX else None


def mann_whitney(first: Sequence[float], second: Sequence[float]) -> float:
    """Probability of samples at least this far apart if both came from one distribution: two-sided, by the normal
    approximation with ties and continuity (Mann and Whitney 1947). 1 where one is empty. Good from 8 values each."""
    n, m = len(first), len(second)
    if not n or not m:
        return 1.0
    merged = sorted([(value, True) for value in first] + [(value, False) for value in second])
    ranks, ties, at = 0.0, 0.0, 0
    while at < len(merged):
        end = at
        while end < len(merged) and merged[end][0] == merged[at][0]:
            end += 1
        ranks += (at + 1 + end) / 2 * sum(is_first for _, is_first in merged[at:end])
        ties += (end - at) ** 3 - (end - at)
        at = end
    all_of_them = n + m
    variance = n * m / 12 * (all_of_them + 1 - ties / (all_of_them * (all_of_them - 1)))
    if variance <= 0.0:
        return 1.0
    distance = abs(ranks - n * (n + 1) / 2 - n * m / 2)
    return math.erfc(max(0.0, distance - 0.5) / math.sqrt(2.0 * variance))
