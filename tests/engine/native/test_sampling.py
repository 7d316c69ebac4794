"""Draws without a sort against the same rules in torch, which sorts."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from headway.engine import native
from headway.engine.distribution import distribution
from headway.engine.native import Rule
from tests.engine.native.cases import Array

CLOSE = 1e-6
"""Probabilities that differ by no more than this share may be told apart, or not, by rounding alone."""


def logits_for(random: np.random.Generator, rows: int, vocabulary: int) -> Array:
    """Rows from flat to peaked, with ties in some and forbidden tokens in others."""
    logits = random.standard_normal((rows, vocabulary)) * random.choice([0.1, 1.0, 3.0, 10.0], (rows, 1))
    coarse = random.random(rows) < 0.4
    logits[coarse] = np.round(logits[coarse] * 2) / 2
    forbidden = (random.random((rows, vocabulary)) < 0.3) & (random.random((rows, 1)) < 0.3)
    forbidden[np.arange(rows), random.integers(0, vocabulary, rows)] = False
    return np.where(forbidden, -math.inf, logits).astype(np.float32)


def rule_for(random: np.random.Generator, vocabulary: int) -> Rule:
    some_k = int(random.choice([1, 2, 5, 40, vocabulary // 2 + 1, vocabulary, vocabulary + 5]))
    some_p, some_min = float(random.choice([1e-9, 0.1, 0.5, 0.9, 0.999])), float(random.choice([0.01, 0.2, 1.0]))
    return Rule(
        temperature=float(random.choice([0.1, 0.7, 1.0, 2.0])),
        top_k=some_k if random.random() < 0.5 else vocabulary,
        top_p=some_p if random.random() < 0.5 else 1.0,
        min_p=some_min if random.random() < 0.3 else 0.0,
        number=0.0 if random.random() < 0.1 else random.random(),
    )


def may_be(token: int, probs: Array, whole: Array, number: float) -> bool:
    """Whether rounding alone can have led to ``token``: by a number on the border of two tokens, or a filter on the
    border of two probabilities. ``whole``: the probabilities before any filter."""
    kept = probs > 0
    cutoff = whole[kept].min()
    doubtful = np.abs(whole - cutoff) <= cutoff * CLOSE
    for candidates in (kept, kept & ~doubtful, kept | doubtful):
        weights = np.where(candidates, whole, 0.0)
        before, after = weights[:token].sum(), weights[: token + 1].sum()
        slack = weights.sum() * CLOSE
        if before - slack <= number * weights.sum() <= after + slack and after > before:
            return True
    return False


@pytest.mark.parametrize("vocabulary", [1, 2, 17, 400, 1024, 5000])
def test_the_same_tokens_as_torch(kernels: str, random: np.random.Generator, vocabulary: int) -> None:
    rows = 200
    logits = logits_for(random, rows, vocabulary)
    rules = [rule_for(random, vocabulary) for _ in range(rows)]
    tokens = native.sample(logits, rules, kernels=kernels)
    probs = distribution(torch.from_numpy(logits), rules).double().numpy()
    unfiltered = [Rule(rule.temperature, vocabulary, 1.0, 0.0, rule.number) for rule in rules]
    whole = distribution(torch.from_numpy(logits), unfiltered).double().numpy()
    cumulative = probs.cumsum(axis=1)
    expected = [
        int(np.searchsorted(mass, mass[-1] * rule.number, side="right"))
        for mass, rule in zip(cumulative, rules, strict=True)
    ]
    other = [row for row in range(rows) if tokens[row] != expected[row]]
    for row in other:
        token = tokens[row]
        assert token is not None
        assert may_be(token, probs[row], whole[row], rules[row].number), (rules[row], token, expected[row])
    assert len(other) <= 2


def test_a_large_vocabulary(kernels: str, random: np.random.Generator) -> None:
    """Flat rows have all their tokens above the last bound, peaked ones few above the first."""
    vocabulary = 49_152
    rules = [
        Rule(temperature, top_k, top_p, min_p, random.random())
        for temperature in (0.05, 1.0, 100.0)
        for top_k, top_p, min_p in (
            (vocabulary, 1.0, 0.0),
            (50, 1.0, 0.0),
            (vocabulary, 0.95, 0.0),
            (20_000, 0.9, 0.01),
        )
    ]
    logits = random.standard_normal((len(rules), vocabulary)).astype(np.float32)
    probs = distribution(torch.from_numpy(logits), rules).double().numpy()
    for row, token in enumerate(native.sample(logits, rules, kernels=kernels)):
        assert token is not None
        mass = probs[row].cumsum()
        assert abs(mass[token] / mass[-1] - rules[row].number) <= probs[row, token] / mass[-1] + 1e-5, rules[row]
        assert probs[row, token] > 0


def test_largest(kernels: str, random: np.random.Generator) -> None:
    for count in [*range(1, 40), *random.integers(40, 3000, 20).tolist()]:
        values = random.standard_normal((5, count)).astype(np.float32)
        values[1] = np.round(values[1])
        values[2] = -(values[2] ** 2)
        values[3, : count // 2] = -math.inf
        values[4] = 0.5
        assert native.largest(values, kernels=kernels) == values.argmax(axis=1).tolist()
        assert native.largest(values[:, :count], kernels=kernels) == values.argmax(axis=1).tolist()


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_rows_that_are_not_numbers(kernels: str, random: np.random.Generator, bad: float) -> None:
    for count in (1, 15, 16, 100, 1500):
        values = random.standard_normal((3, count)).astype(np.float32)
        values[1, random.integers(count)] = bad
        values[2] = -math.inf
        rule = Rule(1.0, 5, 0.9, 0.0, 0.5)
        for found in (native.largest(values, kernels=kernels), native.sample(values, [rule] * 3, kernels=kernels)):
            assert found[0] is not None
            assert found[1:] == [None, None]


def test_many_threads_draw_the_same(kernels: str, random: np.random.Generator) -> None:
    logits = logits_for(random, 50, 700)
    rules = [rule_for(random, 700) for _ in range(50)]
    pool = native.make_pool(3)
    assert native.sample(logits, rules, pool=pool, kernels=kernels) == native.sample(logits, rules, kernels=kernels)
    assert native.largest(logits, pool=pool, kernels=kernels) == native.largest(logits, kernels=kernels)


def test_rows_may_lie_apart(kernels: str, random: np.random.Generator) -> None:
    wide = random.standard_normal((4, 90)).astype(np.float32)
    narrow, rules = wide[:, :50], [Rule(1.0, 50, 1.0, 0.0, 0.7)] * 4
    assert native.largest(narrow, kernels=kernels) == narrow.argmax(axis=1).tolist()
    alone = [native.sample(narrow[row : row + 1].copy(), rules[:1], kernels=kernels)[0] for row in range(4)]
    assert native.sample(narrow, rules, kernels=kernels) == alone


@pytest.mark.parametrize(
    "changed", [{"temperature": 0.0}, {"temperature": math.nan}, {"top_k": 0}, {"number": 1.0}, {"number": -0.1}]
)
def test_no_rules_that_can_not_be_followed(changed: dict[str, float]) -> None:
    given: dict[str, Any] = {"temperature": 1.0, "top_k": 1, "top_p": 1.0, "min_p": 0.0, "number": 0.5}
    with pytest.raises(ValueError, match="no token can be drawn"):
        native.sample(np.zeros((1, 4), np.float32), [Rule(**(given | changed))])
