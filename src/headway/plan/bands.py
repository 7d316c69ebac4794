"""Error bands: what held 90 % of the residuals of published points, by what was predicted and for what."""

from __future__ import annotations

import math
import tomllib
from enum import StrEnum
from functools import cache
from importlib.resources import files

import msgspec

from headway.plan.engine import Calibration
from headway.plan.standing import Band


class Metric(StrEnum):
    TPOT = "tpot"
    THROUGHPUT = "throughput"
    TTFT = "ttft"


class Group(StrEnum):
    """``DENSE``: dense models, engines of 2024 and later, one GPU or links that were measured."""

    DENSE = "dense"
    FRAGILE = "fragile"
    MOE = "moe"
    EAGER = "eager"


class BandRecord(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """``low`` and ``high``: factors on the prediction. ``n``: residuals they are from; ``coverage``: of sources left
    out in turn."""

    low: float
    high: float
    n: int
    source: str
    coverage: float | None = None


class _File(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    date: str
    bands: dict[Group, dict[Metric, BandRecord]]


def band(group: Group, metric: Metric, calibration: Calibration | None = None) -> Band:
    """A calibration that states its own band has it in place of the group's, for tokens' times and rates; a first
    token waits for more than steps."""
    if calibration is not None and calibration.band is not None and metric is not Metric.TTFT:
        half = math.exp(calibration.band)
        return Band(1.0 / half, half, f"calibrated {calibration.date}: {calibration.source}".strip(" :"))
    file = _shipped()
    record = file.bands[group][metric]
    return Band(record.low, record.high, f"{record.source}, n = {record.n}, {file.date}")


@cache
def _shipped() -> _File:
    text = files("headway.plan").joinpath("data/bands.toml").read_text(encoding="utf-8")
    return msgspec.convert(tomllib.loads(text), _File)
