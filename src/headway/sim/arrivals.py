"""When requests come: processes of unit rate. A rate of r a second divides every gap by r, so that the same seed gives
the same pattern at any rate, and two rates differ in nothing else (common random numbers)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Protocol


class Process(Protocol):
    def gaps(self, random: Random) -> Iterator[float]:
        """Endless times between two arrivals, of mean 1."""
        ...


@dataclass(frozen=True, slots=True)
class Poisson:
    """Independent arrivals: exponential gaps."""

    def gaps(self, random: Random) -> Iterator[float]:
        while True:
            yield random.expovariate(1.0)


@dataclass(frozen=True, slots=True)
class Gamma:
    """Gamma gaps with a given coefficient of variation: 1 is Poisson, more comes in bursts, less is more regular."""

    cv: float

    def __post_init__(self) -> None:
        if not 0.0 < self.cv <= 100.0:
            raise ValueError(f"the coefficient of variation must be above 0 and at most 100, not {self.cv}")

    def gaps(self, random: Random) -> Iterator[float]:
        shape = self.cv**-2
        while True:
            yield random.gammavariate(shape, 1.0 / shape)


@dataclass(frozen=True, slots=True)
class Regular:
    """One arrival after the other at equal distances."""

    def gaps(self, random: Random) -> Iterator[float]:
        while True:
            yield 1.0
