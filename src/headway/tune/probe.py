"""What any search asks for, is told, and answers."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from headway.tune.observation import Observation, Verdict

VOID_MAX = 2
"""Probes that were cut short: then the search ends."""
REFUSED_MAX = 3
"""Loads to which the server could not be set: then the search ends. Each may have taken minutes to find out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """``probes``: runs in all, those for more samples included. ``most``: the largest load to be tried.

    ``samples``: requests that a probe should see, and ``samples_max`` until it may stay undecided.
    """

    probes: int = 12
    most: float = 512
    samples: int = 120
    samples_max: int = 1600

    def __post_init__(self) -> None:
        if self.probes < 1 or self.most <= 0 or not 1 <= self.samples <= self.samples_max:
            raise ValueError(f"limits of a search must be positive, and samples at most samples_max: {self}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """What to measure next, and why. ``is_more``: further samples of a load that was measured before; what is told
    about it then covers all of them. ``skipped``: the steps between the last one and this that are left out."""

    load: float
    samples: int
    why: str
    is_more: bool = False
    skipped: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    probe: Probe
    observation: Observation
    verdict: Verdict


class Found(StrEnum):
    POINT = "point"
    """The largest load that passes is known within the tolerance."""
    UNDECIDED = "undecided"
    """Chance alone may put the crossing anywhere between two loads; the best estimate is given."""
    NONE = "none"
    """The promise is broken at the smallest load."""
    OPEN = "open"
    """The promise holds at the largest load that was to be tried."""
    CLIENT = "client"
    """The promise holds as far as the client can measure."""
    SERVER = "server"
    """The promise holds as far as the server can be set."""
    CUT = "cut"
    """The search ended before it could tell: interrupted, out of time or of probes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """``load``: the operating point; None if there is none. The promise surely holds at ``low`` (None: nowhere) and is
    surely broken at ``high`` (None: nowhere tried). ``crossing``: where the measured curve crosses its target.
    ``part``: the target that is crossed first."""

    found: Found
    load: float | None
    low: float | None
    high: float | None
    crossing: float | None
    part: str | None
    reason: str | None = None
