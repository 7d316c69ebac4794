"""Error bands: what held 90 % of the residuals of published points, by what was predicted and for what."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Sequence
from enum import StrEnum
from functools import cache
from importlib.resources import files

import msgspec

from headway.plan.engine import UNCALIBRATED, Calibration
from headway.plan.standing import Band


class Metric(StrEnum):
    TPOT = "tpot"
    THROUGHPUT = "throughput"
    TTFT = "ttft"


class Group(StrEnum):
    """``DENSE``: dense models, engines of 2024 and later, one GPU or links that were measured. ``PCIE``: tensor
    parallelism over it. ``EARLY_AMD``: AMD's GPUs with software of 2024. ``FRAGILE``: what else was not measured."""

    DENSE = "dense"
    PCIE = "pcie"
    FRAGILE = "fragile"
    EARLY_AMD = "early-amd"
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


def band(groups: Sequence[Group], metric: Metric, calibration: Calibration = UNCALIBRATED) -> Band:
    """What holds in all of the ``groups``. A calibration that states its own band has it in place of theirs, for
    tokens' times and rates; a first token waits for more than steps."""
    if calibration.band is not None and metric is not Metric.TTFT:
        half = math.exp(calibration.band)
        return Band(1.0 / half, half, f"calibrated {calibration.date}: {calibration.source}".strip(" :"))
    file = _shipped()
    records = [file.bands[group][metric] for group in groups]
    origins = dict.fromkeys(f"{each.source}, n = {each.n}, {file.date}" for each in records)
    return Band(min(each.low for each in records), max(each.high for each in records), "; ".join(origins))


@cache
def _shipped() -> _File:
    text = files("headway.plan").joinpath("data/bands.toml").read_text(encoding="utf-8")
    return msgspec.convert(tomllib.loads(text), _File)
