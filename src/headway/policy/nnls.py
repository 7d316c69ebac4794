"""Non-negative least squares, from the normal equations, for a few dozen unknowns."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf, sqrt
from operator import mul

RIDGE = 1e-9
"""Added to the diagonal, which is scaled to 1, so that columns that depend on each other can be told apart."""
TOLERANCE = 1e-9
ROUNDS_PER_UNKNOWN = 3
"""The method ends by itself after about as many rounds as there are unknowns; rounding must not keep it going."""


def non_negative_least_squares(
    gram: Sequence[Sequence[float]], moment: Sequence[float], support: Sequence[int] = ()
) -> list[float]:
    """The x >= 0 with the least |A x - b|, given ``gram`` = A'A and ``moment`` = A'b.

    The active-set method of Lawson and Hanson (1974) on the normal equations (Bro and De Jong, 1997). ``support``:
    unknowns expected to be above 0, those of the last solution, say; with a good guess one round is enough.
    """
    count = len(moment)
    scale = [1.0 / sqrt(gram[i][i]) if gram[i][i] > 0.0 else 0.0 for i in range(count)]
    matrix = [
        [value * own * other for value, other in zip(line, scale, strict=True)]
        for line, own in zip(gram, scale, strict=True)
    ]
    target = [moment[i] * scale[i] for i in range(count)]
    solution = [0.0] * count
    free = sorted(i for i in support if scale[i] > 0.0)
    for _ in range(ROUNDS_PER_UNKNOWN * count):
        free = _settle(matrix, target, solution, free)
        gains = [target[i] - sum(map(mul, matrix[i], solution)) if scale[i] > 0.0 else 0.0 for i in range(count)]
        bound = [i for i in range(count) if solution[i] == 0.0 and gains[i] > TOLERANCE]
        if not bound:
            break
        free = sorted({*free, max(bound, key=gains.__getitem__)})
    return [value * factor for value, factor in zip(solution, scale, strict=True)]


def _settle(
    matrix: Sequence[Sequence[float]], target: Sequence[float], solution: list[float], free: list[int]
) -> list[int]:
    """Move ``solution`` to the best one over the unknowns in ``free``; those that reach 0 on the way leave ``free``."""
    rows: list[list[float]] = []
    while free:
        best = _solve(matrix, target, free, rows)
        if min(best) > 0.0:
            for i, value in zip(free, best, strict=True):
                solution[i] = value
            break
        # Go towards the best until the first unknowns reach 0, and leave them there.
        reach = [_share_to_zero(solution[i], value) for i, value in zip(free, best, strict=True)]
        share = min(reach)
        for i, value, limit in zip(free, best, reach, strict=True):
            solution[i] = 0.0 if limit == share else solution[i] + share * (value - solution[i])
        del rows[reach.index(share) :]
        free = [i for i, limit in zip(free, reach, strict=True) if limit > share]
    for i in range(len(solution)):
        if i not in free:
            solution[i] = 0.0
    return free


def _share_to_zero(old: float, new: float) -> float:
    """How far a value gets on its way from ``old`` (0 or more) to ``new`` before it reaches 0."""
    if new > 0.0:
        return inf
    return old / (old - new) if old > new else 0.0


def _solve(
    matrix: Sequence[Sequence[float]], target: Sequence[float], free: Sequence[int], rows: list[list[float]]
) -> list[float]:
    """Solve for the unknowns in ``free``, by Cholesky's factors; the matrix is symmetric and positive definite, with a
    diagonal of ones. ``rows``: those of the factor that are known already, the first ones; the others are added."""
    for i in free[len(rows) :]:
        row: list[float] = []
        source = matrix[i]
        for j, other in zip(free, rows, strict=False):
            row.append((source[j] - sum(map(mul, row, other))) / other[-1])
        row.append(sqrt(max(source[i] + RIDGE - sum(map(mul, row, row)), RIDGE)))
        rows.append(row)
    forward: list[float] = []
    for i, row in zip(free, rows, strict=True):
        forward.append((target[i] - sum(map(mul, row, forward))) / row[-1])
    solution = [0.0] * len(free)
    for i in range(len(free) - 1, -1, -1):
        *others, own = rows[i]
        solution[i] = value = forward[i] / own
        for j, factor in enumerate(others):
            forward[j] -= factor * value
    return solution
