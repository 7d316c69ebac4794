"""The step-time model as JSON: what is read back predicts the same, and nothing foreign is read (fault case 22)."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from headway.policy.controller import PromisePolicy
from headway.policy.events import Rejected, RejectReason
from headway.policy.slo import ServiceClasses
from headway.policy.stepfile import TEXT_MAX
from headway.policy.steptime import StepShape, StepTimeModel
from tests.policy.promises import Machine, promised, scheduler
from tests.policy.test_steptime import MODELS, decode, mixed, predict_s, roofline, seeded, tail_s

SHAPES = (decode(1, 1), decode(64, 3000), mixed(0, 0, 700, 5000), mixed(40, 800, 300, 0), decode(20_000, 10))


@pytest.mark.parametrize("model", MODELS, ids=["nothing", "linear", "roofline"])
def test_what_is_read_back_predicts_the_same_at_the_usual_pace(model: StepTimeModel) -> None:
    again = StepTimeModel.from_json(model.to_json())
    assert again.pace == model.usual_pace
    for shape in SHAPES:
        assert predict_s(again, shape) / again.pace == pytest.approx(predict_s(model, shape) / model.pace, rel=1e-12)
        assert tail_s(again, shape) / again.pace == pytest.approx(tail_s(model, shape) / model.pace, rel=1e-12)
    assert again.to_json() == model.to_json()


def test_the_last_few_steps_are_not_the_machine() -> None:
    """The pace of the last three steps was kept. A server that ended in a slow moment made a planner foresee half of
    what it went on to do, and its next start refuse what it could have kept."""
    model = seeded(roofline)
    for _ in range(200):
        model.observe(decode(32, 1000), roofline(decode(32, 1000)))
    for _ in range(4):
        model.observe(decode(32, 1000), 2.0 * roofline(decode(32, 1000)))
    assert model.pace == pytest.approx(2.0, rel=0.1)
    again = StepTimeModel.from_json(model.to_json())
    assert predict_s(again, decode(32, 1000)) == pytest.approx(roofline(decode(32, 1000)), rel=0.05)


def test_what_is_read_back_learns_on() -> None:
    model = StepTimeModel.from_json(seeded(roofline).to_json())
    model.refit()
    for shape in SHAPES[:-1]:
        assert predict_s(model, shape) == pytest.approx(roofline(shape), rel=0.05)
    for _ in range(8):
        model.observe(decode(32, 1000), 2.0 * roofline(decode(32, 1000)))
    assert predict_s(model, decode(4, 500)) == pytest.approx(2.0 * roofline(decode(4, 500)), rel=0.05)


def test_what_is_read_back_is_trusted_as_much() -> None:
    """A model that was kept from the last run began with 0 samples: what could never be on time was let in, queued and
    shed as if nothing were known of the machine, until enough steps had been run again."""
    model = seeded(roofline)
    assert StepTimeModel.from_json(model.to_json()).samples == model.samples > 0
    policy = PromisePolicy(StepTimeModel.from_json(model.to_json()), ServiceClasses())
    [answer] = Machine(scheduler(policy)).submit(promised("huge", 4000, ttft_s=1e-6))
    assert isinstance(answer, Rejected)
    assert answer.reason is RejectReason.IMPOSSIBLE


def test_a_file_of_before_that_is_refused_by_its_version() -> None:
    text = change(lambda v: (v.pop("observed"), v.update(version=1)))
    with pytest.raises(ValueError, match="its version is 1, not 2"):
        StepTimeModel.from_json(text)


def change(edit: Callable[[dict[str, Any]], object]) -> str:
    value = json.loads(seeded(roofline).to_json())
    edit(value)
    return json.dumps(value)


CORRUPT = {
    "empty": "",
    "no JSON": "\x80\x04K\x01.",
    "cut off": seeded(roofline).to_json()[:-10],
    "another thing": '{"model": "gpt"}',
    "a list": "[]",
    "a number": "17",
    "deep": "[" * 100_000,
    "long": " " * (TEXT_MAX + 1),
    "a huge number": change(lambda v: v["samples"][0].__setitem__(0, 10**400)),
    "another version": change(lambda v: v.update(version=3)),
    "a key more": change(lambda v: v.update(more=1)),
    "a key less": change(lambda v: v.pop("tails")),
    "other knots": change(lambda v: v["knots"].pop()),
    "half a step observed": change(lambda v: v.update(observed=1.5)),
    "fewer steps than none": change(lambda v: v.update(observed=-1)),
    "no pace": change(lambda v: v.update(pace=0.0)),
    "a pace that is no number": change(lambda v: v.update(pace=float("nan"))),
    "a pace in words": change(lambda v: v.update(pace="fast")),
    "a pace that is true": change(lambda v: v.update(pace=True)),
    "a cost below zero": change(lambda v: v["costs_s"].__setitem__(-1, -1e-9)),
    "costs that fall": change(lambda v: v["costs_s"].__setitem__(3, 0.0)),
    "a first cost of zero": change(lambda v: v["costs_s"].__setitem__(0, 0.0)),
    "a cost less": change(lambda v: v["costs_s"].pop()),
    "a margin below one": change(lambda v: v["tails"][0].__setitem__(0, 0.5)),
    "a margin without bound": change(lambda v: v["tails"][1].__setitem__(0, 1e30)),
    "one tail": change(lambda v: v["tails"].pop()),
    "a sample without time": change(lambda v: v["samples"][0].__setitem__(4, 0.0)),
    "a sample with half a token": change(lambda v: v["samples"][0].__setitem__(0, 1.5)),
    "a sample with fewer tokens than sequences": change(lambda v: v["samples"][0].__setitem__(1, 10**6)),
    "a short sample": change(lambda v: v["samples"][0].pop()),
    "samples in words": change(lambda v: v.update(samples="none")),
    "too many samples": change(lambda v: v.update(samples=v["samples"] * 100)),
}


@pytest.mark.parametrize("text", CORRUPT.values(), ids=CORRUPT.keys())
def test_anything_else_is_refused_with_one_clear_line(text: str) -> None:
    with pytest.raises(ValueError, match=r"^the step-time model can't be read: [^\n]{5,200}$"):
        StepTimeModel.from_json(text)


def test_a_model_stays_small() -> None:
    model = StepTimeModel()
    for i in range(3000):
        model.observe(StepShape(1 + i * i % 5000, 1, i * 7919 % 10**6, float(i % 2)), 0.01)
    assert len(model.to_json()) < 100_000
