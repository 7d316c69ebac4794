"""The time of a step: the formula that the design states, and what it can't be."""

from __future__ import annotations

import pytest

from headway.policy.stepshape import StepShape
from headway.sim.hardware import HARDWARE

H100 = HARDWARE["h100-llama-8b"]


def test_the_h100_reads_its_weights_or_computes_its_tokens_whichever_takes_longer() -> None:
    read_s, token_s = 16e9 / (3.35e12 * 0.85), 16e9 / (989e12 * 0.55)
    assert H100.step_s(StepShape(1, 1, 0, 0.0)) == pytest.approx(0.0015 + read_s)
    assert H100.step_s(StepShape(2048, 1, 0, 0.0)) == pytest.approx(0.0015 + 2048 * token_s)


def test_attention_costs_by_the_context_that_decodes_and_tiles_of_prompts_read() -> None:
    context_s = 131_072 / (3.35e12 * 0.85)
    base_s = H100.step_s(StepShape(8, 8, 0, 0.0))
    assert H100.step_s(StepShape(8, 8, 10_000, 0.0)) - base_s == pytest.approx(10_000 * context_s)
    assert H100.step_s(StepShape(8, 8, 0, 640_000.0)) - base_s == pytest.approx(10_000 * context_s)


@pytest.mark.parametrize("name", HARDWARE)
def test_more_work_never_takes_less_time_and_records_say_where_they_come_from(name: str) -> None:
    hardware = HARDWARE[name]
    small = hardware.step_s(StepShape(4, 2, 100, 10.0))
    assert small > 0.0
    for more in (StepShape(5, 2, 100, 10.0), StepShape(4, 3, 100, 10.0), StepShape(4, 2, 101, 10.0)):
        assert hardware.step_s(more) >= small
    assert hardware.name == name
    assert hardware.source
    assert hardware.description


@pytest.mark.parametrize(("decodes", "measured_s"), [(1, 0.024), (4, 0.030), (16, 0.059)])
def test_the_cpu_is_near_what_was_measured(decodes: int, measured_s: float) -> None:
    step_s = HARDWARE["cpu-smollm2-135m"].step_s(StepShape(decodes, decodes, 64 * decodes, 0.0))
    assert step_s == pytest.approx(measured_s, rel=0.1)
