"""What ``headway tune`` found, as it is kept and written."""

from __future__ import annotations

from typing import Literal

import msgspec

from headway.bench.figures import Run
from headway.tune.engines import Knobs
from headway.tune.observation import Observation, Verdict
from headway.tune.probe import Outcome, Probe

Stage = Literal["batch", "tokens", "rate", "compare"]


class PartSeen(msgspec.Struct, kw_only=True):
    """A part of the promise at one load: p95 in seconds or a share, with its 95 % interval; None: not bounded, or
    infinite (requests failed)."""

    value: float | None
    low: float
    high: float | None
    target: float


class StepTaken(msgspec.Struct, kw_only=True):
    """A probe and what came of it. ``load``: requests at once, or a second; ``level``: its number in the run.

    ``tokens``: of a step, as they were set. ``skipped``: steps between the last one and this that were left out, as
    ``why`` says."""

    stage: Stage
    load: float
    level: int
    knobs: str
    tokens: int | None = None
    why: str
    verdict: str
    samples: int
    requests_per_s: float
    throughput: float
    parts: dict[str, PartSeen] = {}
    skipped: list[float] = []
    is_more: bool = False
    void: str | None = None


class Answer(msgspec.Struct, kw_only=True):
    """Of a search: see ``probe.Outcome``. ``sentence``: the same for people."""

    found: str
    load: float | None
    low: float | None
    high: float | None
    crossing: float | None
    part: str | None
    probes: int
    sentence: str
    reason: str | None = None
    margin: dict[str, float] = {}
    """How far below its target each part is at the point, as a share of the target."""


class Compared(msgspec.Struct, kw_only=True):
    """One setting at one rate of an open loop. ``setting``: adaptive, or a static cap. All figures are of ``window_s``
    of the level, which is the same for all settings at one rate."""

    setting: str
    is_adaptive: bool
    rate: float
    level: int
    window_s: tuple[float, float]
    attainment: float | None
    attainment_low: float | None
    attainment_high: float | None
    goodput: float
    throughput: float
    ttft_p95_s: float | None = None
    itl_p95_s: float | None = None


class Tuned(msgspec.Struct, kw_only=True):
    """``schema`` changes when a reader would have to. ``state``: complete, or partial with the reason."""

    schema: str = "headway.tune/1"
    run: Run
    how: str = ""
    state: str = "complete"
    reason: str | None = None
    steps: list[StepTaken] = []
    batch: Answer | None = None
    tokens: int | None = None
    rate: Answer | None = None
    binding: dict[str, str] = {}
    """``resource`` and ``why``."""
    compared: list[Compared] = []
    configs: dict[str, str] = {}


def _finite(value: float) -> float | None:
    return value if value < float("inf") else None


def step_taken(
    stage: Stage,
    probe: Probe,
    seen: Observation,
    verdict: Verdict,
    targets: dict[str, float],
    *,
    level: int,
    knobs: Knobs,
) -> StepTaken:
    return StepTaken(
        stage=stage,
        load=probe.load,
        level=level,
        knobs=str(knobs),
        tokens=knobs.tokens,
        why=probe.why,
        verdict=verdict.value,
        samples=seen.samples,
        requests_per_s=seen.requests_per_s,
        throughput=seen.throughput,
        parts={
            part: PartSeen(
                value=_finite(seen.parts[part].value),
                low=seen.parts[part].low,
                high=_finite(seen.parts[part].high),
                target=target,
            )
            for part, target in targets.items()
            if part in seen.parts
        },
        skipped=list(probe.skipped),
        is_more=probe.is_more,
        void=seen.void,
    )


def answer(
    outcome: Outcome, *, probes: int, sentence: str, at: Observation | None, targets: dict[str, float]
) -> Answer:
    margin: dict[str, float] = {}
    if at is not None:
        margin = {
            part: 1.0 - at.parts[part].value / target
            for part, target in targets.items()
            if part in at.parts and at.parts[part].value < float("inf")
        }
    return Answer(
        found=outcome.found.value,
        load=outcome.load,
        low=outcome.low,
        high=outcome.high,
        crossing=outcome.crossing,
        part=outcome.part,
        probes=probes,
        sentence=sentence,
        reason=outcome.reason,
        margin=margin,
    )
