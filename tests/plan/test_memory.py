"""KV pools against the blocks that engines reported."""

from __future__ import annotations

from dataclasses import replace

import pytest

from headway.plan.errors import PlanError
from headway.plan.memory import memory
from headway.plan.precision import Precision
from tests.plan.setups import setup


def test_blocks_that_vllm_reported_on_an_rtx_4090() -> None:
    """Llama-3.1-8B in bf16, 2,048 tokens a step: 2,588 blocks of 16 tokens."""
    assert memory(setup(gpu="rtx-4090"), 2048).kv_tokens / 16 == pytest.approx(2588, rel=0.03)


@pytest.mark.parametrize(
    ("model", "tp", "step_tokens", "blocks"),
    [
        ("mistralai/Mistral-Nemo-Instruct-2407", 1, 2048, 19251),
        ("mistralai/Mistral-Nemo-Instruct-2407", 2, 1024, 48009),
        ("01-ai/Yi-34B", 2, 2048, 20793),
        ("llama-3.1-70b", 4, 2048, 30425),
    ],
)
def test_blocks_that_vllm_reported_on_h100s(model: str, tp: int, step_tokens: int, blocks: int) -> None:
    assert memory(setup(model, tp=tp), step_tokens).kv_tokens / 16 == pytest.approx(blocks, rel=0.02)


def test_the_parts_make_up_what_the_engine_takes() -> None:
    found = memory(setup())
    assert found.weights + found.activations + found.other + found.kv_bytes == pytest.approx(found.total)


def test_trtllm_takes_a_share_of_what_is_left() -> None:
    found = memory(setup(engine="trtllm"))
    assert found.kv_bytes == pytest.approx(0.9 * (found.total - found.weights - found.activations - found.other))


def test_longer_steps_leave_less() -> None:
    assert memory(setup(), 16384).kv_tokens < memory(setup(), 2048).kv_tokens


def test_tokens_come_in_whole_blocks_and_fp8_holds_twice_as_many() -> None:
    wide, narrow = memory(setup()), memory(setup(kv_precision=Precision.FP8))
    assert wide.kv_tokens % 16 == 0
    assert narrow.kv_tokens == pytest.approx(2 * wide.kv_tokens, abs=32)


def test_a_model_that_does_not_fit_says_what_it_needs() -> None:
    with pytest.raises(
        PlanError, match=r"llama-3.1-70b in bf16 doesn't fit 1 x .*weights 141.* use more GPUs, fewer bits"
    ):
        memory(setup("llama-3.1-70b"))


def test_nothing_left_for_the_cache() -> None:
    cramped = setup()
    tight = replace(cramped, gpu=replace(cramped.gpu, memory_bytes=20.2e9))
    with pytest.raises(PlanError, match="and a KV cache"):
        memory(tight)
