"""Case 22: nothing is known of the machine yet, or the file that should tell is of no use."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest

from headway.cli import main
from headway.policy.controller import PromiseConfig, PromisePolicy
from headway.policy.events import Rejected, RejectReason
from headway.policy.plan import ExecutorLost, StepResult
from headway.policy.slo import ServiceClasses
from headway.policy.steptime import StepTimeModel
from headway.serve.policy_maker import PolicyMaker, read_step_times
from tests.fakes import ScriptedExecutor
from tests.policy.promises import KnownModel, Machine, attainment_of_admitted, flood, promised, scheduler


def machine(model: StepTimeModel) -> Machine:
    return Machine(scheduler(PromisePolicy(model, ServiceClasses())))


def first_chunk(model: StepTimeModel) -> int:
    """The tokens of a long prompt that come beside ten decodes."""
    world = machine(model)
    world.submit(*(promised(f"d{number}", 1, max_tokens=100, ttft_s=60.0) for number in range(10)))
    while len(world.token_times) < 10:
        assert world.step() is not None
        assert len(world.plans) < 50
    world.submit(promised("long", 4000, ttft_s=60.0))
    world.step()
    return world.plans[-1].token_count - 10


def test_case_22_what_is_not_known_is_taken_to_be_slow() -> None:
    assert first_chunk(StepTimeModel()) < first_chunk(KnownModel()) / 2


def test_case_22_nobody_is_turned_away_for_good_by_a_guess() -> None:
    world = machine(StepTimeModel())
    [answer] = world.submit(promised("r", 500, ttft_s=0.4))
    assert not isinstance(answer, Rejected) or answer.reason is RejectReason.OVERLOADED


def test_case_22_it_learns_while_it_serves_and_keeps_its_promises() -> None:
    world = machine(StepTimeModel())
    flood(world, 5.0, 30.0)
    flood(world, 10.0, 30.0, seed=1)
    known = machine(KnownModel())
    flood(known, 15.0, 30.0, seed=1)
    counters = world.scheduler.ledger.of("conversational")
    assert attainment_of_admitted(counters) >= 0.95
    assert counters.in_slo > 0.5 * known.scheduler.ledger.of("conversational").in_slo


KEPT = json.dumps({"of": "this machine", "model": json.loads(StepTimeModel().to_json())}).encode()

BAD_FILES = {
    "empty": b"",
    "not JSON": b"step times",
    "not a model": b'{"hello": 1}',
    "another JSON": b"[1, 2, 3]",
    "cut off": KEPT[:-20],
    "pickle": pickle.dumps({"pace": 1.0}),
    "not UTF-8": b"\xff\xfe\x00",
    "no cache": KEPT[:-1] + b', "cache": {"kv_blocks": 0}}',
    "not numbers": KEPT.replace(b"1.0", b"NaN"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_case_22_a_file_that_holds_no_model_is_an_error_that_names_it(name: str, tmp_path: Path) -> None:
    path = tmp_path / "times.json"
    path.write_bytes(BAD_FILES[name])
    with pytest.raises(ValueError, match=r"times\.json") as error:
        PolicyMaker("headway", ServiceClasses(), PromiseConfig(), step_times=path)
    assert "\n" not in str(error.value)


def test_case_22_the_server_then_says_so_in_one_line_and_ends_with_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "times.json"
    path.write_bytes(BAD_FILES["pickle"])
    assert main(["serve", "random:tiny", "--port", "0", "--step-times", str(path)]) == 2
    told = capsys.readouterr().err.strip().splitlines()
    assert len(told) == 1
    assert "times.json" in told[0]


def test_case_22_a_model_that_was_kept_predicts_as_it_did(tmp_path: Path) -> None:
    path = tmp_path / "times.json"
    model = StepTimeModel()
    world = machine(model)
    flood(world, 5.0, 30.0)
    path.write_text(json.dumps({"of": "this machine", "model": json.loads(model.to_json())}))
    kept = read_step_times(path)
    assert (kept.of, kept.cache) == ("this machine", None)
    assert kept.model.pace == model.usual_pace  # its own is that of the last steps
    for tokens in (1, 10, 500):
        assert kept.model.predict_s(tokens, 1, 0, tokens * tokens / 2) == pytest.approx(
            model.predict_s(tokens, 1, 0, tokens * tokens / 2) * model.usual_pace / model.pace
        )


def test_case_22_step_times_of_another_machine_are_measured_anew(tmp_path: Path) -> None:
    """A file from a slow model made the server refuse everything for good, and nothing ran that could have told it."""
    path = tmp_path / "times.json"
    path.write_text(json.dumps({"of": "a slow machine", "model": json.loads(StepTimeModel().to_json())}))
    executor = ScriptedExecutor()
    maker = PolicyMaker("headway", ServiceClasses(), PromiseConfig(), step_times=path)
    maker(executor, executor.start())
    assert executor.plans, "nothing was measured"
    maker.save()
    kept = read_step_times(path)
    assert kept.of == executor.info.description
    assert kept.cache == {name: getattr(executor.info, name) for name in ("block_size", "kv_blocks", "context_tokens")}
    assert kept.model.predict_s(100, 1, 0, 0.0) != StepTimeModel().predict_s(100, 1, 0, 0.0)


def test_case_22_what_was_half_measured_is_not_kept(tmp_path: Path) -> None:
    """An engine lost while it was measured left a file with no samples in it, which every later start trusted."""

    class Lost(ScriptedExecutor):
        def finish(self) -> StepResult:
            raise ExecutorLost("gone")

    path = tmp_path / "times.json"
    executor = Lost()
    maker = PolicyMaker("headway", ServiceClasses(), PromiseConfig(), step_times=path)
    with pytest.raises(ExecutorLost):
        maker(executor, executor.start())
    maker.save()
    assert not path.exists()
