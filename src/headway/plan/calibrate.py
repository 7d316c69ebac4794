"""From a run of ``headway bench`` to a calibration: levels of closed loops against what the planner says of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from headway.bench.figures import Level, Run
from headway.plan.calibration import StepPoint, fit, with_band
from headway.plan.engine import Calibration
from headway.plan.errors import PlanError
from headway.plan.setup import Setup

REQUESTS_MIN = 8
"""Of a level, for its time per output token to say something."""
BAND = 0.15
"""Half width in log space: what held 90 % of calibrated predictions of published points of supported set-ups, two
points of each setting fitted and the others judged (``benchmarks plan points``, 2026-11)."""
HOW = "headway bench URL --concurrency 1,16 measures them"


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A closed loop as it was measured. ``tpot_s``: the median over requests. Tokens are means."""

    name: str
    concurrency: int
    prompt_tokens: float
    output_tokens: float
    tpot_s: float
    requests: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """What the planner says of one level, before and after."""

    measured: Measured
    before_s: float
    after_s: float


Predict = Callable[[Measured], float]
"""Seconds per output token that the planner says, without a calibration."""


def measured_levels(run: Run) -> tuple[list[Measured], list[str]]:
    """The closed loops of a run by ascending concurrency, and why others of its levels don't count.

    Raises ``PlanError`` if there is none.
    """
    levels, left_out = [], []
    for level in run.levels:
        doubt = _doubt(level)
        if doubt:
            left_out.append(f"{level.name}: {doubt}")
            continue
        whole = level.classes[0]
        concurrency = level.load["concurrency"]
        assert isinstance(concurrency, int)
        levels.append(
            Measured(
                name=level.name,
                concurrency=concurrency,
                prompt_tokens=whole.prompt_tokens / whole.ok,
                output_tokens=whole.output_tokens / whole.ok,
                tpot_s=whole.latencies["tpot"].p50,
                requests=whole.ok,
            )
        )
    if not levels:
        why = f" ({'; '.join(left_out)})" if left_out else ""
        raise PlanError(f"run {run.id} has no closed loop to calibrate with{why}; {HOW}")
    return sorted(levels, key=lambda each: each.concurrency), left_out


def _doubt(level: Level) -> str:
    if level.load.get("kind") != "closed" or not isinstance(level.load.get("concurrency"), int):
        return "no closed loop"
    if level.state != "complete":
        return f"it is {level.state}"
    if level.client.bound is not None:
        return f"the client was the limit: {level.client.bound}"
    whole = level.classes[0] if level.classes else None
    if whole is None or whole.ok < REQUESTS_MIN or "tpot" not in whole.latencies:
        return f"fewer than {REQUESTS_MIN} requests ended with a time per output token"
    if whole.ok < whole.offered:
        return f"{whole.offered - whole.ok} of {whole.offered} requests failed"
    return "" if whole.prompt_tokens > 0 else "prompts have no counted tokens"


def calibrate(levels: Sequence[Measured], predict: Predict, band: float = BAND) -> tuple[Calibration, list[Compared]]:
    """``band``: of calibrated predictions in general, half width in log space at 90 %; no narrower than what is left
    over here. Raises ``PlanError``."""
    says = [predict(each) for each in levels]
    points = [StepPoint(before_s, each.tpot_s) for before_s, each in zip(says, levels, strict=True)]
    found = with_band(fit(points), band, points)
    compared = [
        Compared(measured=each, before_s=before_s, after_s=found.step_s + found.factor * before_s)
        for before_s, each in zip(says, levels, strict=True)
    ]
    return found, compared


def described(calibration: Calibration, run: Run, setup: Setup, driver: str) -> Calibration:
    """With what it holds for. The engine's version is what the server said of itself."""
    return replace(
        calibration,
        gpu=setup.gpu.name,
        engine=setup.engine.name,
        model=setup.model.name,
        tp=setup.tp,
        precision=setup.precision,
        kv_precision=setup.kv_precision,
        engine_version=str(run.target.get("version") or ""),
        driver=driver,
        date=run.started_at[:10],
        source=f"run {run.id} of headway bench",
    )
