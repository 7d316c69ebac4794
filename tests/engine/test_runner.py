"""One step at a time: what a runner says of itself, what it refuses, and that one bad request harms no other."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from headway.engine import loaded, native
from headway.engine.memory import available_bytes
from headway.engine.options import EngineOptions, OptionError
from headway.engine.runner import ModelRunner
from headway.models.errors import ModelError
from headway.models.source import resolve
from headway.policy.plan import Chunk, Draw, StepPlan
from headway.policy.sampling import GREEDY
from tests.engine.checkpoints import Checkpoint
from tests.engine.conftest import OPTIONS

TINY = resolve("random:tiny")
POISON = 99
"""A token whose embedding is not a number."""


@pytest.fixture(scope="module")
def runner() -> ModelRunner:
    return ModelRunner(TINY, replace(OPTIONS, kv_tokens=64))


@pytest.fixture
def poisoned(checkpoint: Callable[[str], Checkpoint], tmp_path: Path) -> ModelRunner:
    directory = checkpoint("llama").directory
    tensors = load_file(directory / "model.safetensors")
    tensors["model.embed_tokens.weight"][POISON] = math.nan
    save_file(tensors, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_bytes((directory / "config.json").read_bytes())
    return ModelRunner(resolve(str(tmp_path)), replace(OPTIONS, kv_tokens=64))


def chunk(name: str, start: int, tokens: tuple[int, ...], table: tuple[int, ...], *, draws: bool = True) -> Chunk:
    return Chunk(name, start, tokens, table, Draw(GREEDY, 0, len(tokens)) if draws else None)


def test_says_what_it_offers(runner: ModelRunner) -> None:
    assert (runner.info.block_size, runner.info.kv_blocks) == (4, 16)
    assert (runner.info.context_tokens, runner.info.vocab_size) == (512, 512)
    assert "random:tiny" in runner.info.description
    assert "64 KV tokens" in runner.info.description


def test_tells_its_progress() -> None:
    told: list[tuple[str, float | None]] = []
    ModelRunner(TINY, replace(OPTIONS, kv_tokens=64), progress=lambda text, share: told.append((text, share)))
    assert told[0] == ("loading weights", 0.0)
    assert [share for text, share in told if text == "loading weights"] == sorted(
        share for text, share in told if share is not None
    )


def test_the_context_may_be_shortened() -> None:
    assert ModelRunner(TINY, replace(OPTIONS, kv_tokens=64, context_tokens=100)).info.context_tokens == 100
    assert ModelRunner(TINY, replace(OPTIONS, kv_tokens=64, context_tokens=10_000)).info.context_tokens == 512


def test_the_cache_takes_its_share_of_memory() -> None:
    token_bytes = 2 * TINY.config.layers * TINY.config.kv_heads * TINY.config.head_dim * 4
    options = EngineOptions(dtype="fp32", kv_bytes_max=1 << 20)
    assert ModelRunner(TINY, options).info.kv_blocks == (1 << 20) // (16 * token_bytes)
    assert available_bytes() > 0
    with pytest.raises(ModelError, match="a block of the KV cache takes"):
        ModelRunner(TINY, replace(options, kv_bytes_max=16 * token_bytes - 1))


def test_weights_larger_than_the_memory_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loaded, "available_bytes", lambda: 400_000)
    with pytest.raises(ModelError, match=r"the weights take 0\.0 GB"):
        ModelRunner(TINY, OPTIONS)


def test_a_cache_larger_than_the_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is taken at the start: a size that doesn't fit had the server killed there, or later, on the way."""
    token_bytes = 2 * TINY.config.layers * TINY.config.kv_heads * TINY.config.head_dim * 4
    options = EngineOptions(dtype="fp32", kv_tokens=1_000_000)
    monkeypatch.setattr(loaded, "available_bytes", lambda: 1_000_000 * token_bytes - 1)
    with pytest.raises(ModelError, match=r"a KV cache of 1000000 tokens takes \d+\.\d GB"):
        ModelRunner(TINY, options)


def test_a_chunk_without_draw_draws_nothing(runner: ModelRunner) -> None:
    result = runner.run(StepPlan(7, (chunk("a", 0, (1, 2, 3), (0,), draws=False),)))
    assert (result.step_id, result.drawn, result.failed) == (7, (), ())
    assert result.elapsed_s > 0.0


def test_every_block_can_be_used(runner: ModelRunner) -> None:
    """The same sequence gives the same token from any blocks, the first and the last among them."""
    tokens = {
        runner.run(StepPlan(0, (chunk("a", 0, (5, 6, 7, 8, 9), table),))).drawn[0].token
        for table in ((0, 15), (15, 0), (7, 8))
    }
    assert len(tokens) == 1


@pytest.mark.parametrize(
    "bad",
    [
        (),
        (chunk("a", 0, (), (0,)),),
        (chunk("a", 0, (512,), (0,)),),
        (chunk("a", 0, (-1,), (0,)),),
        (chunk("a", 0, (1,), (16,)),),
        (chunk("a", 0, (1,), (-1,)),),
        (chunk("a", 0, (1, 2, 3, 4, 5), (0,)),),
        (chunk("a", 511, (1, 1), tuple(range(16)) * 9),),
        (chunk("a", 0, (1,), (0,)), chunk("a", 0, (1,), (1,))),
    ],
)
def test_a_plan_that_does_not_fit_is_a_bug(runner: ModelRunner, bad: tuple[Chunk, ...]) -> None:
    with pytest.raises(AssertionError):
        runner.run(StepPlan(0, bad))


def test_a_request_whose_logits_are_not_numbers_fails_alone(poisoned: ModelRunner) -> None:
    alone = poisoned.run(StepPlan(0, (chunk("good", 0, (1, 2, 3), (4,)),))).drawn
    plan = StepPlan(1, (chunk("bad", 0, (1, POISON), (0,)), chunk("good", 0, (1, 2, 3), (1,))))
    result = poisoned.run(plan)
    assert [failed.request_id for failed in result.failed] == ["bad"]
    assert result.drawn == alone


@pytest.mark.parametrize("count", [1, 3])
def test_blocks_of_a_failed_request_are_clean_for_the_next(poisoned: ModelRunner, count: int) -> None:
    """A NaN left in a block once reached later requests through their padding, multiplied by zero."""
    others = tuple(
        chunk(f"other-{i}", 0, (1, 2, 3, 4, 5, 6, 7, 8, 9), (5 + 3 * i, 6 + 3 * i, 7 + 3 * i)) for i in range(2)
    )
    poisoned.run(StepPlan(0, (*others, chunk("bad", 0, (POISON,) * 16, (0, 1, 2, 3)))))
    first = poisoned.run(StepPlan(1, (chunk("good", 0, (1, 2, 3, 4, 5)[:count], (0, 1)),)))
    assert not first.failed
    token = first.drawn[0].token
    decodes = tuple(chunk(f"other-{i}", 9, (1,), others[i].block_table) for i in range(2))
    second = poisoned.run(StepPlan(2, (*decodes, chunk("good", count, (token,), (0, 1)[: count // 4 + 1]))))
    assert not second.failed


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"dtype": "int4"}, "dtype"),
        ({"block_size": 0}, "block_size"),
        ({"kv_tokens": 3}, "kv_tokens"),
        ({"threads": 0}, "threads"),
        ({"context_tokens": 0}, "context_tokens"),
        ({"kv_memory_fraction": 0.0}, "kv_memory_fraction"),
        ({"kv_bytes_max": 0}, "kv_bytes_max"),
    ],
)
def test_options_are_checked(values: dict[str, object], named: str) -> None:
    with pytest.raises(OptionError, match=named):
        replace(EngineOptions(), **values)  # type: ignore[arg-type]


WITHOUT_TORCH = """
import sys
from headway.engine.options import EngineOptions
from headway.engine.runner import ModelRunner
from headway.models.source import resolve
from headway.policy.plan import Chunk, Draw, StepPlan
from headway.policy.sampling import SamplingParams

runner = ModelRunner(resolve(None), EngineOptions(dtype="int8", kv_tokens=256))
everything = SamplingParams(
    top_k=9, top_p=0.9, min_p=0.01, presence_penalty=0.1, repetition_penalty=1.1, logit_bias=((3, 1.0),), logprobs=4,
    min_tokens=2, stop_token_ids=(1,),
)
runner.run(StepPlan(0, (Chunk("r", 0, (5, 6, 7), (0,), Draw(everything, 0, 3, (5, 6, 7))),)))
print("torch" in sys.modules)
"""


@pytest.mark.skipif(native.why_not() is not None, reason="there are no compiled kernels")
def test_compiled_kernels_do_without_torch() -> None:
    """To import torch took two thirds of what a small server needs beside its weights, and half of its start."""
    done = subprocess.run([sys.executable, "-c", WITHOUT_TORCH], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False"]
