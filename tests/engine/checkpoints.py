"""Small random checkpoints of every family, made by transformers, and what transformers itself answers with them.

Weights are drawn wide, so that the likeliest token leads by a clear margin and rounding can't change it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    MistralConfig,
    Qwen2Config,
    Qwen3Config,
)

OUTPUT_TOKENS = 14
MARGIN_MIN = 0.005
"""The least lead of the likeliest logit over the next that a test builds on: logits reach about 10, rounding 1e-5."""

SEEDS_MAX = 20

VOCABULARY = 131
"""Odd, so that two ranks don't share it evenly."""

PROMPTS = tuple(
    tuple((start + step * place) % VOCABULARY for place in range(length))
    for start, step, length in ((7, 11, 14), (50, 3, 5), (90, 17, 22), (3, 29, 9))
)

_SMALL: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "initializer_range": 0.3,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
    "use_cache": True,
}
_LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500.0,
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
_YARN = {"rope_type": "yarn", "rope_theta": 500.0, "factor": 4.0, "original_max_position_embeddings": 16}

FAMILIES: dict[str, Any] = {
    "llama": LlamaConfig(**_SMALL),
    "llama-tied-llama3": LlamaConfig(**_SMALL, tie_word_embeddings=True, rope_parameters=_LLAMA3),
    "llama-linear-one-kv-head": LlamaConfig(
        **(_SMALL | {"num_key_value_heads": 1}),
        rope_parameters={"rope_type": "linear", "rope_theta": 500.0, "factor": 2.0},
    ),
    "llama-yarn-biased": LlamaConfig(**_SMALL, attention_bias=True, mlp_bias=True, rope_parameters=_YARN),
    "mistral-window": MistralConfig(**_SMALL, sliding_window=7),
    "qwen2": Qwen2Config(**_SMALL, tie_word_embeddings=True),
    "qwen2-window-above": Qwen2Config(**_SMALL, use_sliding_window=True, sliding_window=6, max_window_layers=1),
    "qwen3": Qwen3Config(**_SMALL, head_dim=16),
}


@dataclass(frozen=True)
class Checkpoint:
    """``answers[i]`` are the greedy tokens that follow ``PROMPTS[i]``, by transformers in fp32."""

    directory: Path
    answers: tuple[tuple[int, ...], ...]


def make(family: str, directory: Path) -> Checkpoint:
    """Write a checkpoint of the family into ``directory``: the first whose answers leave no doubt."""
    for seed in range(SEEDS_MAX):
        model = _model(family, seed)
        answers = tuple(_answer(model, prompt) for prompt in PROMPTS)
        if all(margin > MARGIN_MIN for _, margin in answers):
            model.save_pretrained(directory)
            return Checkpoint(directory, tuple(tokens for tokens, _ in answers))
    raise AssertionError(f"{family}: no seed below {SEEDS_MAX} leaves clear margins")


def _model(family: str, seed: int) -> Any:
    torch.manual_seed(seed)
    model: Any = AutoModelForCausalLM.from_config(FAMILIES[family], dtype=torch.float32).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(std=0.3)
            elif name.endswith("norm.weight"):
                parameter.uniform_(0.5, 1.5)
    return model


def convert(directory: Path, target: Path, dtype: torch.dtype) -> None:
    """Write the checkpoint again, its weights rounded to ``dtype``."""
    AutoModelForCausalLM.from_pretrained(directory, dtype=dtype).save_pretrained(target)


def logits(directory: Path, tokens: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    """The logits (fp32, [tokens, vocabulary]) that transformers computes in ``dtype``."""
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=dtype).eval()
    with torch.no_grad():
        result: torch.Tensor = model(torch.tensor([tokens])).logits[0].float()
    return result


def _answer(model: Any, prompt: tuple[int, ...]) -> tuple[tuple[int, ...], float]:
    """The greedy tokens, and the least lead that any of them had."""
    result = model.generate(
        torch.tensor([prompt]),
        attention_mask=torch.ones(1, len(prompt), dtype=torch.int64),
        max_new_tokens=OUTPUT_TOKENS,
        do_sample=False,
        output_logits=True,
        return_dict_in_generate=True,
    )
    best = torch.cat(result.logits).topk(2).values
    return tuple(result.sequences[0, len(prompt) :].tolist()), float((best[:, 0] - best[:, 1]).min())
