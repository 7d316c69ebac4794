"""The second coordinate: tokens in a step, for a batch that is chosen. Climbs a ladder of powers of two, either way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from headway.tune.observation import Observation, Verdict
from headway.tune.probe import VOID_MAX

TOKENS_MIN, TOKENS_MAX = 256, 32_768
GAIN = 0.03
"""A step of the ladder must be so much better to be taken: less is chance."""


@dataclass(frozen=True, slots=True, order=True)
class Score:
    """Larger is better: first whether the promise holds, then the throughput; without the promise, how nearly."""

    holds: bool
    value: float

    def is_better(self, than: Score) -> bool:
        if self.holds is not than.holds:
            return self.holds
        return self.value > than.value * (1 + GAIN if than.value > 0 else 1 - GAIN)


def score(observation: Observation, targets: Mapping[str, float]) -> Score | None:
    """None: nothing follows from it. What is undecided holds if its values do."""
    verdict = observation.verdict(targets)
    if verdict is Verdict.VOID:
        return None
    worst = observation.load_of_targets(targets)
    holds = verdict is Verdict.PASS or (verdict is Verdict.UNDECIDED and worst <= 1.0)
    return Score(True, observation.throughput) if holds else Score(False, -worst)


class TokensSearch:
    """``first``: where the batch was chosen, with its score. ``next`` says what to try, ``tell`` what came of it."""

    def __init__(self, first: int, first_score: Score, *, least: int, probes: int) -> None:
        self.best, self.best_score = first, first_score
        self._least, self._left = max(least, TOKENS_MIN), probes
        self._direction, self._turned = 2.0, False
        self._voids = 0

    def next(self) -> int | None:
        if self._left <= 0:
            return None
        tokens = round(self.best * self._direction)
        if self._least <= tokens <= TOKENS_MAX:
            return tokens
        return self.next() if self._turn() else None

    def tell(self, tokens: int, found: Score | None) -> None:
        """The first step that isn't better turns round, the second ends it. One of which nothing follows (None) is
        tried once more: it says nothing of what lies beyond."""
        self._left -= 1
        if found is None:
            self._voids += 1
            self._left = 0 if self._voids >= VOID_MAX else self._left
        elif found.is_better(self.best_score):
            self.best, self.best_score = tokens, found
            self._turned = True  # what lies behind was worse
        elif not self._turn():
            self._left = 0

    def _turn(self) -> bool:
        if self._turned:
            return False
        self._turned, self._direction = True, 0.5
        return True
