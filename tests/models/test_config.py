"""Configurations as checkpoints spell them, and everything that is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import LlamaConfig, MistralConfig, PretrainedConfig, Qwen2Config, Qwen3Config

from headway.models.config import ModelConfig, parse_config
from headway.models.errors import ModelError
from headway.models.layout import expected_tensors
from headway.models.rotary import RopeConfig
from headway.models.shapes import SHAPES, shape_config

LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "vocab_size": 100,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
}


def parse(**changes: object) -> ModelConfig:
    return parse_config(LLAMA | changes)


def written(config: PretrainedConfig, directory: Path) -> ModelConfig:
    """What we read from the file that transformers writes."""
    config.save_pretrained(directory)
    return parse_config(json.loads((directory / "config.json").read_text()))


def test_absent_fields_mean_what_the_family_takes_them_to_mean() -> None:
    config = parse()
    assert (config.head_dim, config.kv_heads, config.norm_epsilon) == (16, 2, 1e-6)
    assert (config.tied_embeddings, config.qkv_bias, config.output_bias, config.mlp_bias) == (False,) * 4
    assert config.rope == RopeConfig(theta=10_000.0)
    assert config.windows == (None,) * 4
    assert parse(num_key_value_heads=None).kv_heads == 4


@pytest.mark.parametrize("config", [LlamaConfig, MistralConfig, Qwen2Config, Qwen3Config])
def test_what_transformers_writes_can_be_read(config: type[PretrainedConfig], tmp_path: Path) -> None:
    theirs = config(num_hidden_layers=3)
    ours = written(theirs, tmp_path)
    assert ours.family == theirs.model_type
    assert (ours.layers, ours.hidden_size, ours.heads) == (3, theirs.hidden_size, theirs.num_attention_heads)
    assert ours.kv_heads == theirs.num_key_value_heads
    assert ours.context_tokens == theirs.max_position_embeddings
    assert ours.tied_embeddings == theirs.tie_word_embeddings
    assert ours.rope.theta == theirs.rope_parameters["rope_theta"]


def test_windows(tmp_path: Path) -> None:
    assert parse(model_type="mistral").windows == (4096,) * 4
    assert parse(model_type="mistral", sliding_window=None).windows == (None,) * 4
    assert parse(model_type="mistral", sliding_window=32).windows == (32,) * 4
    assert parse(model_type="qwen2", sliding_window=32).windows == (None,) * 4
    # The window that transformers takes where the file names none; it was once taken to be none at all.
    assert parse(model_type="qwen3", use_sliding_window=True, max_window_layers=3).windows == (None, None, None, 4096)
    qwen = {"model_type": "qwen2", "use_sliding_window": True, "sliding_window": 32}
    assert parse(**qwen, max_window_layers=3).windows == (None, None, None, 32)
    types = ["sliding_attention", "full_attention", "full_attention", "sliding_attention"]
    assert parse(**qwen, layer_types=types).windows == (32, None, None, 32)
    theirs = Qwen2Config(num_hidden_layers=4, use_sliding_window=True, sliding_window=7, max_window_layers=2)
    assert written(theirs, tmp_path).windows == (None, None, 7, 7)


def test_biases_and_norms() -> None:
    qwen2, qwen3 = parse(model_type="qwen2"), parse(model_type="qwen3")
    assert (qwen2.qkv_bias, qwen2.output_bias, qwen2.qk_norm) == (True, False, False)
    assert (qwen3.qkv_bias, qwen3.output_bias, qwen3.qk_norm, qwen3.head_dim) == (False, False, True, 128)
    biased = parse(attention_bias=True, mlp_bias=True)
    assert (biased.qkv_bias, biased.output_bias, biased.mlp_bias) == (True, True, True)
    ignored = parse(model_type="mistral", attention_bias=True, mlp_bias=True)
    assert (ignored.qkv_bias, ignored.output_bias, ignored.mlp_bias) == (False, False, False)


ROPES: list[tuple[dict[str, Any], RopeConfig]] = [
    ({}, RopeConfig(theta=500.0)),
    ({"rope_type": "default"}, RopeConfig(theta=500.0)),
    ({"rope_type": "linear", "factor": 2.0}, RopeConfig(theta=500.0, kind="linear", factor=2.0)),
    (
        {
            "rope_type": "llama3",
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 32,
        },
        RopeConfig(theta=500.0, kind="llama3", factor=8.0, original_context=32, low=1.0, high=4.0),
    ),
    (
        {"rope_type": "yarn", "factor": 4, "original_max_position_embeddings": 32, "beta_fast": 16},
        RopeConfig(theta=500.0, kind="yarn", factor=4.0, original_context=32, low=1.0, high=16.0),
    ),
    (
        {"rope_type": "yarn", "factor": 4.0, "attention_factor": 1.5, "truncate": False},
        RopeConfig(
            theta=500.0, kind="yarn", factor=4.0, original_context=128, high=32.0, attention_factor=1.5, truncate=False
        ),
    ),
]


@pytest.mark.parametrize(("spelled", "expected"), ROPES)
def test_rope_in_every_spelling(spelled: dict[str, Any], expected: RopeConfig) -> None:
    assert parse(rope_parameters=spelled | {"rope_theta": 500.0}).rope == expected
    assert parse(rope_scaling=spelled, rope_theta=500.0).rope == expected
    older = {"type" if key == "rope_type" else key: value for key, value in spelled.items()}
    assert parse(rope_scaling=older or None, rope_theta=500.0).rope == expected


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"model_type": "gpt2"}, "model_type 'gpt2'"),
        ({"model_type": None}, "model_type is missing"),
        ({"auto_map": {"AutoModel": "modeling.Model"}}, "auto_map"),
        ({"quantization_config": {"quant_method": "gptq"}}, "quantization_config"),
        ({"hidden_act": "gelu"}, "hidden_act 'gelu'"),
        ({"dtype": "float8_e4m3fn"}, "dtype"),
        ({"hidden_size": None}, "hidden_size is missing"),
        ({"hidden_size": "64"}, "hidden_size"),
        ({"hidden_size": True}, "hidden_size"),
        ({"hidden_size": 0}, "hidden_size"),
        ({"vocab_size": 1 << 40}, "vocab_size"),
        ({"num_key_value_heads": 3}, "num_key_value_heads 3"),
        ({"head_dim": 7}, "head_dim 7"),
        ({"rms_norm_eps": 0}, "rms_norm_eps"),
        ({"rms_norm_eps": float("nan")}, "rms_norm_eps"),
        ({"tie_word_embeddings": "yes"}, "tie_word_embeddings"),
        ({"eos_token_id": "</s>"}, "eos_token_id"),
        ({"rope_scaling": [1]}, "rope_scaling"),
        ({"rope_scaling": {"type": "longrope"}}, "longrope"),
        ({"rope_scaling": {"type": "linear"}}, "factor"),
        ({"rope_scaling": {"type": "llama3", "factor": 8.0}}, "original_max_position_embeddings"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor"),
        ({"model_type": "qwen2", "use_sliding_window": True, "layer_types": ["full_attention"]}, "layer_types"),
        ({"model_type": "qwen3", "use_sliding_window": True, "layer_types": ["chunked"] * 4}, "layer_types"),
    ],
)
def test_what_the_decoder_does_not_compute_is_refused(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(ModelError) as caught:
        parse(**changes)
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)


def test_eos_is_one_id_or_several() -> None:
    assert parse().eos_token_ids == ()
    assert parse(eos_token_id=2).eos_token_ids == (2,)
    assert parse(eos_token_id=[2, 0]).eos_token_ids == (2, 0)


@pytest.mark.parametrize("shape", SHAPES)
def test_parameters_are_counted_as_the_tensors_are(shape: str) -> None:
    config = shape_config(shape)
    total = 0
    for dimensions in expected_tensors(config).values():
        size = 1
        for dimension in dimensions:
            size *= dimension
        total += size
    assert config.parameters == total


def test_shapes_are_those_of_the_models() -> None:
    millions = {shape: round(shape_config(shape).parameters / 1e6) for shape in SHAPES if shape != "tiny"}
    assert millions == {
        "smollm2-135m": 135,
        "llama-320m": 321,
        "qwen2.5-0.5b": 494,
        "llama-3.2-1b": 1236,
        "llama-3.1-8b": 8030,
    }
    with pytest.raises(ModelError, match="unknown shape"):
        shape_config("gpt-5")
