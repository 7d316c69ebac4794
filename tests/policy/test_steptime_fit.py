"""The parts under the step-time model: non-negative least squares, samples of every kind, the tail."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from itertools import product

import pytest

from headway.policy.nnls import non_negative_least_squares
from headway.policy.stepfit import CELLS_MAX, KNOTS, PRIOR, SAMPLES_PER_CELL, Costs, Samples
from headway.policy.stepshape import StepShape
from headway.policy.tail import MARGIN_MAX, MARGIN_MIN, Tail

Matrix = list[list[float]]


def normal_equations(rows: Matrix, right: list[float]) -> tuple[Matrix, list[float]]:
    columns = range(len(rows[0]))
    gram = [[sum(row[i] * row[j] for row in rows) for j in columns] for i in columns]
    return gram, [sum(row[i] * value for row, value in zip(rows, right, strict=True)) for i in columns]


def loss(gram: Matrix, moment: list[float], x: list[float]) -> float:
    """|A x - b| squared, but for what does not depend on x."""
    indices = range(len(x))
    quadratic = sum(x[i] * gram[i][j] * x[j] for i, j in product(indices, indices))
    return quadratic - 2.0 * sum(moment[i] * x[i] for i in indices)


@pytest.mark.parametrize("seed", range(20))
def test_a_solution_is_never_negative_and_no_neighbour_is_better(seed: int) -> None:
    rng = random.Random(seed)
    rows = [[rng.gauss(0.0, 1.0) for _ in range(6)] for _ in range(12)]
    gram, moment = normal_equations(rows, [rng.gauss(0.0, 1.0) for _ in range(12)])
    guess = [i for i in range(6) if rng.random() < 0.5]
    x = non_negative_least_squares(gram, moment, guess)
    assert min(x) >= 0.0
    best = loss(gram, moment, x)
    for i, step in product(range(6), (-0.01, 0.01)):
        near = [max(value + step * (j == i), 0.0) for j, value in enumerate(x)]
        assert best <= loss(gram, moment, near) + 1e-9


def test_the_guess_changes_nothing_but_the_way() -> None:
    rng = random.Random(7)
    rows = [[rng.random() for _ in range(8)] for _ in range(20)]
    gram, moment = normal_equations(rows, [rng.gauss(0.5, 1.0) for _ in range(20)])
    cold = non_negative_least_squares(gram, moment)
    assert non_negative_least_squares(gram, moment, range(8)) == pytest.approx(cold, abs=1e-6)


def test_columns_of_zeros_and_equal_columns_do_no_harm() -> None:
    gram, moment = normal_equations([[1.0, 1.0, 0.0], [2.0, 2.0, 0.0]], [2.0, 4.0])
    x = non_negative_least_squares(gram, moment, range(3))
    assert x[0] + x[1] == pytest.approx(2.0)
    assert x[2] == 0.0


def test_rare_kinds_of_steps_are_not_forgotten() -> None:
    samples = Samples()
    rare = StepShape(1000, 1, 0, 500_000.0)
    samples.add(rare, 1.0)
    for i in range(10_000):
        samples.add(StepShape(8, 8, 1000 + i % 100, 0.0), 0.01)
    assert (rare, 1.0) in list(samples)
    assert len(samples) == 1 + SAMPLES_PER_CELL


def test_samples_are_bounded_and_the_kind_not_seen_for_longest_goes_first() -> None:
    samples, rng = Samples(), random.Random(3)
    first, last = StepShape(1, 1, 0, 0.0), StepShape(5, 5, 100, 0.0)
    samples.add(first, 1.0)
    for _ in range(5000):
        tokens = int(2 ** rng.uniform(1, 20))
        samples.add(StepShape(tokens, 1, int(2 ** rng.uniform(0, 40)), float(rng.randrange(2))), 1.0)
    samples.add(last, 2.0)
    assert len(samples) <= CELLS_MAX * SAMPLES_PER_CELL
    assert (first, 1.0) not in list(samples)
    assert (last, 2.0) in list(samples)


def test_a_kind_is_familiar_once_it_was_fitted_with_some_samples() -> None:
    samples, shape = Samples(), StepShape(8, 8, 1000, 0.0)
    for _ in range(SAMPLES_PER_CELL):
        assert not samples.is_familiar(shape)
        samples.add(shape, 0.01)
    samples.fit(PRIOR)
    assert samples.is_familiar(shape)
    assert not samples.is_familiar(StepShape(80, 80, 1000, 0.0))


def test_one_sample_in_a_cell_that_is_far_off_is_not_believed() -> None:
    samples = Samples()
    for time_s in (0.01, 0.0101, 1.0, 0.0099, 1e-5):
        samples.add(StepShape(8, 8, 1000, 0.0), time_s)
    costs = samples.fit(samples.fit(PRIOR))
    assert costs.time_s(8, 8, 1000, 0.0) == pytest.approx(0.01, rel=0.1)


def test_what_was_never_seen_is_assumed_to_cost_what_a_slow_machine_makes_of_it() -> None:
    """Only steps of one token were seen: a long chunk is expected to take many times as long, not the same."""
    samples = Samples()
    for _ in range(6):
        samples.add(StepShape(1, 1, 100, 0.0), 0.01)
    costs = samples.fit(samples.fit(PRIOR))
    assert costs.time_s(1, 1, 100, 0.0) == pytest.approx(0.01, rel=0.01)
    assert costs.time_s(512, 1, 0, 0.0) > 0.1


def test_between_and_beyond_samples_it_goes_straight_on() -> None:
    samples = Samples()
    for tokens in (64, 256, 1024):
        for _ in range(4):
            samples.add(StepShape(tokens, 1, 0, tokens * tokens / 2), 0.01 + 1e-4 * tokens)
    costs = samples.fit(samples.fit(PRIOR))
    for tokens in (100, 500, 800, 4000):
        assert costs.time_s(tokens, 1, 0, tokens * tokens / 2) == pytest.approx(0.01 + 1e-4 * tokens, rel=0.15)


def test_costs_are_straight_between_knots() -> None:
    costs = Costs.of_knots([float(knot) ** 0.5 for knot in KNOTS], (0.0, 0.0, 0.0, 0.0))
    for tokens in (*KNOTS, 3, 100, 20_000):
        left = max(knot for knot in KNOTS if knot <= tokens)
        right = next((knot for knot in KNOTS if knot > tokens), None)
        if right is not None:
            part = (tokens - left) / (right - left)
            assert costs.time_s(tokens, 1, 1, 1.0) == pytest.approx((1 - part) * left**0.5 + part * right**0.5)
        else:
            assert costs.time_s(tokens, 1, 1, 1.0) >= left**0.5


def lognormal(rng: random.Random) -> float:
    return math.exp(rng.gauss(0.0, 0.1))


def heavy(rng: random.Random) -> float:
    """One step in twenty takes up to ten times as long, as Pareto's law has it."""
    return min(rng.paretovariate(1.5), 10.0) if rng.random() < 0.2 else 1.0 + 0.02 * rng.random()


def wide(rng: random.Random) -> float:
    return math.exp(rng.gauss(0.0, 0.4))


@pytest.mark.parametrize("noise", [lognormal, heavy, wide])
def test_the_tail_covers_95_percent_whatever_the_noise(noise: Callable[[random.Random], float]) -> None:
    tail, rng, within = Tail(), random.Random(5), 0
    for step in range(4200):
        ratio = noise(rng)
        within += step >= 200 and ratio <= tail.margin
        tail.observe(ratio)
    assert 0.93 <= within / 4000 <= 0.97


def test_the_tail_is_bounded_and_a_steady_machine_has_a_narrow_one() -> None:
    tail = Tail()
    for _ in range(5000):
        tail.observe(1e6)
    assert tail.margin == MARGIN_MAX
    rng = random.Random(1)
    for _ in range(5000):
        tail.observe(math.exp(rng.gauss(0.0, 0.01)))
    assert MARGIN_MIN <= tail.margin < 1.04
    for _ in range(5000):
        tail.observe(1e-6)
    assert tail.margin == MARGIN_MIN


def test_one_outlier_hardly_moves_the_tail() -> None:
    tail, rng = Tail(), random.Random(2)
    for _ in range(1000):
        tail.observe(lognormal(rng))
    before = tail.margin
    tail.observe(100.0)
    assert before < tail.margin < 1.2 * before
