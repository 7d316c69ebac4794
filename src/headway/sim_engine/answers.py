"""What a modelled machine says: words of the bundled tokenizer that mean nothing, for as long as answers tend to be.

Every draw follows from the machine's seed, the position, and the request's own seed or, for a request that takes the
most likely token, the token before. So the same request gets the same answer, whoever shares its batch, preempted or
not, and nothing has to be remembered from one step to the next.
"""

from __future__ import annotations

import math
from itertools import pairwise
from statistics import NormalDist

from headway.policy.plan import Chunk, DrawnToken
from headway.serve.text import Text

LENGTH_MEDIAN = 160.0
LENGTH_SIGMA = 0.6
"""Answers that may end when they like have lognormal lengths: 60 to 430 tokens in nine of ten cases."""
LENGTH_MAX = 4096
"""From here on, the chance to end stays as it is."""

_MASK = (1 << 64) - 1
_BY_POSITION, _BY_SEED, _TO_END = 0x9E3779B97F4A7C15, 0xD1B54A32D192ED03, 0x8CB92BA72F3D8DD7
LOG_HALF = -math.log(2.0)


class Answers:
    """Draws tokens of ``text``: words, or beginnings of words, so that each is text by itself when it comes."""

    def __init__(self, text: Text, seed: int) -> None:
        self.vocab_size = text.vocab_size
        self._words = [token for token in range(text.vocab_size) if _is_word(text.token_bytes(token))]
        self._ends = text.eos_ids
        self._chance = _chances()
        self._seed = _mix(seed & _MASK)

    def draw(self, chunk: Chunk) -> DrawnToken:
        """The next token of a sequence whose chunk asks for one."""
        draw = chunk.draw
        assert draw is not None
        params = draw.params
        position = chunk.start + len(chunk.tokens)
        origin = params.seed if params.temperature > 0.0 else chunk.tokens[-1]
        drawn = _mix(self._seed ^ (origin * _BY_SEED + position * _BY_POSITION & _MASK))
        if params.stop_token_ids and draw.output_index >= params.min_tokens:
            chance = self._chance[min(draw.output_index, LENGTH_MAX - 1)]
            if _mix(drawn ^ _TO_END) < chance * _MASK:
                for end in self._ends:
                    if end in params.stop_token_ids:
                        return DrawnToken(chunk.request_id, end)
        words = self._words
        number = drawn % len(words)
        if params.logprobs is None:
            return DrawnToken(chunk.request_id, words[number])
        top = tuple((words[(number + rank) % len(words)], (rank + 1) * LOG_HALF) for rank in range(params.logprobs))
        return DrawnToken(chunk.request_id, words[number], LOG_HALF, top)


def _is_word(spelt: bytes) -> bool:
    return spelt.isascii() and spelt[:1] == b" " and spelt[1:].isalpha()


def _chances() -> list[float]:
    """The chance that an answer which has so many tokens ends there."""
    logarithm = NormalDist(math.log(LENGTH_MEDIAN), LENGTH_SIGMA)
    ended = [0.0, *(logarithm.cdf(math.log(tokens + 0.5)) for tokens in range(1, LENGTH_MAX))]
    return [0.0, *((now - before) / (1.0 - before) for before, now in pairwise(ended))]  # none has 0 tokens


def _mix(value: int) -> int:
    """64 well-mixed bits of 64 (the finaliser of SplitMix64: Steele, Lea and Flood, 2014)."""
    value = (value ^ value >> 30) * 0xBF58476D1CE4E5B9 & _MASK
    value = (value ^ value >> 27) * 0x94D049BB133111EB & _MASK
    return value ^ value >> 31
