"""How long answers tend to be, by class of traffic: what was seen lately is what is expected.

Nobody knows an answer's length beforehand. Each running request is given one drawn from the lengths seen that are
longer than what it has so far, always the same for the same request, so that together they are distributed as the
answers seen. Source of the idea: the past-future scheduler of LightLLM (arXiv 2507.10150).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections import deque

from headway.policy.request import Request

KEPT = 256
ENOUGH = 16
"""With fewer answers seen of a class, nothing is expected of it."""

_GOLDEN = 0.6180339887498949
"""Multiples of it, modulo 1, spread evenly however many there are."""


class OutputLengths:
    """The latest ``KEPT`` answers of each class."""

    def __init__(self) -> None:
        self._latest: dict[str, deque[int]] = {}
        self._ordered: dict[str, list[int]] = {}

    def observe(self, service_class: str, tokens: int) -> None:
        latest = self._latest.setdefault(service_class, deque())
        ordered = self._ordered.setdefault(service_class, [])
        if len(latest) == KEPT:
            del ordered[bisect_right(ordered, latest.popleft()) - 1]
        latest.append(tokens)
        insort(ordered, tokens)

    def expected(self, request: Request) -> int | None:
        """How long its answer may get in all, by what was seen of its class; None if that says nothing."""
        ordered = self._ordered.get(request.service_class, ())
        known = len(ordered)
        if known < ENOUGH:
            return None
        longer = bisect_right(ordered, len(request.tokens) - len(request.spec.prompt))
        if longer == known:
            return None
        return ordered[longer + int(request.order * _GOLDEN % 1.0 * (known - longer))]

    def share_ending_before(self, request: Request, tokens: int) -> float | None:
        """Of the answers seen of its class that were longer than its own is now, how many had fewer than ``tokens``;
        None if there were none, or too few of all."""
        ordered = self._ordered.get(request.service_class, ())
        known = len(ordered)
        longer = bisect_right(ordered, request.output_tokens)
        if known < ENOUGH or longer == known:
            return None
        return (max(bisect_left(ordered, tokens), longer) - longer) / (known - longer)
