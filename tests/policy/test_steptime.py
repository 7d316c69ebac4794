"""The step-time model: what it predicts, how it learns, what it must never do."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.policy.plan import Chunk, Draw, StepPlan
from headway.policy.sampling import GREEDY
from headway.policy.steptime import StepShape, StepTimeModel

Truth = Callable[[StepShape], float]


def linear(shape: StepShape) -> float:
    """A processor whose time is proportional to the work, after a constant."""
    return (
        0.02
        + 0.002 * shape.tokens
        + 0.001 * shape.sequences
        + 8e-6 * shape.decode_context
        + 1.2e-6 * shape.prefill_reads
    )


def roofline(shape: StepShape) -> float:
    """An 8B model on one H100: it waits for its weights until some 190 tokens, then for arithmetic."""
    compute_s = max(16e9 / (3.35e12 * 0.85), 16e9 * shape.tokens / (989e12 * 0.55))
    reads = shape.decode_context + shape.prefill_reads / 64
    return 0.0015 + compute_s + 131072 / (3.35e12 * 0.85) * reads


def decode(count: int, context: int) -> StepShape:
    return StepShape(count, count, count * context, 0.0)


def mixed(count: int, context: int, chunk: int, start: int) -> StepShape:
    return StepShape(count + chunk, count + 1, count * context, chunk * (start + chunk / 2))


def draw_shape(rng: random.Random) -> StepShape:
    count = int(2 ** rng.uniform(0, 7))
    context = int(2 ** rng.uniform(5, 11))
    if rng.random() < 0.6:
        return decode(count, context)
    return mixed(count, context, int(2 ** rng.uniform(4, 11)), int(2 ** rng.uniform(0, 11)))


def seeded(truth: Truth, steps: int = 300, seed: int = 1) -> StepTimeModel:
    """A model that has seen some steps of every kind."""
    model, rng = StepTimeModel(), random.Random(seed)
    for _ in range(steps):
        shape = draw_shape(rng)
        model.observe(shape, truth(shape))
    return model


def predict_s(model: StepTimeModel, shape: StepShape) -> float:
    return model.predict_s(shape.tokens, shape.sequences, shape.decode_context, shape.prefill_reads)


def tail_s(model: StepTimeModel, shape: StepShape) -> float:
    return model.tail_s(shape.tokens, shape.sequences, shape.decode_context, shape.prefill_reads)


def errors(model: StepTimeModel, truth: Truth, seed: int = 2, steps: int = 300) -> list[float]:
    rng = random.Random(seed)
    shapes = [draw_shape(rng) for _ in range(steps)]
    return sorted(abs(predict_s(model, shape) / truth(shape) - 1.0) for shape in shapes)


def test_a_shape_is_read_from_a_plan() -> None:
    draw = Draw(GREEDY, 0, 1)
    plan = StepPlan(
        0,
        (
            Chunk("decode", 9, (1,), (0,), draw),
            Chunk("last of a prompt", 32, (1, 2, 3, 4), (0, 1, 2), draw),
            Chunk("one token amid a prompt", 7, (1,), (0,)),
        ),
    )
    assert StepShape.of(plan) == StepShape(6, 3, 10, 4 * (32 + 2.0) + 1 * (7 + 0.5))


@pytest.mark.parametrize("truth", [linear, roofline])
def test_the_truth_is_recovered(truth: Truth) -> None:
    found = errors(seeded(truth), truth)
    assert found[len(found) // 2] < 0.01
    assert found[int(0.95 * len(found))] < 0.05


@given(st.integers(0, 3), st.integers(1, 4000), st.integers(1, 300), st.integers(0, 10**6), st.floats(0.0, 1e9))
def test_more_work_never_takes_less(which: int, tokens: int, sequences: int, context: int, reads: float) -> None:
    model = MODELS[tokens % 3]
    more = [tokens, sequences, context, reads]
    more[which] = more[which] * 1.5 + 1 if which == 3 else int(more[which] * 1.5) + 1
    low = model.predict_s(tokens, sequences, context, reads)
    high = model.predict_s(*more)  # type: ignore[arg-type]
    assert 0.0 < low <= high * (1.0 + 1e-12) < math.inf


MODELS = (StepTimeModel(), seeded(linear, 100), seeded(roofline))
