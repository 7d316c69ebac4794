"""How far above its prediction a step's time may go: a quantile learned online, with no assumption about the noise."""

from __future__ import annotations

from math import exp, log

COVERAGE = 0.95
MARGIN_MIN, MARGIN_MAX = 1.0, 4.0
RATE = 1.0
"""Size of a correction, in units of the typical deviation."""
RATE_MIN, RATE_MAX = 0.002, 0.2
SPREAD_MEMORY = 0.98
DEVIATION_MAX = 0.7
"""A deviation counts as a factor of two at most, so that one outlier doesn't make all corrections large."""


class Tail:
    """The factor by which a prediction is multiplied so that ``COVERAGE`` of the steps stay within it.

    After each step it grows a little if the step took longer, else shrinks 19 times less: in the long run the share of
    steps within it is ``COVERAGE`` whatever the noise is and however it changes (adaptive conformal inference, Gibbs
    and Candes 2021). Corrections are as large as deviations usually are, so a steady machine has a steady margin.
    """

    def __init__(self, margin: float = 1.25, spread: float = 0.1) -> None:
        self.margin = margin
        self.spread = spread

    def observe(self, ratio: float) -> None:
        """``ratio``: actual time over predicted time, above 0."""
        rate = min(max(RATE * self.spread, RATE_MIN), RATE_MAX)
        step = COVERAGE if ratio > self.margin else COVERAGE - 1.0
        self.margin = min(max(self.margin * exp(rate * step), MARGIN_MIN), MARGIN_MAX)
        deviation = min(abs(log(ratio)), DEVIATION_MAX)
        self.spread = SPREAD_MEMORY * self.spread + (1.0 - SPREAD_MEMORY) * deviation
