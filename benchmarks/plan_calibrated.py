"""Two parameters from two points of a setting, and how far the setting's other points are then off."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from benchmarks.plan_point import Point
from benchmarks.plan_predict import Prediction, Predictor, Unpredictable
from benchmarks.plan_scores import Figure, Scored
from headway.plan.calibration import StepPoint, fit
from headway.plan.engine import Calibration
from headway.plan.errors import PlanError

STEP_FIGURES = (Figure.TPOT, Figure.THROUGHPUT, Figure.STATIC_E2E)
"""Whose points say how long a step took."""
LEAST = 3
"""Points of a setting: two to fit with, and one to score."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A scored point with its prediction, uncalibrated."""

    scored: Scored
    prediction: Prediction

    @property
    def step_point(self) -> StepPoint:
        made = self.prediction
        return StepPoint(made.round_s, made.measured_round_s(self.scored.point), made.steps)

    @property
    def step_s(self) -> float:
        return self.prediction.round_s / self.prediction.steps


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """``before`` and ``after``: the same points, none of which was fitted to. ``settings``: how many were calibrated.
    ``refused``: how many could not be."""

    before: list[Scored]
    after: list[Scored]
    settings: int
    refused: int


def settings(pairs: Iterable[Pair]) -> list[list[Pair]]:
    """By what one calibration is for, where there is enough to fit and to score; in a fixed order."""
    groups: dict[object, list[Pair]] = {}
    for pair in pairs:
        if pair.scored.figure in STEP_FIGURES:
            groups.setdefault(pair.scored.point.setting, []).append(pair)
    return [sorted(group, key=lambda pair: pair.step_s) for group in groups.values() if len(group) >= LEAST]


def two_points(pairs: Iterable[Pair], predictor: Predictor) -> Outcome:
    """Fitted to the points with the shortest and the longest predicted step; scored on the others."""
    outcome = Outcome(before=[], after=[], settings=0, refused=0)
    for group in settings(pairs):
        outcome = _add(outcome, [group[0], group[-1]], group[1:-1], predictor)
    return outcome


def all_others(pairs: Iterable[Pair], predictor: Predictor) -> Outcome:
    """Every point by a calibration that was fitted to all others of its setting."""
    outcome = Outcome(before=[], after=[], settings=0, refused=0)
    for group in settings(pairs):
        for at, pair in enumerate(group):
            outcome = _add(outcome, group[:at] + group[at + 1 :], [pair], predictor)
    return outcome


def _add(outcome: Outcome, fitted: Sequence[Pair], scored: Sequence[Pair], predictor: Predictor) -> Outcome:
    try:
        calibration = fit([pair.step_point for pair in fitted])
    except PlanError:
        return replace(outcome, refused=outcome.refused + 1)
    pairs = [(pair.scored, _again(pair.scored.point, calibration, predictor)) for pair in scored]
    told = [(before, replace(before, predicted=value)) for before, value in pairs if value is not None]
    return replace(
        outcome,
        before=outcome.before + [before for before, _ in told],
        after=outcome.after + [after for _, after in told],
        settings=outcome.settings + 1,
    )


def _again(point: Point, calibration: Calibration, predictor: Predictor) -> float | None:
    try:
        return predictor.predict(point, calibration).value
    except Unpredictable:
        return None
