"""A plan for a machine that its server has learned, against the machine itself."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from headway.cli import main
from headway.plan.learned import LearnedMachine, learned_machine
from headway.plan.load import read_demand
from headway.plan.outcome import Figure, Plan, from_json, to_json
from headway.plan.own import NAME, OwnQuestion, edge_notes, plan_own
from headway.plan.parts import Work
from headway.plan.question import change_of, classes_of
from headway.plan.show import show
from headway.policy.stepshape import StepShape
from headway.sim.hardware import HARDWARE
from headway.simulate import calibrated
from tests.plan.test_search import Quiet

TRUE = HARDWARE["cpu-smollm2-135m"]
KEPT = {
    "of": "two cores",
    "cache": {"block_size": 16, "kv_blocks": TRUE.info.kv_blocks, "context_tokens": TRUE.info.context_tokens},
    "model": json.loads(calibrated(TRUE, 30.0).to_json()),
}
SLO = "conversational:ttft=600,itl=150"
LOAD = "synthetic:in=48,out=32"


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("learned") / "steps.json"
    found.write_text(json.dumps(KEPT))
    return found


def question(
    path: Path, *, rate: float | None = None, most: int = 1, what_if: tuple[str, ...] = (), slo: str = SLO
) -> OwnQuestion:
    machine = learned_machine(path)
    classes, promised = classes_of((slo,))
    demand = read_demand(
        LOAD, rate=rate or 1.0, cv=None, classes=classes, promised=promised, context=machine.info.context_tokens
    )
    return OwnQuestion(
        machine=machine,
        demand=demand,
        rate=rate,
        request_s=0.02,
        most=most,
        seeds=2,
        requests=150,
        changes=tuple(change_of(text) for text in what_if),
    )


def find(asked: OwnQuestion) -> Plan:
    return plan_own(asked, Quiet())


def test_a_learned_machine_takes_what_the_machine_takes(path: Path) -> None:
    machine = learned_machine(path)
    assert machine.info.kv_blocks == TRUE.info.kv_blocks
    assert machine.info.context_tokens == TRUE.info.context_tokens
    for shape in (StepShape(1, 1, 60, 0.0), StepShape(8, 8, 480, 0.0), StepShape(64, 1, 0, 64 * 32.0)):
        assert machine.step_s(shape) == pytest.approx(TRUE.step_s(shape), rel=0.1)


def test_parts_of_its_steps(path: Path) -> None:
    shares = learned_machine(path).parts(Work(decodes=4, context=60, prompt_tokens=200, reads=200 * 100))
    assert sum(shares.values()) == pytest.approx(1.0)
    assert next(iter(shares)) == "prompts"
    assert next(iter(learned_machine(path).parts(Work(decodes=4, context=60, prompt_tokens=0, reads=0)))) == "decodes"


def test_without_a_rate_it_says_what_one_machine_keeps(path: Path) -> None:
    found = find(question(path, what_if=("rate=2x", "rate=0.5x")))
    best = found.best
    assert best is not None
    assert (best.gpu, best.replicas, best.memory, best.price) == (NAME, 1, None, None)
    assert 2.0 < best.forecast.rate < 9.0
    assert best.forecast.keeps
    assert best.binding.resource == "decoding"
    assert best.trust.ttft is not None
    assert "plan itself" in best.trust.ttft.source
    more, less = found.what_ifs
    assert (more.keeps, less.keeps) == (False, True)
    assert "nor by any number of the best set-ups within --machines" in more.said
    assert from_json(to_json(found)) == found


def test_a_fast_machine_is_said_in_whole_rates_and_not_to_be_all_there_is(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The bundled model was to keep "1.58e+03/s": the figure was no figure to people, and at 50,000 tokens/s HTTP would
    have taken more than a core, of which nothing was said."""
    found = find(question(path, rate=4.0))
    best = found.best
    assert best is not None
    assert edge_notes(best) == ()
    fast = msgspec.structs.replace(best.forecast, tokens_per_s=Figure(50_400.0))
    best = msgspec.structs.replace(best, fits_until=1575.3, forecast=fast)
    show(msgspec.structs.replace(found, options=(best,)), Console(width=200))
    shown = capsys.readouterr().out
    assert "1,575/s" in shown
    assert "fits until 1,575 requests/s" in shown
    assert "1 set-up considered" in shown
    assert edge_notes(best)[0].startswith("50,400 tokens/s a machine take about 131 % of a core for HTTP")


def test_with_a_rate_it_says_how_many_it_takes(path: Path) -> None:
    best = find(question(path, rate=12.0, most=8)).best
    assert best is not None
    assert 2 <= best.replicas <= 5
    assert best.fits_until >= 12.0
    none = find(question(path, rate=12.0, most=1))
    assert none.best is None
    assert none.best_effort is not None
    assert "up to 1 machines (--machines) don't keep 12 requests/s" in none.best_effort


def test_a_promise_that_is_broken_on_the_idle_machine(path: Path) -> None:
    found = find(question(path, slo="conversational:ttft=600,itl=10"))
    assert found.best is None
    assert found.best_effort is not None
    assert "ITL of conversational is" in found.best_effort
    assert "and 10 ms is promised" in found.best_effort


def test_the_command_writes_table_json_and_page(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = ["--json", str(tmp_path / "plan.json"), "--html", str(tmp_path / "plan.html")]
    assert main(["plan", "machine", str(path), "--workload", LOAD, "--rate", "2", "--slo", SLO, *files]) == 0
    shown = capsys.readouterr().out
    assert f"1 x {NAME} fits until" in shown
    assert "--request-ms says yours" in " ".join(shown.split())
    assert json.loads((tmp_path / "plan.json").read_text())["asked"]["model"]["name"] == "two cores"
    page = (tmp_path / "plan.html").read_text()
    assert f"1 x {NAME} keeps the promise" in page
    assert "--price" not in page, "an option that this command doesn't have was recommended"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--rate", "0"), "at least 0.001"),
        (("--machines", "0"), "--machines must be 1 to"),
        (("--policy", "none"), "no policy 'none'"),
        (("--router", "random"), "--router must be one of"),
        (("--request-ms", "-1"), "--request-ms must be 0 to"),
        (("--kv-tokens", "3"), "at least one block of 16 tokens, not 3"),
        (("--workload", "nothing"), "there is no workload"),
        (("--what-if", "gpus=2x"), "write one of"),
        (("--json", "/nowhere/plan.json"), "can't be written"),
    ],
)
def test_what_cannot_be_meant(
    path: Path, arguments: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", "machine", str(path), *arguments]) == 2
    told = capsys.readouterr().err
    assert said in told
    assert told.count("\n") == 1


def test_files_that_are_none_or_of_older_servers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "machine", str(tmp_path / "none.json")]) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"headway: {tmp_path / 'none.json'}: No such file or directory; headway serve --step-times")
    cut = tmp_path / "cut.json"
    cut.write_text(json.dumps(KEPT)[:40])
    assert main(["plan", "machine", str(cut)]) == 2
    assert f"{cut}: no JSON, or cut off; headway serve" in capsys.readouterr().err
    older = tmp_path / "older.json"
    older.write_text(json.dumps({name: KEPT[name] for name in ("of", "model")}))
    assert main(["plan", "machine", str(older)]) == 2
    assert "give --kv-tokens" in capsys.readouterr().err
    found: LearnedMachine = learned_machine(older, kv_tokens=4096)
    assert found.info.kv_blocks == 256
