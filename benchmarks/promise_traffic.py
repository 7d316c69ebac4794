"""The traffic of ``benchmarks.promise``: short chats as token ids, every prompt different, lengths drawn by seed."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from statistics import NormalDist

from headway.bench.arrivals import arrivals
from headway.bench.call import Call

ARRIVALS = {"poisson": 1.0, "bursty": 4.0}
"""Arrival processes by name: the coefficient of variation of the gaps."""


@dataclass(frozen=True, slots=True)
class Lengths:
    """Lognormal around ``median``, ``sigma`` that of the logarithm, clipped to ``shortest`` .. ``longest`` tokens."""

    median: int
    sigma: float
    shortest: int
    longest: int

    def draw(self, rng: random.Random) -> int:
        tokens = round(rng.lognormvariate(math.log(self.median), self.sigma))
        return min(max(tokens, self.shortest), self.longest)

    def share_above(self, tokens: float) -> float:
        """Of draws, the share that is longer."""
        if tokens < self.shortest:
            return 1.0
        if tokens >= self.longest:
            return 0.0
        longest = math.floor(tokens) + 0.5  # that is rounded to no more
        return 1.0 - NormalDist(math.log(self.median), self.sigma).cdf(math.log(longest))


PROMPT = Lengths(48, 0.6, 16, 160)
OUTPUT = Lengths(32, 0.5, 8, 96)


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """``tier`` and ``headers`` go with every request: what it is promised. Not for servers that know no promises."""

    vocab_size: int
    tier: str | None
    headers: Mapping[str, str]
    prompt: Lengths = PROMPT
    output: Lengths = OUTPUT

    def schedule(self, process: str, rate: float, seconds: float, seed: int) -> list[Call]:
        """The calls of one point. The seed decides lengths and tokens as well as times."""
        rng = random.Random(seed)
        times = arrivals(rate, seconds, seed=seed, cv=ARRIVALS[process])
        return [replace(self.call(rng), at_s=at_s) for at_s in times]

    def call(self, rng: random.Random) -> Call:
        prompt_tokens, output_tokens = self.prompt.draw(rng), self.output.draw(rng)
        return Call(
            prompt=tuple(rng.randrange(self.vocab_size) for _ in range(prompt_tokens)),
            prompt_tokens=prompt_tokens,
            max_tokens=output_tokens,
            tier=self.tier,
            headers=self.headers,
            extra={"temperature": 0, "ignore_eos": True},
        )
