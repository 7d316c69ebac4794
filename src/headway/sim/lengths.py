"""How long prompts and answers are: distributions over tokens."""

from __future__ import annotations

import math
from dataclasses import dataclass
from random import Random
from typing import Protocol


class Lengths(Protocol):
    @property
    def longest(self) -> int:
        """No draw is above this."""
        ...

    def draw(self, random: Random) -> int: ...

    def scaled(self, factor: float) -> Lengths:
        """The same distribution with every length times ``factor``, one token at least."""
        ...


def scale(tokens: int, factor: float) -> int:
    return max(1, round(tokens * factor))


@dataclass(frozen=True, slots=True)
class Fixed:
    tokens: int

    @property
    def longest(self) -> int:
        return self.tokens

    def draw(self, random: Random) -> int:
        return self.tokens

    def scaled(self, factor: float) -> Fixed:
        return Fixed(scale(self.tokens, factor))


@dataclass(frozen=True, slots=True)
class Lognormal:
    """Lognormal around ``median``, clipped to ``shortest`` .. ``longest``; ``sigma`` is that of the logarithm."""

    median: float
    sigma: float
    shortest: int
    longest: int

    def draw(self, random: Random) -> int:
        tokens = random.lognormvariate(math.log(self.median), self.sigma)
        return min(max(round(tokens), self.shortest), self.longest)

    def scaled(self, factor: float) -> Lognormal:
        return Lognormal(self.median * factor, self.sigma, scale(self.shortest, factor), scale(self.longest, factor))
