"""The whole decoder in compiled kernels, against transformers and against itself served in other ways."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from headway.engine import native, native_model
from headway.engine.options import Dtype, EngineOptions
from headway.engine.runner import ModelRunner
from headway.models.errors import ModelError
from headway.models.source import resolve
from headway.policy.plan import Chunk, Draw, StepPlan
from headway.policy.sampling import SamplingParams
from tests.engine.checkpoints import FAMILIES, PROMPTS, VOCABULARY, Checkpoint, convert, logits
from tests.engine.driving import Way, serve

OPTIONS = EngineOptions(dtype="bf16", kv_tokens=1024, block_size=16, threads=2)
ERROR_MAX = {"bf16": 1.5, "int8": 5.0}
"""In units of the error that transformers makes in bf16."""
OUTPUT_TOKENS = 24
SHORT_PROMPTS = tuple(prompt[:9] for prompt in PROMPTS)


def logprobs(runner: ModelRunner, prompt: tuple[int, ...], ends: tuple[int, ...]) -> torch.Tensor:
    """Log-probabilities after each of ``ends`` tokens of the prompt, which are computed in as many chunks."""
    rows = []
    for start, end in zip((0, *ends), ends, strict=False):
        draw = Draw(SamplingParams(temperature=0.0, logprobs=VOCABULARY), 0, end)
        chunk = Chunk("request", start, prompt[start:end], tuple(range(-(-end // 16))), draw)
        (token,) = runner.run(StepPlan(0, (chunk,))).drawn
        rows.append(torch.tensor([logprob for _, logprob in sorted(token.top)]))
    return torch.stack(rows)


@pytest.fixture
def chosen(kernels: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("HEADWAY_KERNELS", kernels)
    return kernels


@pytest.mark.parametrize("dtype", ["bf16", "int8"])
@pytest.mark.parametrize("family", FAMILIES)
def test_is_as_close_as_transformers(
    checkpoint: Callable[[str], Checkpoint], tmp_path: Path, family: str, dtype: Dtype, chosen: str
) -> None:
    convert(checkpoint(family).directory, tmp_path, torch.bfloat16)
    assert_as_close_as_transformers(tmp_path, dtype, chosen)


@pytest.mark.parametrize("dtype", ["bf16", "int8"])
@pytest.mark.parametrize("intermediate", [40, 43])
def test_a_gate_need_not_fill_whole_panels(tmp_path: Path, intermediate: int, dtype: Dtype, chosen: str) -> None:
    config = LlamaConfig.from_dict(FAMILIES["llama"].to_dict() | {"intermediate_size": intermediate})
    torch.manual_seed(1)
    AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).save_pretrained(tmp_path)
    assert_as_close_as_transformers(tmp_path, dtype, chosen)


def assert_as_close_as_transformers(directory: Path, dtype: Dtype, chosen: str) -> None:
    prompt = PROMPTS[2]
    exact = logits(directory, prompt, torch.float32).log_softmax(dim=-1)
    theirs = logits(directory, prompt, torch.bfloat16).log_softmax(dim=-1)
    runner = ModelRunner(resolve(str(directory)), replace(OPTIONS, dtype=dtype))
    assert f"{dtype} weights ({chosen} kernels)" in runner.info.description
    error = (logprobs(runner, prompt, (9, 21, 22)) - exact[[8, 20, 21]]).abs().max()
    assert error <= ERROR_MAX[dtype] * (theirs - exact).abs().max()


@pytest.mark.parametrize("dtype", ["bf16", "int8"])
@pytest.mark.parametrize("family", ["llama", "mistral-window", "qwen3"])
def test_who_else_is_served_changes_nothing(
    checkpoint: Callable[[str], Checkpoint], tmp_path: Path, family: str, dtype: Dtype, chosen: str
) -> None:
    """Each row is computed by itself, in one order: the same tokens alone, beside others, and after preemption."""
    runner = ModelRunner(resolve(str(checkpoint(family).directory)), replace(OPTIONS, dtype=dtype))
    alone = [serve(runner.run, runner.info, [p], OUTPUT_TOKENS, Way()).answers[0] for p in SHORT_PROMPTS]
    for cached, preempted in product((False, True), repeat=2):
        way = Way(cached=cached, preempted=preempted)
        assert list(serve(runner.run, runner.info, SHORT_PROMPTS, OUTPUT_TOKENS, way).answers) == alone


@pytest.mark.parametrize("dtype", ["bf16", "int8"])
@pytest.mark.parametrize(("family", "rows_max"), [("llama", 1), ("llama", 5), ("mistral-window", 9)])
def test_a_large_step_goes_through_in_parts(
    checkpoint: Callable[[str], Checkpoint], monkeypatch: pytest.MonkeyPatch, family: str, rows_max: int, dtype: Dtype
) -> None:
    """One step of 2,048 tokens took 50 MB for the numbers of all its rows."""
    runner = ModelRunner(resolve(str(checkpoint(family).directory)), replace(OPTIONS, dtype=dtype))
    greedy = SamplingParams(temperature=0.0, logprobs=3)
    chunks = [
        Chunk(f"r{number}", 0, prompt, tuple(range(8 * number, 8 * number + 8)), draw)
        for number, (prompt, draw) in enumerate(
            zip(PROMPTS, [Draw(greedy, 0, len(PROMPTS[0])), None, Draw(greedy, 0, len(PROMPTS[2]))], strict=False)
        )
    ]
    whole = runner.run(StepPlan(0, tuple(chunks)))
    monkeypatch.setattr(native_model, "ROWS_MAX", rows_max)
    in_parts = runner.run(StepPlan(0, tuple(chunks)))
    assert in_parts.drawn == whole.drawn
    assert [each.request_id for each in whole.drawn] == ["r0", "r2"]


def test_int8_without_kernels_is_refused_in_one_line(
    checkpoint: Callable[[str], Checkpoint], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native, "why_not", lambda: "nothing was compiled")
    source = resolve(str(checkpoint("llama").directory))
    with pytest.raises(ModelError, match=r"^--dtype int8 needs the compiled kernels: nothing was compiled$"):
        ModelRunner(source, replace(OPTIONS, dtype="int8"))
    told: list[str] = []
    runner = ModelRunner(source, OPTIONS, progress=lambda text, _share: told.append(text))
    assert "kernels" not in runner.info.description
    assert "nothing was compiled" in told
