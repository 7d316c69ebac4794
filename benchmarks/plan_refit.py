"""An engine's constants found again without a source or a GPU: what is left of the planner's accuracy if none of the
points it is judged by had a say in them.

Two constants of each engine of today are free: seconds a layer and seconds a step. They are chosen from a grid, by the
least median error in log space of the points that are left in.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from benchmarks.plan_predict import Predictor, Unpredictable
from benchmarks.plan_scores import Figure, Scored
from headway.plan.engine import Engine
from headway.plan.gpu import Gpu

LAYER_US = (0.0, 6.0, 12.0, 18.0, 27.0)
STEP_MS = (0.0, 0.4, 1.0, 2.0, 3.0)
FIGURES = (Figure.TPOT, Figure.THROUGHPUT, Figure.STATIC_E2E, Figure.TTFT)
LEAST = 10
"""Points of an engine that must be left to choose by; with fewer, it keeps its own constants."""


Choice = tuple[float, float]
Table = dict[Choice, list[float | None]]
"""What each choice of (microseconds a layer, milliseconds a step) predicts of each point."""


def table(scored: Sequence[Scored], catalogue: dict[str, Gpu]) -> Table:
    found: Table = {}
    for layer_us in LAYER_US:
        for step_ms in STEP_MS:
            predictor = Predictor(catalogue, adjust=_adjust(layer_us, step_ms))
            found[layer_us, step_ms] = [_value(predictor, each) for each in scored]
    return found


def _adjust(layer_us: float, step_ms: float) -> Callable[[Engine], Engine]:
    return lambda engine: replace(engine, layer_s=layer_us * 1e-6, step_s=step_ms * 1e-3)


def _value(predictor: Predictor, scored: Scored) -> float | None:
    try:
        return predictor.predict(scored.point).value
    except Unpredictable:
        return None


def left_out(scored: Sequence[Scored], predicted: Table, key: Callable[[Scored], str]) -> list[Scored]:
    """Every group predicted with constants that were chosen without it."""
    found = []
    for name in sorted({key(each) for each in scored}):
        chosen = {
            engine: choose(
                (at for at, each in enumerate(scored) if each.point.engine == engine and key(each) != name),
                scored,
                predicted,
            )
            for engine in {each.point.engine for each in scored if key(each) == name}
        }
        for at, each in enumerate(scored):
            if key(each) == name:
                choice = chosen[each.point.engine]
                value = predicted[choice][at] if choice is not None else each.predicted
                if value is not None:
                    found.append(replace(each, predicted=value))
    return found


def choose(within: Iterable[int], scored: Sequence[Scored], predicted: Table) -> Choice | None:
    """None: too few points."""
    places = [at for at in within if scored[at].figure in FIGURES]
    if len(places) < LEAST:
        return None
    return min(predicted, key=lambda choice: _miss(choice, places, scored, predicted))


def _miss(choice: Choice, places: Sequence[int], scored: Sequence[Scored], predicted: Table) -> float:
    """Mean over figures of the median absolute log ratio, so that a figure with many points does not rule."""
    medians = []
    for figure in FIGURES:
        values = [(predicted[choice][at], scored[at].point.value) for at in places if scored[at].figure == figure]
        logs = [abs(math.log(value / measured)) for value, measured in values if value is not None]
        if logs:
            medians.append(statistics.median(logs))
    return statistics.fmean(medians)
