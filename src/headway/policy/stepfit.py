"""The typical cost of a step's parts: samples of every kind of step, and the fit to them."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from math import inf

from headway.policy.nnls import non_negative_least_squares
from headway.policy.stepshape import StepShape

KNOTS = (1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096, 6144, 8192)
"""Numbers of tokens between which ``f`` is a straight line; after the last it goes on as before it."""
CELLS_MAX = 64
SAMPLES_PER_CELL = 6
FAMILIAR_SAMPLES = 4
"""With so many samples at the last fit, a kind of step is known well enough to tell the machine's pace from it."""
OUTLIER = 1.5
"""No sample counts as further than this factor from the median of its kind."""
SMOOTHNESS = 0.01
"""Weight of a change of slope at a knot, against one sample's relative error."""
PRIOR_WEIGHT = 1e-6
"""Weight of what was assumed before any sample, likewise: it rules only kinds of steps that have none."""
FIRST_SHARE_MIN = 0.01
"""No step takes less than this share of the shortest one seen, whatever the fit makes of it."""

Cell = tuple[int, bool, int]


@dataclass(frozen=True, slots=True)
class Costs:
    """Seconds at pace 1: ``f`` at each knot and its slope from there on, and what one of each other feature costs.

    ``prefill`` is the price of any prefill at all: some processors are quicker at steps that only decode.
    """

    at_knot: tuple[float, ...]
    slope: tuple[float, ...]
    sequence: float
    decode_context: float
    prefill: float
    prefill_reads: float

    @classmethod
    def of_knots(cls, at_knot: Sequence[float], others: Iterable[float]) -> Costs:
        """``others``: the costs of the other features, in their order."""
        slope = [(b - a) / (y - x) for (a, b), (x, y) in zip(pairwise(at_knot), pairwise(KNOTS), strict=True)]
        return cls(tuple(at_knot), (*slope, slope[-1]), *others)

    def time_s(self, tokens: int, sequences: int, decode_context: int, prefill_reads: float) -> float:
        knot = bisect_right(KNOTS, tokens) - 1
        return (
            self.at_knot[knot]
            + self.slope[knot] * (tokens - KNOTS[knot])
            + self.sequence * sequences
            + self.decode_context * decode_context
            + (self.prefill + self.prefill_reads * prefill_reads if prefill_reads > 0.0 else 0.0)
        )


PRIOR = Costs.of_knots([0.05 + 0.0025 * (knot - 1) for knot in KNOTS], (5e-4, 1e-5, 0.0, 2e-6))
"""A slow machine that gains little from large batches: what is assumed of steps of which nothing is known."""
PRIOR_SHAPES = (
    *(StepShape(knot, 1, 0, 0.0) for knot in KNOTS),
    StepShape(64, 64, 65536, 0.0),
    StepShape(512, 1, 0, 512 * 4096.0),
)


class Samples:
    """The latest few samples of every kind of step, so that rare kinds are not forgotten. Bounded.

    A kind: whether there is prefill, a power of two of tokens, a power of eight of positions read.
    """

    def __init__(self) -> None:
        self._cells: dict[Cell, deque[tuple[StepShape, float]]] = {}  # the one that was added to last is last
        self._familiar: frozenset[Cell] = frozenset()

    def __iter__(self) -> Iterator[tuple[StepShape, float]]:
        for cell in self._cells.values():
            yield from cell

    def __len__(self) -> int:
        return sum(map(len, self._cells.values()))

    def add(self, shape: StepShape, time_s: float) -> None:
        kind = _cell(shape)
        cell = self._cells.pop(kind, None)
        if cell is None:
            cell = deque(maxlen=SAMPLES_PER_CELL)
            if len(self._cells) == CELLS_MAX:
                del self._cells[next(iter(self._cells))]
        cell.append((shape, time_s))
        self._cells[kind] = cell

    def recognise(self) -> None:
        """From now on, kinds with enough samples are familiar: costs that know them are in use."""
        self._familiar = frozenset(kind for kind, cell in self._cells.items() if len(cell) >= FAMILIAR_SAMPLES)

    def is_familiar(self, shape: StepShape) -> bool:
        """Whether enough steps of this kind were known when kinds were last recognised."""
        return _cell(shape) in self._familiar

    def fit(self, current: Costs) -> Costs:
        """The costs that fit all samples best; ``current``, those of the last fit, if there are none."""
        if not self._cells:
            return current
        self.recognise()
        equations = _Equations()
        scales: list[float] = []
        least_s = inf
        for cell in self._cells.values():
            expected = [_cost_s(current, shape) for shape, _ in cell]
            ratios = [time_s / expected_s for (_, time_s), expected_s in zip(cell, expected, strict=True)]
            middle = sorted(ratios)[len(ratios) // 2]
            for (shape, _), expected_s, ratio in zip(cell, expected, ratios, strict=True):
                typical_s = expected_s * middle
                equations.add(shape, typical_s, min(max(ratio / middle, 1.0 / OUTLIER), OUTLIER), 1.0)
            scales.append(typical_s / _cost_s(PRIOR, shape))
            least_s = min(least_s, typical_s)
        scale = sorted(scales)[len(scales) // 2]
        for shape in PRIOR_SHAPES:
            equations.add(shape, scale * _cost_s(PRIOR, shape), 1.0, PRIOR_WEIGHT)
        equations.smooth(current)
        return equations.solve(FIRST_SHARE_MIN * least_s)


class _Equations:
    """Normal equations of relative errors: each row is divided by the time that is typical of such steps.

    The unknowns are ``f`` at each knot, then the other costs; a row has two of the former. What must not be negative
    is how much ``f`` rises from knot to knot, so ``solve`` goes over to that first.
    """

    def __init__(self) -> None:
        size = len(KNOTS) + 4
        self._gram = [[0.0] * size for _ in range(size)]
        self._moment = [0.0] * size

    def add(self, shape: StepShape, typical_s: float, ratio: float, weight: float) -> None:
        """A step of this shape took ``ratio`` times ``typical_s``."""
        knots = len(KNOTS)
        left = min(bisect_right(KNOTS, shape.tokens), knots - 1) - 1
        part = (shape.tokens - KNOTS[left]) / (KNOTS[left + 1] - KNOTS[left])
        features = (
            (left, 1.0 - part),
            (left + 1, part),
            (knots, shape.sequences),
            (knots + 1, shape.decode_context),
            (knots + 2, shape.prefill_reads > 0.0),
            (knots + 3, shape.prefill_reads),
        )
        row = [(i, feature / typical_s) for i, feature in features if feature]
        for i, value in row:
            value *= weight
            self._moment[i] += value * ratio
            line = self._gram[i]
            for j, other in row:
                line[j] += value * other

    def smooth(self, current: Costs) -> None:
        """Prefer that ``f`` goes on as steeply as before, relative to what it is."""
        for k in range(1, len(KNOTS) - 1):
            before, after = KNOTS[k] - KNOTS[k - 1], KNOTS[k + 1] - KNOTS[k]
            unit = SMOOTHNESS * (after / current.at_knot[k]) ** 2
            row = ((k - 1, 1.0 / before), (k, -1.0 / before - 1.0 / after), (k + 1, 1.0 / after))
            for i, value in row:
                for j, other in row:
                    self._gram[i][j] += unit * value * other

    def solve(self, first_min_s: float) -> Costs:
        knots = len(KNOTS)
        columns = zip(*(_sums_of_rest(line, knots) for line in self._gram), strict=True)
        gram = [_sums_of_rest(column, knots) for column in columns]  # symmetric, as it was
        first, *rest = non_negative_least_squares(gram, _sums_of_rest(self._moment, knots), range(knots + 4))
        return Costs.of_knots(list(accumulate(rest[: knots - 1], initial=max(first, first_min_s))), rest[knots - 1 :])


def _sums_of_rest(values: Sequence[float], count: int) -> list[float]:
    """Each of the first ``count`` values becomes the sum of itself and those after it: the effect of a rise there."""
    return [*list(accumulate(reversed(values[:count])))[::-1], *values[count:]]


def _cost_s(costs: Costs, shape: StepShape) -> float:
    return costs.time_s(shape.tokens, shape.sequences, shape.decode_context, shape.prefill_reads)


def _cell(shape: StepShape) -> Cell:
    reads = shape.decode_context + int(shape.prefill_reads)
    return shape.tokens.bit_length(), shape.prefill_reads > 0.0, reads.bit_length() // 3
