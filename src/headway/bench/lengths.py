"""Distributions of lengths and pauses, as they are written in a workload: ``lognormal(96,0.8,16,256)``.

Every one is clipped to ``low`` .. ``high``, so that nothing longer than what was said can come.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate
from random import Random
from typing import Protocol

FORMS = {
    "constant": "constant(N), or N alone",
    "uniform": "uniform(LOW,HIGH)",
    "normal": "normal(MEAN,DEVIATION[,LOW,HIGH])",
    "lognormal": "lognormal(MEDIAN,SIGMA[,LOW,HIGH])",
    "exponential": "exponential(MEAN[,LOW,HIGH])",
    "choices": "choices(N,N,...), or choices(N:SHARE,N:SHARE,...)",
}
CHOICES_MAX = 1000
DEVIATIONS_MAX = 4.0
"""Where a normal or lognormal distribution ends unless it is said: so many deviations from its middle."""
MEANS_MAX = 8.0
"""Where an exponential one ends unless it is said."""


class Distribution(Protocol):
    @property
    def low(self) -> float: ...

    @property
    def high(self) -> float:
        """No draw is above this."""
        ...

    def draw(self, rng: Random) -> float: ...

    def scaled(self, factor: float) -> Distribution:
        """The same with everything that it draws times ``factor``."""
        ...


def draw_tokens(distribution: Distribution, rng: Random) -> int:
    return max(1, round(distribution.draw(rng)))


@dataclass(frozen=True, slots=True)
class Constant:
    low: float

    @property
    def high(self) -> float:
        return self.low

    def draw(self, rng: Random) -> float:
        return self.low

    def scaled(self, factor: float) -> Constant:
        return Constant(self.low * factor)

    def __str__(self) -> str:
        return f"constant({self.low:g})"


@dataclass(frozen=True, slots=True)
class Uniform:
    low: float
    high: float

    def draw(self, rng: Random) -> float:
        return rng.uniform(self.low, self.high)

    def scaled(self, factor: float) -> Uniform:
        return Uniform(self.low * factor, self.high * factor)

    def __str__(self) -> str:
        return f"uniform({self.low:g},{self.high:g})"


@dataclass(frozen=True, slots=True)
class Normal:
    mean: float
    deviation: float
    low: float
    high: float

    def draw(self, rng: Random) -> float:
        return min(max(rng.gauss(self.mean, self.deviation), self.low), self.high)

    def scaled(self, factor: float) -> Normal:
        return Normal(self.mean * factor, self.deviation * factor, self.low * factor, self.high * factor)

    def __str__(self) -> str:
        return f"normal({self.mean:g},{self.deviation:g},{self.low:g},{self.high:g})"


@dataclass(frozen=True, slots=True)
class Lognormal:
    """``sigma`` is the deviation of the logarithm."""

    median: float
    sigma: float
    low: float
    high: float

    def draw(self, rng: Random) -> float:
        return min(max(rng.lognormvariate(math.log(self.median), self.sigma), self.low), self.high)

    def scaled(self, factor: float) -> Lognormal:
        return Lognormal(self.median * factor, self.sigma, self.low * factor, self.high * factor)

    def __str__(self) -> str:
        return f"lognormal({self.median:g},{self.sigma:g},{self.low:g},{self.high:g})"


@dataclass(frozen=True, slots=True)
class Exponential:
    mean: float
    low: float
    high: float

    def draw(self, rng: Random) -> float:
        return min(max(rng.expovariate(1.0 / self.mean), self.low), self.high)

    def scaled(self, factor: float) -> Exponential:
        return Exponential(self.mean * factor, self.low * factor, self.high * factor)

    def __str__(self) -> str:
        return f"exponential({self.mean:g},{self.low:g},{self.high:g})"


@dataclass(frozen=True, slots=True)
class Choices:
    """``shares``: of each value, added up from the first to this one."""

    values: tuple[float, ...]
    shares: tuple[float, ...]

    @property
    def low(self) -> float:
        return min(self.values)

    @property
    def high(self) -> float:
        return max(self.values)

    def draw(self, rng: Random) -> float:
        return rng.choices(self.values, cum_weights=self.shares)[0]

    def scaled(self, factor: float) -> Choices:
        return Choices(tuple(value * factor for value in self.values), self.shares)

    def __str__(self) -> str:
        before = (0.0, *self.shares[:-1])
        parts = zip(self.values, before, self.shares, strict=True)
        return f"choices({','.join(f'{value:g}:{upto - start:g}' for value, start, upto in parts)})"


def parse_distribution(text: str, *, least: float, most: float) -> Distribution:
    """From one of ``FORMS``. Raises ValueError for what is none of them, or leaves ``least`` .. ``most``."""
    found = re.fullmatch(r"\s*([a-z]+)\s*\(([^()]*)\)\s*", text)
    name, inside = (found[1], found[2]) if found else ("constant", text)
    if name not in FORMS or (not found and not re.fullmatch(r"\s*[-+.\de]+\s*", text)):
        raise ValueError(f"{text!r} is no distribution; there are {'; '.join(FORMS.values())}")
    try:
        distribution = (
            _choices(inside) if name == "choices" else _BUILD[name]([float(part) for part in inside.split(",")])
        )
    except (ValueError, IndexError, ZeroDivisionError, OverflowError):
        raise ValueError(f"{text!r} can't be meant; write {FORMS[name]}") from None
    _check(text, distribution, least, most)
    return distribution


def _check(text: str, distribution: Distribution, least: float, most: float) -> None:
    low, high = distribution.low, distribution.high
    if not (math.isfinite(low) and math.isfinite(high)) or low > high:
        raise ValueError(f"{text!r} goes from {low:g} to {high:g}, which can't be meant")
    if low < least or high > most:
        raise ValueError(f"{text!r} goes from {low:,.10g} to {high:,.10g}; it may go from {least:g} to {most:,.10g}")


def _ends(numbers: list[float], at: int, low: float, high: float) -> tuple[float, float]:
    """LOW and HIGH where they were written from ``at`` on; both or none."""
    if len(numbers) not in (at, at + 2):
        raise ValueError
    return (numbers[at], numbers[at + 1]) if len(numbers) > at else (low, high)


def _positive(value: float) -> float:
    if not 0.0 < value < math.inf:
        raise ValueError
    return value


def _constant(numbers: list[float]) -> Distribution:
    (value,) = numbers
    return Constant(value)


def _uniform(numbers: list[float]) -> Distribution:
    low, high = numbers
    return Uniform(low, high)


def _normal(numbers: list[float]) -> Distribution:
    mean, deviation = numbers[0], _positive(numbers[1])
    reach = DEVIATIONS_MAX * deviation
    return Normal(mean, deviation, *_ends(numbers, 2, max(1.0, mean - reach), mean + reach))


def _lognormal(numbers: list[float]) -> Distribution:
    median, sigma = _positive(numbers[0]), _positive(numbers[1])
    reach = math.exp(DEVIATIONS_MAX * sigma)
    return Lognormal(median, sigma, *_ends(numbers, 2, max(min(1.0, median), median / reach), median * reach))


def _exponential(numbers: list[float]) -> Distribution:
    mean = _positive(numbers[0])
    return Exponential(mean, *_ends(numbers, 1, min(1.0, mean), MEANS_MAX * mean))


def _choices(inside: str) -> Distribution:
    pairs = [part.partition(":") for part in inside.split(",")]
    weights = [_positive(float(share)) if colon else 1.0 for _, colon, share in pairs]
    if len(pairs) > CHOICES_MAX or len({colon for _, colon, _ in pairs}) > 1:
        raise ValueError
    total = sum(weights)
    return Choices(tuple(float(value) for value, _, _ in pairs), tuple(each / total for each in accumulate(weights)))


_BUILD: dict[str, Callable[[list[float]], Distribution]] = {
    "constant": _constant,
    "uniform": _uniform,
    "normal": _normal,
    "lognormal": _lognormal,
    "exponential": _exponential,
}
