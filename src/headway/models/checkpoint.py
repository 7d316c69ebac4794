"""What is inside a checkpoint, from its headers alone: no weight is read, nothing is executed.

A safetensors file starts with the header's length (8 bytes, little endian), then the header (JSON: name to dtype,
shape and byte range), then the data. Everything is checked here, so that a bad file is refused in one clear line
before any memory is spent on it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeGuard

from headway.models.config import ModelConfig
from headway.models.errors import ModelError
from headway.models.layout import IGNORED_SUFFIXES, expected_tensors, optional_tensors

JSON_BYTES_MAX = 16 << 20
"""The longest config.json or shard index that is read."""

HEADER_BYTES_MAX = 64 << 20
"""The longest safetensors header that is read; that of a model with 1,000 tensors has about 100 kB."""

SHARDS_MAX = 1000

DTYPE_BYTES = {"BF16": 2, "F16": 2, "F32": 4}

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
EXECUTABLE_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


@dataclass(frozen=True, slots=True)
class TensorEntry:
    file: Path
    dtype: str
    shape: tuple[int, ...]


def read_json(path: Path) -> dict[str, object]:
    """A small JSON file with an object in it. Raises ``ModelError``."""
    try:
        size = path.stat().st_size
        if size > JSON_BYTES_MAX:
            raise ModelError(f"{path}: {size} bytes, more than the {JSON_BYTES_MAX} that are read")
        value = json.loads(path.read_bytes())
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path}: not valid JSON ({error})") from error
    if not isinstance(value, dict):
        raise ModelError(f"{path}: must hold a JSON object")
    return value


def weight_files(directory: Path) -> tuple[Path, ...]:
    """The safetensors files of a checkpoint, in order of name. Raises ``ModelError`` if there are none."""
    if (directory / SINGLE).exists():
        return (directory / SINGLE,)
    if (directory / INDEX).exists():
        names = _shard_names(directory / INDEX)
        missing = [name for name in names if not (directory / name).exists()]
        if missing:
            raise ModelError(f"{directory / INDEX}: shard {missing[0]} is not there ({len(missing)} missing)")
        return tuple(directory / name for name in names)
    executable = sorted(path.name for path in directory.iterdir() if path.suffix in EXECUTABLE_SUFFIXES)
    if executable:
        raise ModelError(
            f"{directory}: holds {executable[0]} but no safetensors; pickled weights can run code and are never loaded"
        )
    raise ModelError(f"{directory}: no {SINGLE} and no {INDEX}")


def read_tensors(directory: Path, config: ModelConfig) -> dict[str, TensorEntry]:
    """The tensors that ``config`` asks for and where they lie. Raises ``ModelError`` unless all is as expected."""
    found: dict[str, TensorEntry] = {}
    for path in weight_files(directory):
        for name, entry in _read_header(path).items():
            if name in found:
                raise ModelError(f"{path}: tensor {name} is in {found[name].file.name} too")
            found[name] = entry
    expected = expected_tensors(config)
    missing = [name for name in expected if name not in found]
    if missing:
        raise ModelError(f"{directory}: tensor {missing[0]} is missing ({len(missing)} of {len(expected)} are)")
    for name, shape in expected.items():
        if found[name].shape != shape:
            entry = found[name]
            raise ModelError(
                f"{entry.file}: tensor {name} has shape {list(entry.shape)}, config.json says {list(shape)}"
            )
    spare = optional_tensors(config)
    extra = [name for name in found if name not in expected and name not in spare and not _is_ignored(name)]
    if extra:
        raise ModelError(f"{found[extra[0]].file}: tensor {extra[0]} is not part of a {config.family} model")
    return {name: found[name] for name in expected}


def _is_ignored(name: str) -> bool:
    return name.endswith(IGNORED_SUFFIXES)


def _shard_names(index: Path) -> list[str]:
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, Mapping) or not all(isinstance(name, str) for name in weight_map.values()):
        raise ModelError(f"{index}: weight_map must map tensor names to file names")
    names = sorted(set(weight_map.values()))
    for name in names:
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise ModelError(f"{index}: {name!r} is not the name of a safetensors file beside it")
    if not 1 <= len(names) <= SHARDS_MAX:
        raise ModelError(f"{index}: {len(names)} shards, must be 1 to {SHARDS_MAX}")
    return names


def _read_header(path: Path) -> dict[str, TensorEntry]:
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or length > size - 8:
                raise ModelError(
                    f"{path}: the safetensors header is longer than the file, which is cut off or no such file"
                )
            if length > HEADER_BYTES_MAX:
                raise ModelError(f"{path}: safetensors header of {length} bytes, limit {HEADER_BYTES_MAX}")
            header = json.loads(file.read(length))
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path}: the safetensors header is not valid JSON") from error
    if not isinstance(header, dict):
        raise ModelError(f"{path}: the safetensors header is not a JSON object")
    data_bytes = size - 8 - length
    return {name: _entry(path, name, value, data_bytes) for name, value in header.items() if name != "__metadata__"}


def _entry(path: Path, name: str, value: object, data_bytes: int) -> TensorEntry:
    """One tensor's line of the header, checked against the bytes that are there."""
    if not isinstance(value, dict):
        raise ModelError(f"{path}: tensor {name}: malformed safetensors header")
    dtype, shape, offsets = value.get("dtype"), value.get("shape"), value.get("data_offsets")
    if not (_is_sizes(shape) and _is_sizes(offsets) and len(offsets) == 2 and isinstance(dtype, str)):
        raise ModelError(f"{path}: tensor {name}: malformed safetensors header")
    if _is_ignored(name):
        return TensorEntry(path, dtype, tuple(shape))
    if dtype not in DTYPE_BYTES:
        raise ModelError(f"{path}: tensor {name} has dtype {dtype!r} (supported: {', '.join(DTYPE_BYTES)})")
    begin, end = offsets
    if not (begin <= end <= data_bytes and end - begin == math.prod(shape) * DTYPE_BYTES[dtype]):
        raise ModelError(f"{path}: tensor {name}: its byte range does not fit its shape and the file")
    return TensorEntry(path, dtype, tuple(shape))


def _is_sizes(value: object) -> TypeGuard[list[int]]:
    return isinstance(value, list) and all(type(item) is int and item >= 0 for item in value)
