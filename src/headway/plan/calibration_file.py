"""A calibration as a JSON file, with what it holds for: another set-up or engine version needs another."""

from __future__ import annotations

import math
from dataclasses import fields
from pathlib import Path

import msgspec

from headway.bench.export import ExportError, write_file
from headway.plan.engine import Calibration
from headway.plan.errors import PlanError
from headway.plan.precision import Precision

SCHEMA = "headway.plan.calibration/2"
SIZE_MAX = 1 << 20
"""Bytes that such a file may have."""


class _Kept(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    schema: str
    step_s: float
    factor: float
    band: float | None
    gpu: str
    engine: str
    model: str
    tp: int
    precision: Precision
    kv_precision: Precision
    engine_version: str
    driver: str
    date: str
    source: str


def save(calibration: Calibration, path: Path) -> None:
    """Whole or not at all. Raises ``PlanError``."""
    kept = _Kept(schema=SCHEMA, **{field.name: getattr(calibration, field.name) for field in fields(calibration)})
    try:
        write_file(path, [msgspec.json.format(msgspec.json.encode(kept), indent=1), b"\n"])
    except ExportError as error:
        raise PlanError(str(error)) from None


def load(path: Path) -> Calibration:
    """Raises ``PlanError`` for anything but a file that ``save`` wrote."""
    try:
        if path.stat().st_size > SIZE_MAX:
            raise PlanError(f"{path} is no calibration: it has over {SIZE_MAX} bytes")
        kept = msgspec.json.decode(path.read_bytes(), type=_Kept)
    except OSError as error:
        raise PlanError(f"{path} can't be read: {error.strerror}") from None
    except msgspec.MsgspecError as error:
        raise PlanError(f"{path} is no calibration ({error}); headway plan calibrate RUN writes one") from None
    if kept.schema != SCHEMA:
        raise PlanError(f"{path} is no calibration of this version: its schema is {kept.schema[:64]!r}, not {SCHEMA!r}")
    if not (math.isfinite(kept.step_s) and math.isfinite(kept.factor) and kept.factor > 0.0):
        raise PlanError(f"{path} is damaged: step_s {kept.step_s}, factor {kept.factor}")
    if kept.band is not None and not (math.isfinite(kept.band) and kept.band >= 0.0):
        raise PlanError(f"{path} is damaged: band {kept.band}")
    return Calibration(**{field.name: getattr(kept, field.name) for field in fields(Calibration)})
