"""From an argument to a checkpoint that has been looked over; bad ones are refused before a weight is read."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub.errors import LocalEntryNotFoundError

from headway.models import checkpoint
from headway.models.checkpoint import read_tensors
from headway.models.config import parse_config
from headway.models.errors import ModelError
from headway.models.hub import ALLOWED
from headway.models.layout import expected_tensors
from headway.models.source import resolve

CONFIG: dict[str, Any] = {
    "model_type": "llama",
    "vocab_size": 20,
    "hidden_size": 8,
    "intermediate_size": 12,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "max_position_embeddings": 32,
}
SHAPES = expected_tensors(parse_config(CONFIG))


def header(shapes: dict[str, tuple[int, ...]], dtype: str = "BF16") -> dict[str, Any]:
    entries: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, shape in shapes.items():
        size = 2
        for dimension in shape:
            size *= dimension
        entries[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [offset, offset + size]}
        offset += size
    return entries


def write_weights(path: Path, entries: dict[str, Any]) -> None:
    body = json.dumps(entries).encode()
    ends = [entry["data_offsets"][1] for name, entry in entries.items() if name != "__metadata__"]
    path.write_bytes(struct.pack("<Q", len(body)) + body + bytes(max(ends, default=0)))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    directory = tmp_path / "model"
    directory.mkdir()
    (directory / "config.json").write_text(json.dumps(CONFIG))
    write_weights(directory / "model.safetensors", header(SHAPES))
    return directory


def refusal(argument: str | Path) -> str:
    with pytest.raises(ModelError) as caught:
        resolve(str(argument))
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_a_directory(model: Path) -> None:
    source = resolve(str(model))
    assert (source.name, source.path, source.random_shape) == ("model", model, None)
    assert source.config == parse_config(CONFIG)
    assert source.description == "llama, 888 parameters"


def test_a_random_shape() -> None:
    source = resolve("random:smollm2-135m")
    assert (source.name, source.path, source.random_shape) == ("random:smollm2-135m", None, "smollm2-135m")
    assert "135M parameters" in source.description
    assert "unknown shape" in refusal("random:nothing")


@pytest.mark.parametrize("argument", ["./nowhere", "nowhere", "/nowhere/at/all", "~/nowhere", "a/b/c", "a b/c", ""])
def test_what_is_neither_directory_nor_hub_id(argument: str) -> None:
    assert "no such directory" in refusal(argument) if argument else "no config.json" in refusal(argument)


def test_a_file_instead_of_a_directory(model: Path) -> None:
    assert "is a file" in refusal(model / "config.json")


def test_missing_and_broken_configurations(model: Path) -> None:
    (model / "config.json").write_text("{")
    assert "not valid JSON" in refusal(model)
    (model / "config.json").write_text("[]")
    assert "must hold a JSON object" in refusal(model)
    (model / "config.json").write_text("[" * 100_000)
    assert "not valid JSON" in refusal(model)
    (model / "config.json").unlink()
    assert "no config.json" in refusal(model)


def test_a_configuration_of_absurd_size(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "JSON_BYTES_MAX", 10)
    assert "more than the 10 that are read" in refusal(model)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "consolidated.00.pth", "model.pt"])
def test_pickled_weights_are_never_loaded(model: Path, name: str) -> None:
    (model / "model.safetensors").rename(model / name)
    message = refusal(model)
    assert name in message
    assert "pickled" in message


def test_no_weights_at_all(model: Path) -> None:
    (model / "model.safetensors").unlink()
    assert "no model.safetensors" in refusal(model)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_links_out_of_the_directory(model: Path, tmp_path: Path, name: str) -> None:
    outside = tmp_path / "outside"
    (model / name).touch()
    (model / name).rename(outside)
    (model / name).symlink_to(outside)
    message = refusal(model)
    assert "is a link to" in message
    assert str(outside) in message


def test_links_within_the_directory_and_to_it(model: Path, tmp_path: Path) -> None:
    (model / "model.safetensors").rename(model / "weights")
    (model / "model.safetensors").symlink_to("weights")
    (tmp_path / "link").symlink_to(model)
    assert resolve(str(tmp_path / "link")).config == parse_config(CONFIG)


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (b"", "cut off"),
        (b"\x05\x00", "cut off"),
        (struct.pack("<Q", 1 << 62) + b"{}", "cut off"),
        (struct.pack("<Q", 2) + b"{]", "not valid JSON"),
        (struct.pack("<Q", 4) + b"\xff\xfe\xfd\xfc", "not valid JSON"),
        (struct.pack("<Q", 2) + b"[]", "not a JSON object"),
    ],
)
def test_malformed_headers(model: Path, body: bytes, named: str) -> None:
    (model / "model.safetensors").write_bytes(body)
    assert named in refusal(model)


def test_a_header_of_absurd_size(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "HEADER_BYTES_MAX", 100)
    assert "limit 100" in refusal(model)


NORM = "model.norm.weight"


@pytest.mark.parametrize(
    ("entry", "named"),
    [
        (None, "malformed"),
        ({}, "malformed"),
        ({"dtype": "BF16", "shape": [-8], "data_offsets": [0, 16]}, "malformed"),
        ({"dtype": "BF16", "shape": [True], "data_offsets": [0, 2]}, "malformed"),
        ({"dtype": "BF16", "shape": [8], "data_offsets": [16]}, "malformed"),
        ({"dtype": "BF16", "shape": [8], "data_offsets": [0, 18]}, "byte range"),
        ({"dtype": "BF16", "shape": [8], "data_offsets": [16, 0]}, "byte range"),
        ({"dtype": "BF16", "shape": [8], "data_offsets": [1 << 40, (1 << 40) + 16]}, "byte range"),
        ({"dtype": "I8", "shape": [8], "data_offsets": [0, 8]}, "dtype 'I8'"),
        ({"dtype": "BF16", "shape": [9], "data_offsets": [0, 18]}, "has shape [9], config.json says [8]"),
        ({"dtype": "BF16", "shape": [2, 4], "data_offsets": [0, 16]}, "has shape [2, 4]"),
    ],
)
def test_headers_that_lie(model: Path, entry: object, named: str) -> None:
    entries = header(SHAPES)
    whole = (model / "model.safetensors").stat().st_size
    entries[NORM] = entry
    body = json.dumps(entries).encode()
    (model / "model.safetensors").write_bytes((struct.pack("<Q", len(body)) + body).ljust(whole, b"\0"))
    message = refusal(model)
    assert named in message
    assert NORM in message


def test_missing_and_foreign_tensors(model: Path) -> None:
    shapes = dict(SHAPES)
    del shapes[NORM]
    write_weights(model / "model.safetensors", header(shapes))
    assert f"tensor {NORM} is missing (1 of {len(SHAPES)} are)" in refusal(model)
    write_weights(model / "model.safetensors", header(SHAPES | {"model.layers.1.mlp.up_proj.weight": (12, 8)}))
    assert "is not part of a llama model" in refusal(model)
    write_weights(model / "model.safetensors", header(SHAPES | {"model.layers.0.self_attn.rotary_emb.inv_freq": (2,)}))
    assert resolve(str(model)).path == model


def shards(model: Path, names: list[str]) -> None:
    """Spread the tensors over files of the given names, which must be there already or be plain."""
    weight_map = {tensor: names[index % len(names)] for index, tensor in enumerate(SHAPES)}
    (model / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    (model / "model.safetensors").unlink()


def test_shards(model: Path) -> None:
    names = ["model-1.safetensors", "model-2.safetensors"]
    shards(model, names)
    assert "shard model-1.safetensors is not there (2 missing)" in refusal(model)
    for index, name in enumerate(names):
        part = {tensor: shape for place, (tensor, shape) in enumerate(SHAPES.items()) if place % 2 == index}
        write_weights(model / name, header(part))
    entries = read_tensors(model, resolve(str(model)).config)
    assert {entry.file.name for entry in entries.values()} == set(names)
    write_weights(model / names[1], header(SHAPES))
    assert "is in model-1.safetensors too" in refusal(model)


@pytest.mark.parametrize(
    "name", ["../outside.safetensors", "/outside.safetensors", "pytorch_model.bin", "a/b.safetensors"]
)
def test_shard_names_that_lead_elsewhere(model: Path, name: str) -> None:
    shards(model, [name])
    assert "is not the name of a safetensors file beside it" in refusal(model)


@pytest.mark.parametrize("index", [{}, {"weight_map": []}, {"weight_map": {"a": 1}}, {"weight_map": {}}])
def test_malformed_shard_indices(model: Path, index: object) -> None:
    shards(model, ["model-1.safetensors"])
    (model / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "model.safetensors.index.json" in refusal(model)


def cached(model: Path, cache: Path) -> Path:
    """The model as the hub's cache lays it out: snapshots are links into the repository's blobs."""
    snapshot = cache / "models--some--model" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (cache / "models--some--model" / "blobs").mkdir()
    for file in model.iterdir():
        blob = cache / "models--some--model" / "blobs" / f"blob-of-{file.name}"
        file.rename(blob)
        (snapshot / file.name).symlink_to(os.path.relpath(blob, snapshot))
    return snapshot


def test_a_hub_id(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only configuration, tokenizer and safetensors are asked for, and links into the repository's cache are fine."""
    snapshot = cached(model, tmp_path / "hub")
    asked: list[dict[str, Any]] = []

    def fake_download(repository: str, **options: Any) -> str:
        asked.append({"repository": repository, **options})
        return str(snapshot)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fake_download)
    told: list[str] = []
    source = resolve("some/model", progress=lambda text, _share: told.append(text))
    assert (source.name, source.path) == ("some/model", snapshot)
    assert told == ["fetching some/model from the hub"]
    assert asked == [{"repository": "some/model", "allow_patterns": list(ALLOWED), "ignore_patterns": ["*/*"]}]
    assert not any(pattern.endswith((".bin", ".pt", ".py", "*")) for pattern in ALLOWED)
    outside = tmp_path / "outside.json"
    (snapshot / "config.json").resolve().rename(outside)
    (snapshot / "config.json").unlink()
    (snapshot / "config.json").symlink_to(outside)
    assert "is a link to" in refusal("some/model")


def test_a_hub_that_can_not_be_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    def fake_download(repository: str, **options: Any) -> str:
        raise LocalEntryNotFoundError("no connection\nand no cache")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fake_download)
    assert "the hub can't be reached" in refusal("some/model")


def test_resolving_imports_neither_torch_nor_the_hub() -> None:
    script = (
        "import sys; from headway.models.source import resolve; resolve('random:tiny'); "
        "assert not {'torch', 'huggingface_hub', 'transformers', 'safetensors'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
