"""Calibration: a few seconds of made-up steps, and the model knows the machine."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest

from headway.policy.plan import ExecutorInfo, ExecutorLost, StepPlan, StepResult
from headway.policy.steptime import StepShape, StepTimeModel
from headway.serve.calibration import calibrate

INFO = ExecutorInfo(block_size=16, kv_blocks=20_000, context_tokens=8192, vocab_size=100)


@dataclass
class Machine:
    """An executor in a time of its own: a step takes ``base_s`` and ``token_s`` for each token, and more for context.

    The first step of each number of tokens takes ``warm_up_s`` more. It holds plans to what a real one asks of them.
    """

    info: ExecutorInfo = INFO
    base_s: float = 0.006
    token_s: float = 0.00003
    warm_up_s: float = 0.0
    lost_at: int | None = None
    now: float = 100.0
    shapes: list[StepShape] = field(default_factory=list)
    plan: StepPlan | None = None

    def clock(self) -> float:
        return self.now

    def start(self) -> ExecutorInfo:
        return self.info

    def begin(self, plan: StepPlan) -> None:
        assert self.plan is None
        assert len({chunk.request_id for chunk in plan.chunks}) == len(plan.chunks) > 0
        for chunk in plan.chunks:
            end = chunk.start + len(chunk.tokens)
            assert chunk.tokens
            assert end <= self.info.context_tokens
            assert 0 <= min(chunk.tokens) <= max(chunk.tokens) < self.info.vocab_size
            assert len(chunk.block_table) == -(-end // self.info.block_size)
            assert 0 <= min(chunk.block_table) <= max(chunk.block_table) < self.info.kv_blocks
        blocks = [block for chunk in plan.chunks for block in chunk.block_table]
        assert len(set(blocks)) == len(blocks)
        self.plan = plan

    def finish(self) -> StepResult:
        assert self.plan is not None
        plan, self.plan = self.plan, None
        if len(self.shapes) == self.lost_at:
            raise ExecutorLost
        shape = StepShape.of(plan)
        self.now += self.time_s(shape)
        if shape.tokens not in {each.tokens for each in self.shapes}:
            self.now += self.warm_up_s
        self.shapes.append(shape)
        return StepResult(plan.step_id, ())

    def stop(self) -> None: ...

    def interrupt(self) -> None: ...

    def time_s(self, shape: StepShape) -> float:
        reads = shape.decode_context + shape.prefill_reads / 64
        return self.base_s + self.token_s * shape.tokens + 5e-8 * reads


def error(model: StepTimeModel, machine: Machine, shape: StepShape) -> float:
    predicted = model.predict_s(shape.tokens, shape.sequences, shape.decode_context, shape.prefill_reads)
    return abs(predicted / machine.time_s(shape) - 1.0)


def run(machine: Machine, budget_s: float = 3.0) -> StepTimeModel:
    model = StepTimeModel()
    calibrate(machine, machine.info, model, budget_s=budget_s, clock=machine.clock)
    return model


@pytest.mark.parametrize("warm_up_s", [0.0, 0.05])
def test_a_fast_machine_is_known_well_in_a_second(warm_up_s: float) -> None:
    """Even if the first step of a kind has to prepare something."""
    machine = Machine(warm_up_s=warm_up_s)
    model = run(machine)
    assert machine.now - 100.0 < 2.5
    assert 20 <= model.samples <= 60
    for shape in (StepShape(5, 5, 3000, 0.0), StepShape(60, 60, 30_000, 0.0), StepShape(700, 30, 9000, 670 * 400.0)):
        assert error(model, machine, shape) < 0.05


def test_a_slow_machine_is_ready_in_time_all_the_same() -> None:
    """What would take too long is left out, and learned when it comes."""
    machine = Machine(base_s=0.03, token_s=0.003)
    model = run(machine)
    assert machine.now - 100.0 < 3.3
    assert error(model, machine, StepShape(16, 16, 512, 0.0)) < 0.1
    assert error(model, machine, StepShape(64, 1, 0, 2048.0)) < 0.1


def test_prompts_are_measured_on_a_machine_whose_every_step_takes_long() -> None:
    """On a modelled L4 (66 ms a step, whatever is in it) calibration tried decodes alone: what was assumed of a prompt
    after a long context went into the price of any prefill, so that one of 16 tokens seemed to take 2.5 s. The server
    then refused all that came, and so never learned better."""
    machine = Machine(base_s=0.066, token_s=0.0002)
    model = run(machine)
    assert any(shape.prefill_reads > 0.0 for shape in machine.shapes)
    for tokens in (16, 128, 512):
        assert error(model, machine, StepShape(tokens, 1, 0, tokens * tokens / 2)) < 0.1


def test_a_machine_slower_than_the_whole_budget_runs_one_kind_of_step() -> None:
    machine = Machine(base_s=5.0)
    model = run(machine)
    assert len(machine.shapes) == 2
    assert model.samples == 1
    assert model.predict_s(1, 1, 0, 0.0) > 2.0


def test_a_second_run_is_the_one_that_counts_when_the_first_surprises() -> None:
    """The first step that prefills compiles something for two seconds."""
    machine = Machine(warm_up_s=0.5)
    model = run(machine, budget_s=6.0)
    assert error(model, machine, machine.shapes[-1]) < 0.1


@pytest.mark.parametrize(("blocks", "context"), [(1, 16), (3, 40), (70, 8192), (5000, 100)])
def test_no_step_asks_for_more_than_there_is(blocks: int, context: int) -> None:
    machine = Machine(info=replace(INFO, kv_blocks=blocks, context_tokens=context))
    model = run(machine)
    assert model.samples == len(set(machine.shapes)) >= 1


def test_progress_is_told_and_ends_at_one() -> None:
    machine, told = Machine(), list[float]()

    def tell(stage: str, share: float | None) -> None:
        assert stage
        assert share is not None
        told.append(share)

    calibrate(machine, INFO, StepTimeModel(), progress=tell, clock=machine.clock)
    assert told == sorted(told)
    assert told[-1] == 1.0


def test_a_lost_executor_is_the_callers_matter() -> None:
    with pytest.raises(ExecutorLost):
        run(Machine(lost_at=5))
