"""``headway plan`` as a user meets it: what is wrong in one line, and a small search whole."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from headway.cli import main
from headway.plan.calibration_file import save
from headway.plan.engine import Calibration

MODEL = ("plan", "llama-3.1-8b")
LOAD = ("--workload", "synthetic", "--rate", "5")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("plan", "lama-3.1-8", *LOAD), "did you mean llama-3.1-8b"),
        ((*MODEL, *LOAD, "--gpu", "h100sx"), "did you mean"),
        ((*MODEL, *LOAD, "--gpu", "abacus"), "is no GPU of the catalogue"),
        ((*MODEL, "--workload", "synthetic", "--rate", "0"), "at least 0.001"),
        ((*MODEL, "--workload", "synthetic", "--rate", "-3"), "at least 0.001"),
        ((*MODEL, "--workload", "synthetic", "--rate", "nan"), "at least 0.001"),
        ((*MODEL, "--workload", "synthetic", "--rate", "5000000"), "tokens a second are not meant"),
        ((*MODEL, "--workload", "synthetic"), "--rate 20"),
        ((*MODEL, "--workload", "azure:/nowhere.csv", "--rate", "5"), "/nowhere.csv: No such file"),
        ((*MODEL, "--workload", "nothing", "--rate", "5"), "--workload nothing: there is no workload 'nothing'"),
        ((*MODEL, *LOAD, "--slo", "conversational:ttft=0.3"), "write ttft=300"),
        ((*MODEL, *LOAD, "--what-if", "rate=double"), "is a number of requests"),
        ((*MODEL, *LOAD, "--precision", "fp7"), "no precision 'fp7'"),
        ((*MODEL, *LOAD, "--kv-precision", "int4"), "--kv-precision must be one of bf16, fp8, not 'int4'"),
        ((*MODEL, *LOAD, "--engine", "steam"), "no known engine"),
        ((*MODEL, *LOAD, "--policy", "none"), "no policy 'none'"),
        ((*MODEL, *LOAD, "--router", "random"), "--router must be one of"),
        ((*MODEL, *LOAD, "--max-gpus", "0"), "--max-gpus must be 1 to 1,024"),
        ((*MODEL, *LOAD, "--tp", "3"), "--tp must be one of"),
        ((*MODEL, *LOAD, "--seeds", "0"), "--seeds must be 1 to 32"),
        ((*MODEL, *LOAD, "--processes", "0"), "--processes must be at least 1"),
        ((*MODEL, *LOAD, "--price", "h100-sxm"), "h100-sxm=2.95"),
        ((*MODEL, *LOAD, "--price", "h100-sxm=-1"), "h100-sxm"),
        ((*MODEL, *LOAD, "--gpus-file", "/nowhere.toml"), "/nowhere.toml"),
        ((*MODEL, *LOAD, "--calibration", "/nowhere.json"), "/nowhere.json"),
        ((*MODEL, *LOAD, "--json", "/nowhere/plan.json"), "--json /nowhere/plan.json can't be written"),
        ((*MODEL, *LOAD, "--html", "/"), "it is a directory"),
        ((*MODEL, "--workload", "synthetic", "--rate", "50000", "--what-if", "rate=3x"), "more than 100,000"),
        ((*MODEL, *LOAD, "--slo", "conversational:ttft=50", "--what-if", "ttft=0.01x"), "ttft must be between"),
        (
            (*MODEL, "--workload", "synthetic:in=2000", "--rate", "5", "--what-if", "prompt=100x"),
            "with a longer context",
        ),
        ((*MODEL, *LOAD, "--gpu", "h100-sxm", "--tp", "16"), "--tp 16 leaves no set-up"),
        ((*MODEL, *LOAD, "--gpu", "h100-sxm", "--tp", "8", "--max-gpus", "4"), "and --max-gpus is 4"),
        (("plan",), "MODEL"),
    ],
)
def test_what_cannot_be_meant_is_one_clear_line(
    arguments: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(list(arguments)) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert captured.err.startswith("headway: ")
    assert said in captured.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((*MODEL, *LOAD, "--gpu", "l4", "--slo", "conversational:ttft=20"), "the best possible is"),
        (("plan", "llama-3.1-70b", *LOAD, "--gpu", "t4", "--max-gpus", "2"), "the smallest that holds it is"),
        ((*MODEL, "--workload", "synthetic", "--rate", "5000", "--gpu", "h100-sxm"), "--max-gpus 16 is too few"),
        ((*MODEL, *LOAD, "--gpu", "a100", "--precision", "fp8"), "doesn't compute in fp8; it does in bf16"),
    ],
)
def test_where_nothing_keeps_it_what_comes_closest_is_said(
    arguments: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Formats that the GPU has no units for were called a model that doesn't fit."""
    assert main([*arguments, "--json", "-"]) == 1
    captured = capsys.readouterr()
    plan = json.loads(captured.out)
    assert not plan["options"]
    assert said in plan["best_effort"]
    assert said in captured.err
    assert main([*arguments]) == 1
    assert said.split()[0] in capsys.readouterr().out


@pytest.mark.parametrize("what", ["gpus", "models", "workloads"])
def test_there_are_lists(what: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", what]) == 0
    assert len(capsys.readouterr().out.splitlines()) > 10


@pytest.mark.slow
def test_a_small_search_ends_in_a_table_json_and_a_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [*MODEL, "--workload", "synthetic", "--rate", "2", "--gpu", "l4", "--precision", "bf16", "--tp", "1"]
    arguments += ["--quick", "--requests", "100", "--processes", "1", "--what-if", "rate=2x"]
    files = ["--json", str(tmp_path / "plan.json"), "--html", str(tmp_path / "plan.html")]
    assert main([*arguments, *files]) == 0
    shown = capsys.readouterr().out
    assert "1 x l4 bf16 fits until" in shown
    assert "What if rate=2x?" in shown
    plan = json.loads((tmp_path / "plan.json").read_text())
    [option] = plan["options"]
    assert option["forecast"]["keeps"]
    assert option["fits_until"] >= 2.0
    assert option["trust"]["tpot"]["source"]
    assert (tmp_path / "plan.html").read_text().lstrip().startswith("<!doctype")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_ctrl_c_ends_it_and_its_processes_in_one_line() -> None:
    arguments = [*MODEL, "--workload", "chat", "--rate", "200", "--max-gpus", "1024", "--processes", "1"]
    with subprocess.Popen(
        [sys.executable, "-m", "headway.cli", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        parent = psutil.Process(process.pid)
        while not (workers := [each for each in parent.children() if "spawn_main" in " ".join(each.cmdline())]):
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert error == "headway: interrupted\n"
    assert not psutil.wait_procs(workers, timeout=30)[1]


def test_a_calibration_of_nothing_that_is_planned_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It was used, with its narrow band, for every model, tensor parallelism and format on its GPU."""
    path = tmp_path / "calibration.json"
    save(Calibration(factor=1.1, band=0.1, gpu="a100-80-sxm", engine="headway", model="llama-3.1-8b", tp=2), path)
    given = ("--calibration", str(path))
    for arguments in (("--gpu", "l4"), ("--gpu", "a100-80-sxm", "--tp", "1"), ("--gpu", "a100", "--precision", "int8")):
        assert main([*MODEL, *LOAD, *arguments, *given]) == 2
        said = capsys.readouterr().err
        assert "measured with llama-3.1-8b in bf16 on 2 x a100-80-sxm, and none of the set-ups is that" in said
    assert main(["plan", "llama-3.1-70b", *LOAD, "--gpu", "a100-80-sxm", *given]) == 2
    assert main([*MODEL, *LOAD, "--engine", "vllm", *given]) == 2
    assert "is of headway, not of --engine vllm" in capsys.readouterr().err
