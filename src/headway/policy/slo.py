"""What was promised: latency objectives, the classes of traffic that have them, and who kept what.

All promises are at p95 over requests: a request is *in SLO* when it finished, its first token came within ``ttft_s``,
the 95th percentile of its own gaps between tokens is within ``itl_s``, and it ended within ``e2e_s``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import repeat
from operator import lt
from typing import Literal

LATE_GAPS_SHARE = 0.05
"""Share of a request's gaps that may exceed ``itl_s``: the rest is the 95 % of the promise."""
TARGET_ATTAINMENT = 0.95
"""Share of requests in SLO that is meant by "kept"."""

SECONDS_MAX = 86_400.0
EPSILON_S = 1e-9
"""Times are sums of many terms; a promise met to a nanosecond is met."""

Part = Literal["ttft", "itl", "e2e"]
"""Of a promise, in the order in which they can be broken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """Latency promised to one request; None where nothing is promised. Raises ValueError on what can't be meant."""

    ttft_s: float | None = None
    itl_s: float | None = None
    e2e_s: float | None = None

    def __post_init__(self) -> None:
        for name in ("ttft_s", "itl_s", "e2e_s"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and 0.0 < value <= SECONDS_MAX):
                raise ValueError(f"{name} must be above 0 and at most {SECONDS_MAX:g} seconds, not {value}")

    @property
    def is_empty(self) -> bool:
        return self.ttft_s is None and self.itl_s is None and self.e2e_s is None

    # What "in SLO" means: decided here and nowhere else. Of a request that finished with all its tokens.

    def keeps_ttft(self, ttft_s: float) -> bool:
        return self.ttft_s is None or ttft_s <= self.ttft_s + EPSILON_S

    def keeps_itl(self, late_gaps: int, gaps: int) -> bool:
        """Whether the p95 of ``gaps`` is within ``itl_s`` when so many of them are longer (``late_gaps_of``)."""
        return self.itl_s is None or late_gaps <= late_gaps_allowed(gaps)

    def keeps_e2e(self, e2e_s: float) -> bool:
        return self.e2e_s is None or e2e_s <= self.e2e_s + EPSILON_S

    def late_gaps_of(self, gaps_s: Iterable[float]) -> int:
        """How many are longer than ``itl_s``; 0 if none is promised."""
        if self.itl_s is None:
            return 0
        return sum(map(lt, repeat(self.itl_s + EPSILON_S), gaps_s))

    def broken(self, ttft_s: float, late_gaps: int, gaps: int, e2e_s: float) -> Part | None:
        """The first part of the promise that was not kept; None for a request in SLO."""
        if not self.keeps_ttft(ttft_s):
            return "ttft"
        if not self.keeps_itl(late_gaps, gaps):
            return "itl"
        return None if self.keeps_e2e(e2e_s) else "e2e"


NO_PROMISE = Objective()


def late_gaps_allowed(gaps: int) -> int:
    """How many of a request's ``gaps`` may exceed its ``itl_s`` while their p95 (nearest rank) keeps to it."""
    return gaps - math.ceil(gaps * (1.0 - LATE_GAPS_SHARE) - 1e-9)


def gaps_needed(late_gaps: int) -> int:
    """The fewest gaps of which so many may exceed ``itl_s``."""
    return math.ceil(late_gaps / LATE_GAPS_SHARE - 1e-9)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceClass:
    """A class of traffic. ``tiers``: the values of the API's ``service_tier`` that pick it; the first is its own.

    ``weight`` is what one of its requests is worth when not all can be on time. A class without any promise is
    *batch*: it uses what the others leave.
    """

    name: str
    objective: Objective = NO_PROMISE
    tiers: tuple[str, ...] = ()
    weight: float = 1.0

    def __post_init__(self) -> None:
        if not self.name.replace("-", "_").isidentifier() or len(self.name) > 32:
            raise ValueError(f"a class is named by a short word, not {self.name!r}")
        if not (math.isfinite(self.weight) and 0.0 < self.weight <= 1000.0):
            raise ValueError(f"the weight of class {self.name} must be above 0 and at most 1000, not {self.weight}")

    @property
    def is_batch(self) -> bool:
        return self.objective.is_empty


CONVERSATIONAL = ServiceClass(
    name="conversational", objective=Objective(ttft_s=0.3, itl_s=0.1), tiers=("priority", "scale")
)
INTERACTIVE = ServiceClass(name="interactive", objective=Objective(ttft_s=0.5, e2e_s=2.0), tiers=("default", "auto"))
BATCH = ServiceClass(name="batch", tiers=("flex",))

CLASSES_MAX = 16


class ServiceClasses(Mapping[str, ServiceClass]):
    """The classes that a server knows, by name: immutable. ``batch`` is always among them, and promises nothing.

    Raises ValueError for two classes of one name or tier, too many of them, or a batch class with a promise.
    """

    def __init__(self, classes: Iterable[ServiceClass] = (CONVERSATIONAL, INTERACTIVE, BATCH)) -> None:
        given = list(classes)
        self._classes = {each.name: each for each in given}
        if len(self._classes) != len(given):
            raise ValueError("two service classes have the same name")
        if len(given) > CLASSES_MAX:
            raise ValueError(f"there may be {CLASSES_MAX} service classes, not {len(given)}")
        self._classes.setdefault(BATCH.name, BATCH)
        if not self._classes[BATCH.name].is_batch:
            raise ValueError("the class batch can't promise anything: others are promised what it leaves them")
        self._by_tier: dict[str, ServiceClass] = {}
        for each in self._classes.values():
            for tier in each.tiers or (each.name,):
                if tier in self._by_tier:
                    raise ValueError(f"the service tier {tier!r} belongs to two classes")
                self._by_tier[tier] = each
        for each in self._classes.values():  # a class can always be asked for by its own name
            self._by_tier.setdefault(each.name, each)

    def __getitem__(self, name: str) -> ServiceClass:
        return self._classes[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._classes)

    def __len__(self) -> int:
        return len(self._classes)

    @property
    def tiers(self) -> Mapping[str, ServiceClass]:
        """Every value that ``service_tier`` may have, and the class it picks."""
        return self._by_tier

    def tier_of(self, name: str) -> str:
        """What a reply calls the class: its first tier."""
        return next(iter(self._classes[name].tiers), name)

    def with_objective(self, name: str, objective: Objective) -> ServiceClasses:
        """The same classes with another promise for one of them. Raises KeyError if there is no such class."""
        old = self._classes[name]
        changed = ServiceClass(name=name, objective=objective, tiers=old.tiers, weight=old.weight)
        return ServiceClasses(changed if each.name == name else each for each in self._classes.values())
