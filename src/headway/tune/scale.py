"""Loads on a scale where one unit is the difference that matters: where a search stands, and where it may look next."""

from __future__ import annotations

import math
from dataclasses import dataclass

TOLERANCE = 0.05
"""How near a search comes to the truth, as a share of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """Loads from ``grain`` up. A unit is one ``grain`` for small loads and ``tolerance`` of the load for larger ones.

    ``whole``: loads are whole multiples of the grain (a batch is; a rate is not).
    """

    grain: float = 1.0
    tolerance: float = TOLERANCE
    whole: bool = True

    def position(self, load: float) -> float:
        knee = self.grain / self.tolerance
        if load <= knee:
            return load / self.grain
        return 1.0 / self.tolerance + math.log(load / knee) / math.log1p(self.tolerance)

    def load(self, position: float) -> float:
        knee = 1.0 / self.tolerance
        if position <= knee:
            return position * self.grain
        return self.grain * knee * math.exp((position - knee) * math.log1p(self.tolerance))

    def between(self, low: float, high: float, wanted: float, probes: int) -> float | None:
        """The load nearest to ``wanted`` between two others such that ``probes`` probes, this one the first, are enough
        to come within a unit whatever they find; the middle if nothing can guarantee that. None: nothing in between.
        """
        reach = int(2 ** min(max(probes - 1, 0), 16))
        most = self._after(low, reach, high)
        least = self._least_that_reaches(low, high, reach)
        if least > most:
            least = most = self.load((self.position(low) + self.position(high)) / 2)
        load = min(max(wanted, least), most)
        if self.whole:
            load = self._whole(min(max(self._whole(load), math.ceil(least)), math.floor(most)))
            load = min(max(load, low + self.grain), math.ceil(high / self.grain - 1) * self.grain)
        return load if low < load < high else None

    def _whole(self, load: float) -> float:
        return round(load / self.grain) * self.grain

    def _after(self, load: float, steps: int, most: float) -> float:
        """So many units further, at most ``most``."""
        while steps > 0 and load < most:
            load, steps = self.last_near(load), steps - 1
        return min(load, most)

    def _least_that_reaches(self, low: float, high: float, steps: int) -> float:
        """The smallest load from ``low`` on from which ``high`` is at most so many units away."""
        if self._after(low, steps, high) >= high:
            return low
        far = high
        while far - low > (self.grain if self.whole else self.grain / 100) * (1 + 1e-9):
            middle = self._whole((low + far) / 2) if self.whole else (low + far) / 2
            if not low < middle < far:
                middle = low + self.grain
            low, far = (low, middle) if self._after(middle, steps, high) >= high else (middle, far)
        return far

    def last_near(self, low: float) -> float:
        """The largest load that is near to ``low``."""
        reach = low + max(low * self.tolerance, self.grain)
        return math.floor(reach / self.grain + 1e-9) * self.grain if self.whole else reach

    def first_near(self, high: float) -> float:
        """The smallest load that ``high`` is near to."""
        reach = min(high / (1.0 + self.tolerance), high - self.grain)
        return math.ceil(reach / self.grain - 1e-9) * self.grain if self.whole else reach

    def is_near(self, low: float, high: float) -> bool:
        """Whether no load between the two is more than ``tolerance``, or a grain, away from the lower."""
        return high - low <= max(self.grain, low * self.tolerance) * (1 + 1e-9)


DOUBLING_FROM = 16


def batch_rungs(most: int) -> list[int]:
    """The steps of the visible climb: 1, then by 2 up to 8, by 4 up to 16, then doubling. Ends with ``most``."""
    rungs = [1, *range(2, 9, 2), 12, DOUBLING_FROM]
    while rungs[-1] < most:
        rungs.append(2 * rungs[-1])
    return [*(rung for rung in rungs if rung < most), most]
