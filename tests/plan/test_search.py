from collections.abc import Mapping
from dataclasses import replace

import pytest

from headway.plan.candidate import setups
from headway.plan.engine import Calibration
from headway.plan.outcome import Plan, Why
from headway.plan.pool import Serial
from headway.plan.question import Question
from headway.plan.search import search
from tests.plan.fake_predictor import Fake, question


class Quiet:
    def step(self, what: str, done: int, of: int) -> None:
        pass


def find(asked: Question, serves: Mapping[str, float], options: int = 5) -> tuple[Plan, list[str]]:
    """The plan, and the GPUs that were simulated."""
    sized: list[str] = []
    found = search(asked, lambda each: Fake(each, serves, sized=sized), Serial(), Quiet(), options=options)
    return found, sized


def test_the_cheapest_that_keeps_it_comes_first() -> None:
    asked = question("h100-sxm", "a100-80-sxm", "l4", prices={"h100-sxm": 3.0, "a100-80-sxm": 1.0, "l4": 0.8})
    found, _ = find(asked, {"h100-sxm": 30.0, "a100-80-sxm": 12.0, "l4": 2.0})
    assert [(each.gpu, each.replicas, each.usd_per_hour) for each in found.options] == [
        ("a100-80-sxm", 2, 2.0),
        ("h100-sxm", 1, 3.0),
        ("l4", 10, 8.0),
    ]
    assert found.best is found.options[0]
    assert found.best.fits_until == pytest.approx(24.0)
    assert found.best.fits_until_low == pytest.approx(24.0 * 0.8)
    assert not found.best.sure
    assert found.options[1].sure
    assert found.best.usd_per_million_output_tokens == pytest.approx(2.0 / 3600 / (20 * 128) * 1e6)
    assert found.best_effort is None


def test_of_two_that_cost_the_same_the_one_with_more_room_comes_first() -> None:
    asked = question("h100-sxm", "a100-80-sxm", prices={"h100-sxm": 3.0, "a100-80-sxm": 3.0})
    found, _ = find(asked, {"h100-sxm": 25.0, "a100-80-sxm": 40.0})
    assert [each.gpu for each in found.options] == ["a100-80-sxm", "h100-sxm"]


def test_what_can_only_be_dearer_is_not_simulated() -> None:
    asked = question("h100-sxm", "a100-80-sxm", "l4", prices={"h100-sxm": 3.0, "a100-80-sxm": 1.0, "l4": 50.0})
    found, sized = find(asked, {"h100-sxm": 30.0, "a100-80-sxm": 30.0, "l4": 30.0}, options=2)
    assert sized == ["a100-80-sxm", "h100-sxm"]
    [left_out] = found.rejected
    assert (left_out.gpu, left_out.why) == ("l4", Why.DEARER)
    assert "$50.00 an hour at least" in left_out.reason


def test_the_cheapest_that_is_supported_is_among_the_options() -> None:
    """By default all five options were cards whose products nobody measured, and none that anyone could be sure of."""
    names = ("rtx-pro-6000", "rtx-a6000", "h100-sxm", "h200-sxm")
    asked = question(*names, prices=dict(zip(names, (0.5, 0.6, 3.0, 4.0), strict=True)))
    found = search(
        asked,
        lambda each: Fake(each, dict.fromkeys(names, 30.0), fragile=frozenset(names[:2])),
        Serial(),
        Quiet(),
        options=2,
    )
    assert [(each.gpu, each.trust.level) for each in found.options] == [
        ("rtx-pro-6000", "fragile"),
        ("rtx-a6000", "fragile"),
        ("h100-sxm", "supported"),
    ]


def test_an_option_near_saturation_says_so() -> None:
    tight, loose = (
        search(
            question("h100-sxm", rate=rate),
            lambda each: Fake(each, {"h100-sxm": 30.0}, optimism=1.0),
            Serial(),
            Quiet(),
        ).best
        for rate in (29.0, 20.0)
    )
    assert tight is not None
    assert loose is not None
    assert "97% of the highest load" in tight.trust.reasons[0]
    assert not loose.trust.reasons


def test_a_gpu_without_a_price_comes_after_those_with_one() -> None:
    found, _ = find(question("l4", "h100-sxm", prices={"l4": 9.0}), {"l4": 25.0, "h100-sxm": 50.0})
    assert [(each.gpu, each.usd_per_hour) for each in found.options] == [("l4", 9.0), ("h100-sxm", None)]


def test_what_is_no_answer_has_a_reason() -> None:
    found, _ = find(
        question("h100-sxm", "l4", "t4", "a100-80-sxm", max_gpus=4), {"h100-sxm": 30.0, "l4": 0.0, "a100-80-sxm": 1.0}
    )
    assert {each.gpu: each.why for each in found.rejected} == {
        "l4": Why.TOO_SLOW,
        "t4": Why.NO_MEMORY,
        "a100-80-sxm": Why.TOO_MANY,
    }


def test_an_impossible_promise_says_what_the_best_possible_is() -> None:
    found, _ = find(question("h100-sxm", "l4"), {"h100-sxm": 0.0, "l4": 0.0})
    assert found.best is None
    assert found.best_effort is not None
    assert "TTFT" in found.best_effort
    assert "400 ms" in found.best_effort


def test_too_few_gpus_says_how_many_are_the_least() -> None:
    found, _ = find(question("h100-sxm", "l4", max_gpus=2), {"h100-sxm": 2.0, "l4": 1.0})
    assert found.best_effort is not None
    assert "--max-gpus 2 is too few for 20 requests/s: 9 x h100-sxm" in found.best_effort


def test_what_turns_out_to_need_too_many_when_simulated_says_so() -> None:
    asked = question("h100-sxm", max_gpus=4)
    found = search(asked, lambda each: Fake(each, {"h100-sxm": 4.5}, optimism=1.2), Serial(), Quiet())
    assert found.best_effort is not None
    assert "no number of GPUs up to --max-gpus 4" in found.best_effort


def test_a_model_that_fits_nothing_says_what_would_hold_it() -> None:
    found, _ = find(question("l4", max_gpus=1, model="llama-3.1-70b"), {})
    assert found.best_effort is not None
    assert "llama-3.1-70b doesn't fit" in found.best_effort
    assert "the smallest that holds it is 1 x" in found.best_effort


def test_what_ifs_say_whether_the_winner_keeps_it_and_what_it_would_take() -> None:
    asked = question(
        "h100-sxm",
        "a100-80-sxm",
        prices={"h100-sxm": 3.0, "a100-80-sxm": 1.0},
        what_if=("rate=1.1x", "rate=3x", "rate=100x"),
    )
    found, _ = find(asked, {"h100-sxm": 30.0, "a100-80-sxm": 12.0})
    kept, more, most = found.what_ifs
    assert kept.keeps
    assert "Still kept" in kept.said
    assert not more.keeps
    assert more.load.rate == 60.0
    assert more.needed is not None
    assert (more.needed.gpu, more.needed.replicas) == ("a100-80-sxm", 5)
    assert "it takes 5 x a100-80-sxm bf16 at $5.00 an hour" in more.said
    assert most.needed is None
    assert "nor by any number" in most.said


def test_the_front_is_of_points_that_no_other_beats() -> None:
    found, _ = find(question("h100-sxm", "a100-80-sxm"), {"h100-sxm": 30.0, "a100-80-sxm": 12.0})
    users = [each.user_tokens_per_s for each in found.front]
    per_gpu = [each.tokens_per_s_per_gpu for each in found.front]
    assert len(users) > 3
    assert users == sorted(users, reverse=True)
    assert per_gpu == sorted(per_gpu)


def test_a_calibration_is_for_what_it_was_measured_on_alone() -> None:
    """Moved to another model, tensor parallelism or format it made published points worse, under a narrower band."""
    measured = Calibration(factor=1.2, band=0.1, gpu="h100-sxm", engine="headway", model="llama-3.1-8b", tp=2)
    asked = replace(question("h100-sxm", "a100-80-sxm"), tensor_parallel=None, calibration=measured)
    used = [(each.gpu.name, each.tp) for each in setups(asked) if each.calibration is measured]
    assert used == [("h100-sxm", 2)]


def test_what_differs_only_in_a_link_that_is_not_used_comes_once() -> None:
    found, sized = find(
        question("a100-80-pcie", "a100-80-pcie-bridge"), {"a100-80-pcie": 30.0, "a100-80-pcie-bridge": 30.0}
    )
    assert len(sized) == 1
    assert len(found.options) == 1
