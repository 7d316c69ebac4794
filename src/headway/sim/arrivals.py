"""When requests come: processes of unit rate, and loads that stretch their time."""

from __future__ import annotations

import math
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


class Load(Protocol):
    """How a process of unit rate is laid out in time."""

    def time_s(self, units: float) -> float:
        """When ``units`` arrivals are to be expected to have come: finite, and never falls as they grow."""
        ...


@dataclass(frozen=True, slots=True)
class Steady:
    """``rate`` arrivals a second."""

    rate: float

    def __post_init__(self) -> None:
        _check(self.rate)

    def time_s(self, units: float) -> float:
        return units / self.rate


@dataclass(frozen=True, slots=True)
class Stages:
    """One rate after the other: pairs of seconds and rate. The last rate stays."""

    stages: tuple[tuple[float, float], ...]

    def __post_init__(self) -> None:
        if not self.stages:
            raise ValueError("a load needs a stage")
        for seconds, rate in self.stages:
            _check(rate)
            if not 0.0 < seconds < math.inf:
                raise ValueError(f"a stage must last some finite time, not {seconds} s")

    def time_s(self, units: float) -> float:
        begin_s = 0.0
        for seconds, rate in self.stages[:-1]:
            if units < seconds * rate:
                return begin_s + units / rate
            units -= seconds * rate
            begin_s += seconds
        return begin_s + units / self.stages[-1][1]


def _check(rate: float) -> None:
    if not 0.0 < rate < math.inf:
        raise ValueError(f"a rate must be above 0 and finite, not {rate} a second")
