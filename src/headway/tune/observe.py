"""From the levels that were measured at one load to what the search wants to know of it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import msgspec

from headway.bench.figures import Level
from headway.bench.judge import GOOD, Judge
from headway.bench.metrics import CLUSTERS_MAX, VALUES, in_clusters, in_window
from headway.bench.record import Outcome, Record
from headway.bench.statistics import clustered_interval, clustered_share, nearest_rank
from headway.policy.objectives import PARTS
from headway.policy.slo import LATE_GAPS_SHARE, NO_PROMISE, TARGET_ATTAINMENT, Objective
from headway.tune.observation import FAILURES, MISSES, Measured, Observation

P95 = 1.0 - LATE_GAPS_SHARE


@dataclass(frozen=True, slots=True)
class Promise:
    """``objectives`` by service class; ``default``: of requests that name none. ``names``: the classes there are in the
    workload; empty: requests name none."""

    default: Objective = NO_PROMISE
    objectives: Mapping[str, Objective] = field(default_factory=dict)
    names: tuple[str, ...] = ()

    def held(self) -> Iterator[tuple[str, Objective]]:
        """Each class that something is promised to; its name is empty where there is but one promise."""
        if not self.names:
            yield "", self.default
            return
        for name in self.names:
            objective = self.objectives.get(name, self.default)
            if not objective.is_empty:
                yield name if len(self.names) > 1 else "", objective

    @property
    def targets(self) -> dict[str, float]:
        """What a closed loop is held against: p95 of each part, and the share of requests that fail."""
        parts = {
            f"{name} {part}".strip(): value
            for name, objective in self.held()
            for part in PARTS
            if (value := getattr(objective, f"{part}_s")) is not None
        }
        return parts | {FAILURES: 1.0 - TARGET_ATTAINMENT} if parts else {}


@dataclass(frozen=True, slots=True)
class Measurement:
    """One run at a load, and the requests of it."""

    level: Level
    records: Sequence[Record]

    @property
    def void(self) -> str | None:
        """Why nothing follows from it."""
        if self.level.state != "complete":
            return self.level.reason or self.level.state
        if self.level.client.bound is not None:
            return self.level.client.bound
        return (
            None if self.level.classes and self.level.classes[0].offered else "no request fell into its steady window"
        )

    def asked(self, judge: Judge) -> list[Record]:
        """Those of the window that can be told, in the order of their times."""
        return [each for each in in_window(self.records, self.level.window_s) if judge(each) is not None]


def observe(measurements: Sequence[Measurement], promise: Promise) -> Observation:
    """Of all runs at one load, raw values pooled. The last one decides whether it is void: earlier ones were not."""
    last = measurements[-1]
    if last.void is not None:
        return Observation(void=last.void, is_client_bound=last.level.client.bound is not None)
    judge = Judge(promise.objectives, promise.default)
    asked = _joined(measurements, judge)
    parts: dict[str, Measured] = {}
    for name, objective in promise.held():
        of_class = [each for each in asked if not name or each.service_class == name]
        for part in PARTS:
            if getattr(objective, f"{part}_s") is not None and of_class:
                parts[f"{name} {part}".strip()] = _p95(of_class, part)
    parts[FAILURES] = _share(asked, [each.outcome not in (Outcome.OK, Outcome.CUT) for each in asked])
    parts[MISSES] = _share(asked, [judge(each) != GOOD for each in asked])
    levels = [each.level for each in measurements if each.level.classes]
    seconds = [level.window_s[1] - level.window_s[0] for level in levels]
    return Observation(
        parts=parts,
        samples=len(asked),
        requests_per_s=_mean([level.classes[0].completed_rate for level in levels], seconds),
        throughput=_mean([level.classes[0].throughput for level in levels], seconds),
    )


def _joined(measurements: Sequence[Measurement], judge: Judge) -> list[Record]:
    """The requests of all windows, one window after the other."""
    found: list[Record] = []
    offset_s = 0.0
    for each in measurements:
        start_s, end_s = each.level.window_s
        found += [_moved(record, offset_s - start_s) for record in each.asked(judge)]
        offset_s += end_s - start_s
    return found


def _moved(record: Record, by_s: float) -> Record:
    return msgspec.structs.replace(
        record,
        intended_s=record.intended_s + by_s,
        sent_s=None if record.sent_s is None else record.sent_s + by_s,
        ended_s=record.ended_s + by_s,
        chunk_s=[at_s + by_s for at_s in record.chunk_s],
        visible_s=None if record.visible_s is None else record.visible_s + by_s,
    )


def _p95(asked: Sequence[Record], part: str) -> Measured:
    """With its interval: values of one moment are alike. A failed request without a value has an infinite one."""

    def values_of(record: Record) -> list[float]:
        if part == "itl":
            return list(record.gaps_s())
        value = VALUES[part](record)
        if value is None:
            return [] if record.is_ok else [math.inf]
        return [value]

    clusters = in_clusters(asked, values_of, CLUSTERS_MAX)
    ordered = sorted(value for cluster in clusters for value in cluster)
    if not ordered:
        return Measured(math.inf, 0.0, math.inf)
    low, high = clustered_interval(ordered, clusters)
    return Measured(nearest_rank(ordered, P95), low or 0.0, math.inf if high is None else high)


def _share(asked: Sequence[Record], late: Sequence[bool]) -> Measured:
    """With its interval: requests of one moment are alike."""
    count = min(CLUSTERS_MAX, len(asked))
    clusters = [[0, 0] for _ in range(count)]
    for index, is_late in enumerate(late):
        cluster = clusters[index * count // len(asked)]
        cluster[0] += is_late
        cluster[1] += 1
    low, high = clustered_share([(bad, total) for bad, total in clusters])
    return Measured(sum(late) / len(late), low, high)


def _mean(values: Sequence[float], weights: Sequence[float]) -> float:
    total = sum(weights)
    return sum(value * weight for value, weight in zip(values, weights, strict=True)) / total if total else 0.0


def with_rate_only(observation: Observation) -> Observation:
    """What an open loop is held against: the share of requests out of SLO."""
    kept = {part: value for part, value in observation.parts.items() if part == MISSES}
    return replace(observation, parts=kept)
