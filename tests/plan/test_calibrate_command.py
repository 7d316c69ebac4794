"""From a run in a file to a calibration in a file, through the command."""

from __future__ import annotations

from pathlib import Path

import pytest

from headway.bench.export import write_run
from headway.bench.figures import Run
from headway.plan.calibrate_command import calibrate_command
from headway.plan.calibration_file import load
from headway.plan.catalogue import find_gpu, gpus
from headway.plan.engines import find_engine
from headway.plan.known_models import find_model
from headway.plan.precision import Precision
from headway.plan.setup import Setup
from headway.plan.steady import closed_loop
from headway.plan.steptime import machine
from tests.plan.test_calibrate import level


def says(concurrency: int) -> float:
    setup = Setup(model=find_model("llama-3.1-8b"), gpu=find_gpu("h100-sxm", gpus()), engine=find_engine("vllm"))
    return closed_loop(machine(setup), concurrency, 100, 50).tpot_s


def run(path: Path, **target: object) -> str:
    found = Run(
        id="7f3a",
        started_at="2026-11-24T10:00:00Z",
        target={"model": "meta-llama/Llama-3.1-8B-Instruct", "engine": "vllm", "version": "0.19.0", **target},
        levels=[level(each, 0.001 + 1.1 * says(each)) for each in (1, 64)],
    )
    write_run(found, path)
    return str(path)


def test_a_run_becomes_a_calibration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "c.json"
    assert calibrate_command(run(tmp_path / "run.json"), gpu="H100 SXM", driver="570.10", output=output) == 0
    found = load(output)
    assert found.step_s == pytest.approx(0.001, abs=1e-4)
    assert found.factor == pytest.approx(1.1, abs=0.02)
    assert (found.gpu, found.engine, found.engine_version, found.driver) == ("h100-sxm", "vllm", "0.19.0", "570.10")
    assert (found.model, found.tp, found.precision) == ("llama-3.1-8b", 1, Precision.BF16)
    assert found.date == "2026-11-24"
    assert "64 at once" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("given", "target", "says"),
    [
        ({"gpu": "cpu"}, {}, "--step-times"),
        ({"gpu": "H100 SXM", "tp": 3}, {}, "--tp"),
        ({"gpu": "no such"}, {}, "no such"),
        ({"gpu": "H100 SXM", "precision": "fp7"}, {}, "fp7"),
        ({"gpu": "H100 SXM"}, {"model": "mystery"}, "mystery"),
        ({"gpu": "H100 SXM"}, {"engine": "unknown"}, "unknown"),
        ({"gpu": "H100 SXM", "model": "llama-3.1-405b"}, {}, "doesn't fit"),
    ],
)
def test_what_can_not_be_meant(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], given: dict[str, object], target: dict[str, object], says: str
) -> None:
    path = run(tmp_path / "run.json", **target)
    assert calibrate_command(path, output=tmp_path / "c.json", **given) == 2  # type: ignore[arg-type]
    told = capsys.readouterr().err
    assert says in told
    assert told.count("\n") == 1
    assert not (tmp_path / "c.json").exists()


def test_no_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert calibrate_command(str(tmp_path / "none.json"), gpu="H100 SXM") == 1
    assert "can't be read" in capsys.readouterr().err
