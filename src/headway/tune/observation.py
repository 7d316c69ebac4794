"""What a probe saw, and what that says about a promise."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

FAILURES, MISSES = "failures", "misses"
SHARES = (FAILURES, MISSES)
"""Parts that are shares of requests, not times: of those that failed, and of those out of SLO."""


class Verdict(StrEnum):
    PASS = "pass"
    FAIL = "fail"
    UNDECIDED = "undecided"
    """The target is within what chance alone may do to the measured value."""
    VOID = "void"
    """The probe was cut short or measured its own client: it says nothing about the server."""


@dataclass(frozen=True, slots=True)
class Measured:
    """A value that should not exceed its target, with its 95 % interval. ``low`` 0, ``high`` infinite: not bounded."""

    value: float
    low: float = 0.0
    high: float = math.inf

    def verdict(self, target: float) -> Verdict:
        if self.high <= target:
            return Verdict.PASS
        return Verdict.FAIL if self.low > target else Verdict.UNDECIDED

    @property
    def deviation(self) -> float:
        """About the standard deviation of ``value`` relative to it; 1 where an interval has an open side."""
        if not (0.0 < self.value < math.inf and self.low > 0.0 and self.high < math.inf):
            return 1.0
        return max((self.high - self.low) / (2 * 1.96 * self.value), 1e-4)


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """``parts``: by name (``ttft``, ``itl``, ``e2e`` as p95 in seconds, or a share of ``SHARES``). ``samples``: of
    requests. ``requests_per_s`` and ``throughput`` (output tokens a second): of the steady window.

    ``void``: why nothing follows from it; None: it counts. ``is_client_bound``: the client was at its limit.
    """

    parts: Mapping[str, Measured] = field(default_factory=dict)
    samples: int = 0
    requests_per_s: float = 0.0
    throughput: float = 0.0
    void: str | None = None
    is_client_bound: bool = False

    def verdict(self, targets: Mapping[str, float]) -> Verdict:
        """Of all ``targets`` together: a part that was not measured leaves it undecided."""
        if self.void is not None:
            return Verdict.VOID
        verdicts = [self.parts.get(part, Measured(math.nan)).verdict(target) for part, target in targets.items()]
        if Verdict.FAIL in verdicts:
            return Verdict.FAIL
        return Verdict.UNDECIDED if Verdict.UNDECIDED in verdicts else Verdict.PASS

    def worst(self, targets: Mapping[str, float]) -> str | None:
        """The part that is nearest to its target, or furthest beyond; None if none was measured."""
        known = [part for part in targets if part in self.parts]
        return max(known, key=lambda part: self.parts[part].value / targets[part], default=None)

    def load_of_targets(self, targets: Mapping[str, float]) -> float:
        """The worst part's value as a share of its target."""
        part = self.worst(targets)
        return 0.0 if part is None else self.parts[part].value / targets[part]
