"""The step-time model against steps that were measured, not made up.

``measured_steps.csv``: random:smollm2-135m on two cores and two threads, after 100 made-up steps a mixed load with at
most 64 tokens a step, alone on the machine at first, then beside two busy processes.
"""

from __future__ import annotations

import csv
from pathlib import Path

from headway.policy.steptime import StepShape, StepTimeModel

SETTLE_STEPS = 20
"""Steps after the machine's speed has changed that don't count."""

Step = tuple[StepShape, float]


def read() -> dict[str, list[Step]]:
    phases: dict[str, list[Step]] = {}
    with (Path(__file__).parent / "measured_steps.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            shape = StepShape(
                int(row["tokens"]), int(row["sequences"]), int(row["decode_context"]), float(row["prefill_reads"])
            )
            phases.setdefault(row["phase"], []).append((shape, float(row["elapsed_us"]) / 1e6))
    return phases


def judge(model: StepTimeModel, steps: list[Step]) -> tuple[float, float]:
    """Median error and coverage of predictions that are each made before the step is observed."""
    errors, within = [], []
    for shape, elapsed_s in steps:
        features = (shape.tokens, shape.sequences, shape.decode_context, shape.prefill_reads)
        errors.append(abs(model.predict_s(*features) - elapsed_s) / elapsed_s)
        within.append(elapsed_s <= model.tail_s(*features))
        model.observe(shape, elapsed_s)
    return sorted(errors)[len(errors) // 2], sum(within) / len(within)


def test_a_real_engine_is_predicted_alone_and_with_its_speed_halved() -> None:
    phases, model = read(), StepTimeModel()
    for shape, elapsed_s in phases["calibration"]:
        model.observe(shape, elapsed_s)
    model.calibrated()
    alone_error, alone_coverage = judge(model, phases["alone"])
    judge(model, phases["halved"][:SETTLE_STEPS])
    halved_error, halved_coverage = judge(model, phases["halved"][SETTLE_STEPS:])
    assert alone_error < 0.04
    assert halved_error < 0.06
    assert 0.93 <= alone_coverage <= 0.97
    assert 0.93 <= halved_coverage <= 0.97


def test_the_slower_half_is_known_to_be_slower() -> None:
    """By about two, on average: beside two busy processes it is now slowed little, now a lot."""
    phases, model = read(), StepTimeModel()
    mean_paces = {}
    for name, steps in phases.items():
        paces = []
        for shape, elapsed_s in steps:
            model.observe(shape, elapsed_s)
            paces.append(model.pace)
        mean_paces[name] = sum(paces) / len(paces)
    assert 1.6 < mean_paces["halved"] / mean_paces["alone"] < 2.4
