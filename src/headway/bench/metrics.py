"""From records to the figures of a level, by the definitions of ``figures.DEFINITIONS``.

A request belongs to the window if it was to be sent in it; a token, if it came in it. Requests that failed are misses
by cause, and infinite in ``p95_with_misses``; what they did bring (a first token, gaps) is among the values, so that no
latency looks better for a reply that broke off. ``stall`` is over the gaps between chunks: what a reader sees.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from headway.bench.figures import ClassFigures, Quantiles
from headway.bench.judge import GOOD, Judge, token_weights
from headway.bench.record import Outcome, Record
from headway.bench.statistics import quantiles, wilson
from headway.policy.slo import NO_PROMISE, Objective

CLUSTERS_MAX = 64
"""Stretches of time into which gaps are put for their interval: those of one moment come from the same steps."""


def measure(
    records: Sequence[Record],
    window_s: tuple[float, float],
    objectives: Mapping[str, Objective],
    default: Objective = NO_PROMISE,
    *,
    offered_s: float | None = None,
) -> list[ClassFigures]:
    """The figures of all together, then of each class that has a name. ``offered_s``: for how long of the window
    requests were to be sent, if not for all of it; rates of those are over that time."""
    judge = Judge(objectives, default)
    offered_s = window_s[1] - window_s[0] if offered_s is None else offered_s
    names = sorted({each.service_class for each in records if each.service_class})
    figures = [_figures("", records, window_s, offered_s, judge)]
    for name in names:
        of_class = [each for each in records if each.service_class == name]
        figures.append(_figures(name, of_class, window_s, offered_s, judge))
    return figures


def in_window(records: Sequence[Record], window_s: tuple[float, float]) -> list[Record]:
    """Those that were to be sent in [start, end), in that order."""
    start_s, end_s = window_s
    return sorted((each for each in records if start_s <= each.intended_s < end_s), key=lambda each: each.intended_s)


def _figures(
    name: str, records: Sequence[Record], window_s: tuple[float, float], offered_s: float, judge: Judge
) -> ClassFigures:
    start_s, end_s = window_s
    seconds = end_s - start_s
    assert 0.0 < offered_s <= seconds, (window_s, offered_s)
    verdicts = [(each, judge(each)) for each in in_window(records, window_s)]
    asked = [each for each, verdict in verdicts if verdict is not None]
    causes = Counter(verdict for _, verdict in verdicts if verdict is not None)
    good = causes.pop(GOOD, 0)
    whole = [each for each in asked if each.is_ok]
    cached = [each.usage_cached for each in whole if each.usage_cached is not None]
    low, high = wilson(good, len(asked))
    result = ClassFigures(
        name=name,
        offered=len(asked),
        ok=len(whole),
        good=good,
        misses=dict(sorted(causes.items())),
        request_rate=len(asked) / offered_s,
        completed_rate=sum(each.is_ok and start_s <= each.ended_s < end_s for each in records) / seconds,
        goodput=good / offered_s,
        throughput=sum(tokens_between(each, start_s, end_s) for each in records) / seconds,
        prompt_tokens=sum(each.prompt_tokens if each.usage_prompt is None else each.usage_prompt for each in whole),
        output_tokens=sum(each.tokens for each in whole),
        cached_tokens=sum(cached) if cached else None,
        latencies=_latencies(asked),
    )
    if asked:
        result.attainment, result.attainment_low, result.attainment_high = good / len(asked), low, high
    promises = {judge.objective(each.service_class) for each in asked} if not name else {judge.objective(name)}
    if len(promises) == 1:
        (promise,) = promises
        result.ttft_target_s, result.itl_target_s, result.e2e_target_s = promise.ttft_s, promise.itl_s, promise.e2e_s
    return result


def tokens_between(record: Record, start_s: float, end_s: float) -> int:
    """Output tokens that came in [start, end)."""
    first, last = bisect_left(record.chunk_s, start_s), bisect_left(record.chunk_s, end_s)
    return sum(token_weights(record)[first:last]) if first < last else 0


VALUES: dict[str, Callable[[Record], float | None]] = {
    "ttft": lambda record: record.ttft_s,
    "ttft_sent": lambda record: _since(record.sent_s, record.chunk_s[0] if record.chunk_s else None),
    "ttfo": lambda record: _since(record.intended_s, record.visible_s),
    "tpot": lambda record: record.tpot_s,
    "e2e": lambda record: record.e2e_s,
    "stall": lambda record: max(record.chunk_gaps_s(), default=None) if record.is_ok else None,
    "queue": lambda record: record.queue_s,
}
"""What has one value a request, or none."""

_FROM_THE_SERVER = ("queue",)
"""Not every server says these; without one of its values nothing is missed."""


def _since(start_s: float | None, end_s: float | None) -> float | None:
    return None if start_s is None or end_s is None else end_s - start_s


def _latencies(asked: Sequence[Record]) -> dict[str, Quantiles]:
    """``asked`` in the order of their times."""
    found: dict[str, Quantiles | None] = {}
    for name, value_of in VALUES.items():
        values = [value for each in asked if (value := value_of(each)) is not None]
        missed = sum(value_of(each) is None for each in asked if not each.is_ok)
        found[name] = quantiles(values, misses=None if name in _FROM_THE_SERVER else missed)
    found["chunk_gap"] = _of_gaps(asked, Record.chunk_gaps_s)
    if is_counted(asked):
        is_same = all(each.is_token_by_token for each in asked)
        found["itl"] = found["chunk_gap"] if is_same else _of_gaps(asked, lambda record: list(record.gaps_s()))
    return {name: each for name, each in found.items() if each is not None}


def is_counted(records: Sequence[Record]) -> bool:
    """Whether the gaps between tokens can be told: in every whole reply. (One that broke off never says.)"""
    return all(each.is_counted for each in records if each.outcome is Outcome.OK and len(each.chunk_s) > 1)


def _of_gaps(asked: Sequence[Record], gaps_of: Callable[[Record], list[float]]) -> Quantiles | None:
    clusters = in_clusters(asked, gaps_of, CLUSTERS_MAX)
    return quantiles([gap_s for each in clusters for gap_s in each], clusters=clusters)


def in_clusters(asked: Sequence[Record], values_of: Callable[[Record], list[float]], most: int) -> list[list[float]]:
    """The values of neighbours in time together: at most so many lists, each of about as many requests."""
    count = min(most, len(asked))
    clusters: list[list[float]] = [[] for _ in range(count)]
    for index, record in enumerate(asked):
        clusters[index * count // len(asked)] += values_of(record)
    return clusters
