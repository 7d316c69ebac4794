"""What is saved is loaded; anything else is refused in one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from headway.plan.calibration_file import load, save
from headway.plan.engine import Calibration
from headway.plan.errors import PlanError
from headway.plan.precision import Precision

CALIBRATION = Calibration(
    step_s=0.001,
    factor=1.1,
    band=0.12,
    gpu="H100 SXM",
    engine="vllm",
    model="llama-3.1-8b",
    tp=2,
    precision=Precision.FP8,
    kv_precision=Precision.FP8,
    engine_version="0.19.0",
    driver="570.10",
    date="2026-11-24",
    source="run 7f3a",
)


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    save(CALIBRATION, tmp_path / "c.json")
    assert load(tmp_path / "c.json") == CALIBRATION


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="can't be read"):
        load(tmp_path / "none.json")


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="can't be written"):
        save(CALIBRATION, tmp_path / "none" / "c.json")


@pytest.mark.parametrize("text", ["", "{}", "[]", "not json", '{"schema": "headway.bench/1"}'])
def test_anything_else(tmp_path: Path, text: str) -> None:
    (tmp_path / "c.json").write_text(text)
    with pytest.raises(PlanError, match="is no calibration"):
        load(tmp_path / "c.json")


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [("schema", "headway.plan.calibration/9", "schema"), ("factor", -1.0, "damaged"), ("band", -0.1, "damaged")],
)
def test_damaged(tmp_path: Path, field: str, value: object, says: str) -> None:
    save(CALIBRATION, tmp_path / "c.json")
    kept = json.loads((tmp_path / "c.json").read_text())
    (tmp_path / "c.json").write_text(json.dumps({**kept, field: value}))
    with pytest.raises(PlanError, match=says):
        load(tmp_path / "c.json")
