"""From files to weights: shards, slices for ranks, and tensors that are not to be trusted."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from headway.engine.options import EngineOptions
from headway.engine.runner import ModelRunner
from headway.engine.weights import CheckpointTensors, RandomTensors, Shard
from headway.models.errors import ModelError
from headway.models.layout import expected_tensors
from headway.models.shapes import shape_config
from headway.models.source import resolve
from tests.engine.checkpoints import Checkpoint
from tests.engine.conftest import OPTIONS
from tests.engine.driving import Way, serve

PROMPT = (5, 9, 2, 77, 30)


def answer(directory: Path, options: EngineOptions = OPTIONS) -> tuple[tuple[int, ...], ...]:
    runner = ModelRunner(resolve(str(directory)), options)
    return serve(runner.run, runner.info, [PROMPT], 6, Way()).answers


def test_sharded_files_are_the_same_model(checkpoint: Callable[[str], Checkpoint], tmp_path: Path) -> None:
    directory = checkpoint("llama").directory
    tensors = load_file(directory / "model.safetensors")
    weight_map: dict[str, str] = {}
    for shard in range(3):
        part = {name: tensors[name] for index, name in enumerate(tensors) if index % 3 == shard}
        save_file(part, tmp_path / f"model-{shard}.safetensors")
        weight_map |= dict.fromkeys(part, f"model-{shard}.safetensors")
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    (tmp_path / "config.json").write_bytes((directory / "config.json").read_bytes())
    assert answer(tmp_path) == answer(directory)


def test_a_tied_head_saved_all_the_same_is_not_read(checkpoint: Callable[[str], Checkpoint], tmp_path: Path) -> None:
    directory = checkpoint("llama-tied-llama3").directory
    tensors = load_file(directory / "model.safetensors")
    tensors["lm_head.weight"] = torch.zeros_like(tensors["model.embed_tokens.weight"])
    tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.zeros(4)
    save_file(tensors, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_bytes((directory / "config.json").read_bytes())
    assert answer(tmp_path) == answer(directory)


def test_bfloat16_is_the_default_and_stays_close(checkpoint: Callable[[str], Checkpoint]) -> None:
    """Weights rounded to bf16 are other weights; the first token is far enough ahead not to change."""
    directory = checkpoint("qwen2").directory
    assert answer(directory, replace(OPTIONS, dtype="auto"))[0][0] == answer(directory)[0][0]


def test_slices_for_ranks_are_parts_of_the_whole(checkpoint: Callable[[str], Checkpoint]) -> None:
    source = resolve(str(checkpoint("llama").directory))
    assert source.path is not None
    tensors = CheckpointTensors(source.path, source.config)
    name = "model.layers.1.self_attn.q_proj.weight"
    whole = tensors.read(name)
    parts = [Shard(source.config, rank, 2).query for rank in range(2)]
    assert np.array_equal(np.concatenate([tensors.read(name, rows) for rows in parts]), whole)
    assert np.array_equal(np.concatenate([tensors.read(name, columns=part) for part in parts], axis=1), whole)


def test_ranks_share_key_heads_when_there_are_too_few() -> None:
    config = replace(shape_config("tiny"), heads=8, kv_heads=2)
    shards = [Shard(config, rank, 4) for rank in range(4)]
    assert [shard.kv_heads for shard in shards] == [1, 1, 1, 1]
    size = config.head_dim
    assert [shard.key for shard in shards] == [
        slice(0, size),
        slice(0, size),
        slice(size, 2 * size),
        slice(size, 2 * size),
    ]


def test_a_model_that_can_not_be_cut_is_refused() -> None:
    with pytest.raises(ModelError, match="3 ranks can't share 9 heads"):
        Shard(replace(shape_config("smollm2-135m"), kv_heads=9, intermediate_size=1537), 0, 3)
    with pytest.raises(ModelError, match="2 ranks can't share 9 heads"):
        Shard(shape_config("smollm2-135m"), 0, 2)


def test_random_weights_depend_on_seed_and_name_alone() -> None:
    config = shape_config("tiny")
    name, other = "model.layers.0.mlp.up_proj.weight", "model.layers.1.mlp.up_proj.weight"
    tensors = RandomTensors(config, 0)
    assert {each: tuple(tensors.read(each).shape) for each in expected_tensors(config)} == expected_tensors(config)
    assert np.array_equal(tensors.read(name), RandomTensors(config, 0).read(name))
    assert not np.array_equal(tensors.read(name), tensors.read(other))
    assert not np.array_equal(tensors.read(name), RandomTensors(config, 1).read(name))
    assert np.array_equal(tensors.read(name)[3:9], tensors.read(name, slice(3, 9)))
