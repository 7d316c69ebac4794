"""Workloads that are drawn: lengths from distributions, text from the tokenizer's words."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import accumulate, count
from random import Random
from statistics import fmean

from headway.bench.call import Call, Turn
from headway.bench.lengths import Constant, Distribution, draw_tokens
from headway.bench.tokens import Tokens

PREFIXES_MAX = 100_000
PREFIXES_KEPT = 256
"""Texts of shared prefixes that are kept; the others are made again when they come."""
TURNS_MAX = 256
THINK_S_MAX = 3600.0
_NOTHING, _ONE, _NEXT = Constant(0), Constant(1), Constant(64)
_SAMPLE = 1000

Prefix = Callable[[int, int], tuple[str, int]]
"""Text and tokens of a shared prefix, by the number of its kind and its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One kind of request. A prompt is a shared prefix, if there are ``prefixes``, and ``input`` tokens of its own.

    ``zipf``: the k-th prefix comes in proportion to k to the power of minus this; 0: all alike.
    ``turns``: messages of the user in a conversation; those after the first have ``next_input`` tokens each and come
    ``think_s`` after the answer.
    """

    input: Distribution
    output: Distribution
    prefixes: int = 0
    prefix: Distribution = _NOTHING
    zipf: float = 0.0
    turns: Distribution = _ONE
    next_input: Distribution = _NEXT
    think_s: Distribution = _NOTHING
    share: float = 1.0
    service_class: str = ""
    tier: str | None = None
    is_exact: bool = True

    @property
    def longest(self) -> float:
        """Tokens of the longest conversation, answers included."""
        later = (self.turns.high - 1) * (self.next_input.high + self.output.high)
        prefix = self.prefix.high if self.prefixes else 0
        return prefix + self.input.high + self.output.high + later

    @property
    def is_conversation(self) -> bool:
        return self.turns.high > 1

    def scaled(self, factor: float) -> Kind:
        """With all lengths times ``factor``."""
        return replace(
            self,
            input=self.input.scaled(factor),
            output=self.output.scaled(factor),
            prefix=self.prefix.scaled(factor),
            next_input=self.next_input.scaled(factor),
        )

    def call(self, tokens: Tokens, rng: Random, shared: tuple[str, int]) -> Call:
        own = draw_tokens(self.input, rng)
        output = draw_tokens(self.output, rng)
        turns = draw_tokens(self.turns, rng)
        text = tokens.text(own, rng)
        prefix, prefix_tokens = shared
        prompt = f"{prefix} {text}" if prefix else text
        return Call(
            prompt=prompt if not self.is_conversation else "",
            messages=({"role": "user", "content": prompt},) if self.is_conversation else (),
            prompt_tokens=prefix_tokens + own,
            max_tokens=output,
            exact_output=self.is_exact,
            service_class=self.service_class,
            tier=self.tier,
            turns=tuple(self._turn(tokens, rng) for _ in range(turns - 1)),
        )

    def describe(self) -> dict[str, object]:
        rng = Random(0)
        found: dict[str, object] = {
            "input": str(self.input),
            "output": str(self.output),
            "input_tokens_mean": round(fmean(draw_tokens(self.input, rng) for _ in range(_SAMPLE)), 1),
            "output_tokens_mean": round(fmean(draw_tokens(self.output, rng) for _ in range(_SAMPLE)), 1),
            "exact_output": self.is_exact,
        }
        if self.prefixes:
            found |= {"prefixes": self.prefixes, "prefix": str(self.prefix), "zipf": self.zipf}
        if self.is_conversation:
            found |= {"turns": str(self.turns), "next": str(self.next_input), "think_s": str(self.think_s)}
        if self.service_class:
            found |= {"class": self.service_class}
        if self.tier is not None:
            found |= {"tier": self.tier}
        return found

    def _turn(self, tokens: Tokens, rng: Random) -> Turn:
        own = draw_tokens(self.next_input, rng)
        return Turn(
            text=tokens.text(own, rng),
            tokens=own,
            max_tokens=draw_tokens(self.output, rng),
            think_s=self.think_s.draw(rng),
        )


@dataclass(frozen=True, slots=True)
class Drawn:
    """Kinds of requests, each as often as its share says."""

    name: str
    tokens: Tokens
    kinds: tuple[Kind, ...]

    @property
    def rate(self) -> float | None:
        return None

    @property
    def shares_prefixes(self) -> bool:
        return any(each.prefixes or each.is_conversation for each in self.kinds)

    def describe(self) -> dict[str, object]:
        found: dict[str, object] = {"name": self.name, "tokens": self.tokens.source}
        if len(self.kinds) == 1:
            return found | self.kinds[0].describe()
        total = sum(kind.share for kind in self.kinds)
        found["exact_output"] = all(kind.is_exact for kind in self.kinds)
        return found | {"mix": [{"share": round(kind.share / total, 4), **kind.describe()} for kind in self.kinds]}

    def calls(self, seed: int, *, first: int = 0, step: int = 1) -> Iterator[Call]:
        shares = tuple(accumulate(kind.share for kind in self.kinds))
        numbers = range(len(self.kinds))
        weights = [_zipf(kind) for kind in self.kinds]
        prefix: Prefix = lru_cache(PREFIXES_KEPT)(lambda number, which: self._prefix(seed, number, which))
        for index in count(first, step):
            rng = Random(f"{self.name} {seed} {index}")
            number = rng.choices(numbers, cum_weights=shares)[0]
            kind = self.kinds[number]
            shared = ("", 0)
            if kind.prefixes:
                shared = prefix(number, rng.choices(range(kind.prefixes), cum_weights=weights[number])[0])
            yield kind.call(self.tokens, rng, shared)

    def _prefix(self, seed: int, number: int, which: int) -> tuple[str, int]:
        rng = Random(f"{self.name} {seed} kind {number} prefix {which}")
        tokens = draw_tokens(self.kinds[number].prefix, rng)
        return self.tokens.text(tokens, rng), tokens


def _zipf(kind: Kind) -> tuple[float, ...]:
    return tuple(accumulate((rank + 1) ** -kind.zipf for rank in range(kind.prefixes)))
