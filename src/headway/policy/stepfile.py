"""What a step-time model knows, as JSON text: strict, bounded, never trusted."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NoReturn

from headway.policy.stepfit import CELLS_MAX, KNOTS, SAMPLES_PER_CELL, Costs
from headway.policy.stepshape import FEATURE_MAX, StepShape, is_step
from headway.policy.tail import MARGIN_MAX, MARGIN_MIN, Tail

FORMAT = "headway step-time model"
VERSION = 2
"""1 did not tell how many steps had been observed."""
TEXT_MAX = 1 << 20
PACE_MAX = 1e6
"""Far from what any machine does, either way."""
SPREAD_MAX = 1.0
COST_MAX_S = 1e18
OBSERVED_MAX = 1 << 53


@dataclass(frozen=True, slots=True)
class StepTimeState:
    """``observed``: how many steps it has learned from. ``tails``: of steps that only decode, and of mixed ones.
    ``samples``: those that were kept, with their time at pace 1, oldest of a kind first."""

    observed: int
    pace: float
    costs: Costs
    tails: tuple[Tail, Tail]
    samples: tuple[tuple[StepShape, float], ...]


def write(state: StepTimeState) -> str:
    costs = state.costs
    return json.dumps(
        {
            "format": FORMAT,
            "version": VERSION,
            "knots": KNOTS,
            "observed": state.observed,
            "pace": state.pace,
            "costs_s": [*costs.at_knot, costs.sequence, costs.decode_context, costs.prefill, costs.prefill_reads],
            "tails": [[tail.margin, tail.spread] for tail in state.tails],
            "samples": [[s.tokens, s.sequences, s.decode_context, s.prefill_reads, t] for s, t in state.samples],
        },
        allow_nan=False,
    )


def read(text: str) -> StepTimeState:
    """Raises ValueError, with one clear line, on whatever ``write`` would not have written."""
    if len(text) > TEXT_MAX:
        _refuse(f"it has {len(text)} characters, {TEXT_MAX} are allowed")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        _refuse("it is not JSON")
    keys = {"format", "version", "knots", "observed", "pace", "costs_s", "tails", "samples"}
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        _refuse(f"its format is not {FORMAT!r}")
    if value.get("version") != VERSION:
        _refuse(f"its version is {str(value.get('version'))[:20]}, not {VERSION}")
    if value.keys() != keys:
        _refuse(f"its keys are not {', '.join(sorted(keys))}")
    if value["knots"] != list(KNOTS):
        _refuse("its knots are others than ours")
    knots = len(KNOTS)
    costs = _numbers(value["costs_s"], "costs_s", knots + 4, 0.0, COST_MAX_S)
    at_knot = costs[:knots]
    if at_knot[0] <= 0.0 or any(right < left for left, right in pairwise(at_knot)):
        _refuse("its costs_s are not above 0 and rising")
    tails = _list(value["tails"], "tails", 2)
    samples = _list(value["samples"], "samples", None)
    if len(tails) != 2:
        _refuse("there are not two tails")
    [observed] = _numbers([value["observed"]], "observed", 1, 0, OBSERVED_MAX)
    if not observed.is_integer():
        _refuse("observed is not whole")
    [pace] = _numbers([value["pace"]], "pace", 1, 1.0 / PACE_MAX, PACE_MAX)
    return StepTimeState(
        int(observed),
        pace,
        Costs.of_knots(at_knot, costs[knots:]),
        (_tail(tails[0]), _tail(tails[1])),
        tuple(_sample(each) for each in samples),
    )


def _tail(value: Any) -> Tail:
    margin, spread = _numbers(value, "tails", 2, 0.0, MARGIN_MAX)
    if margin < MARGIN_MIN or spread > SPREAD_MAX:
        _refuse("a margin or a spread is out of its range")
    return Tail(margin, spread)


def _sample(value: Any) -> tuple[StepShape, float]:
    tokens, sequences, decode_context, prefill_reads, time_s = _numbers(value, "samples", 5, 0.0, FEATURE_MAX)
    if not all(each.is_integer() for each in (tokens, sequences, decode_context)):
        _refuse("a count in its samples is not whole")
    shape = StepShape(int(tokens), int(sequences), int(decode_context), prefill_reads)
    if not is_step(shape) or not 0.0 < time_s <= COST_MAX_S:
        _refuse("one of its samples is no step")
    return shape, time_s


def _numbers(value: Any, name: str, count: int, low: float, high: float) -> list[float]:
    numbers = _list(value, name, count)
    if len(numbers) != count:
        _refuse(f"{name} has {len(numbers)} numbers, not {count}")
    for each in numbers:
        if isinstance(each, bool) or not isinstance(each, int | float) or not low <= each <= high:
            _refuse(f"{name} has what is no number from {low:g} to {high:g}")
    return [float(each) for each in numbers]


def _list(value: Any, name: str, count: int | None) -> Sequence[Any]:
    limit = CELLS_MAX * SAMPLES_PER_CELL if count is None else count
    if not isinstance(value, list) or len(value) > limit:
        _refuse(f"{name} is no list of at most {limit}")
    return value


def _refuse(why: str) -> NoReturn:
    raise ValueError(f"the step-time model can't be read: {why}")
