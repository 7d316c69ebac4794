"""Two numbers from a few measurements: seconds that every step takes besides, and a factor on what the model says.

Measured seconds of a step = ``step_s`` + ``factor`` * predicted seconds. The additive part is what an engine's host
code adds; the factor is what the kernels lose or gain against the model. Both are found in relative terms, so that a
step of 5 ms counts as much as one of 50 ms, and by least absolute deviations, so that one bad point does not move them.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace

from headway.plan.engine import Calibration
from headway.plan.errors import PlanError

FACTOR_MIN, FACTOR_MAX = 0.25, 4.0
"""Beyond, what was measured is not what was modelled."""
SPREAD_MIN = 1.25
"""Predicted seconds must differ by so much between points to tell the two parameters apart: below, only the factor."""
STEP_SHARE_MIN = -0.5
"""The additive part may take so much of the smallest predicted step away."""


@dataclass(frozen=True, slots=True)
class StepPoint:
    """One measurement: predicted and measured seconds of the same thing, and how many steps it took. For a time per
    output token that is one step."""

    predicted_s: float
    measured_s: float
    steps: float = 1.0


def fit(points: Sequence[StepPoint]) -> Calibration:
    """One point, or several with about the same steps, fix the factor alone. Raises ``PlanError``."""
    if not points:
        raise PlanError("nothing to calibrate with: it takes at least one measured level")
    for each in points:
        if not (each.predicted_s > 0.0 and each.measured_s > 0.0 and each.steps > 0.0):
            raise PlanError("calibration takes seconds above zero")
    per_step = [each.predicted_s / each.steps for each in points]
    candidates = [(0.0, each.measured_s / each.predicted_s) for each in points]
    if max(per_step) >= SPREAD_MIN * min(per_step):
        candidates += _through_pairs(points)
        candidates = [each for each in candidates if each[0] >= STEP_SHARE_MIN * min(per_step)] or candidates
    else:
        candidates = [(0.0, statistics.median(factor for _, factor in candidates))]
    step_s, factor = min(candidates, key=lambda each: (deviation(points, *each), abs(math.log(each[1]))))
    if not FACTOR_MIN <= factor <= FACTOR_MAX:
        raise PlanError(
            f"what was measured takes {factor:.2g} times what the model says: is it this GPU, model, number format and "
            "tensor parallelism that ran?"
        )
    return Calibration(step_s=step_s, factor=factor)


def _through_pairs(points: Sequence[StepPoint]) -> list[tuple[float, float]]:
    """Lines through two points each: a line of least absolute deviations goes through two of them."""
    lines = []
    for at, first in enumerate(points):
        for second in points[at + 1 :]:
            rise = first.predicted_s * second.steps - second.predicted_s * first.steps
            if not math.isclose(rise, 0.0, abs_tol=1e-15):
                factor = (first.measured_s * second.steps - second.measured_s * first.steps) / rise
                step_s = (first.measured_s - factor * first.predicted_s) / first.steps
                if factor > 0.0:
                    lines.append((step_s, factor))
    return lines


def deviation(points: Sequence[StepPoint], step_s: float, factor: float) -> float:
    """Mean absolute log ratio of measured to calibrated seconds."""
    return statistics.fmean(
        abs(math.log(each.measured_s / max(1e-9, step_s * each.steps + factor * each.predicted_s))) for each in points
    )


def left_over(points: Sequence[StepPoint], calibration: Calibration) -> float:
    """The largest absolute log ratio that is left: no band is narrower than what the calibration itself missed."""
    return max(
        abs(math.log(each.measured_s / (calibration.step_s * each.steps + calibration.factor * each.predicted_s)))
        for each in points
    )


def with_band(calibration: Calibration, band: float, points: Sequence[StepPoint]) -> Calibration:
    """``band``: what calibrated predictions miss in general, half width in log space at 90 %."""
    return replace(calibration, band=max(band, left_over(points, calibration)))
