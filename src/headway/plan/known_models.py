"""The models that are known by name, and all others that a file describes."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from pathlib import Path

import msgspec

from headway.models.config import ModelConfig
from headway.models.errors import ModelError
from headway.models.shapes import SHAPES, shape_config
from headway.models.source import BUNDLED_DIRECTORY, BUNDLED_NAME, RANDOM_PREFIX
from headway.plan.errors import PlanError
from headway.plan.model import ModelShape
from headway.plan.model_config import read_model
from headway.plan.names import near, squeezed

BUNDLED = "bundled"
CONFIG = "config.json"
NAME_MAX = 80
BYTES_MAX = 1 << 22
"""No config.json is longer."""

_STORED_AS = ("fp8", "fp4", "nvfp4", "mxfp4", "bf16", "fp16", "int4", "int8", "w8a8", "w4a16", "awq", "gptq", "dynamic")
_TRAINED_FOR = ("instruct", "instruct2", "chat", "it", "base")
_SAME_SHAPE = frozenset({*_STORED_AS, *_TRAINED_FOR, "meta", "hf"})
"""Words of a name that say how a model was trained on or stored, not what its matrices are."""

_RELEASE = re.compile(r"2[3-9](0[1-9]|1[0-2])")
"""Year and month at the end of a name."""


@dataclass(frozen=True, slots=True)
class KnownModel:
    """``published``: parameters in billions as its makers state them; ``active``: those that a token passes."""

    shape: ModelShape
    aliases: tuple[str, ...]
    published: float
    active: float | None


class _Record(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    source: str
    published_b: float
    config: dict[str, object]
    active_b: float | None = None
    aliases: list[str] = []


class _File(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    models: dict[str, _Record]


@cache
def known_models() -> Mapping[str, KnownModel]:
    """By name, as shipped."""
    text = files("headway.plan").joinpath("data/models.toml").read_text(encoding="utf-8")
    records = msgspec.convert(tomllib.loads(text), _File).models
    return {
        name: KnownModel(
            shape=replace(read_model(record.config, name), source=record.source),
            aliases=tuple(record.aliases),
            published=record.published_b,
            active=record.active_b,
        )
        for name, record in records.items()
    }


def find_model(name: str) -> ModelShape:
    """A directory that holds config.json, or such a file; "bundled"; "random:SHAPE"; or a known name, with or without
    the organisation, in any case and punctuation. Raises ``PlanError`` with near misses."""
    if name == BUNDLED:
        return replace(_from_file(BUNDLED_DIRECTORY / CONFIG, BUNDLED_NAME), name=BUNDLED)
    if name.startswith(RANDOM_PREFIX):
        return _random(name)
    path = _config_at(name)
    if path is not None:
        folder = path.resolve().parent.name
        return _from_file(path, folder if path.name == CONFIG else path.stem)
    known = _by_spelling().get(spelling(name))
    if known is not None:
        return known.shape
    meant = near(spelling(name), known_models())
    hint = f"did you mean {', '.join(meant)}? Else" if meant else "`headway plan models` lists them;"
    raise PlanError(
        f"{name[:NAME_MAX]!r} is no known model, nor a directory with a config.json; {hint} give its config.json"
    )


def spelling(name: str) -> str:
    """What the spellings of one model's name share: no organisation, no words that leave its matrices as they are."""
    words = re.split(r"[-_ /]+", name.strip().lower().rsplit("/", 1)[-1])
    kept = [word for word in words if word not in _SAME_SHAPE and not _RELEASE.fullmatch(word)]
    return squeezed("".join(kept or words))


@cache
def _by_spelling() -> Mapping[str, KnownModel]:
    return {spelling(each): known for name, known in known_models().items() for each in (name, *known.aliases)}


def _random(name: str) -> ModelShape:
    try:
        return from_engine(shape_config(name.removeprefix(RANDOM_PREFIX)), name)
    except ModelError:
        raise PlanError(f"{name}: unknown shape (known: {', '.join(SHAPES)})") from None


def from_engine(config: ModelConfig, name: str) -> ModelShape:
    """The arithmetic of a model that the built-in engine runs."""
    seen = [window for window in config.windows if window is not None and window < config.context_tokens]
    return ModelShape(
        name=name,
        layers=config.layers,
        hidden=config.hidden_size,
        heads=config.heads,
        kv_heads=config.kv_heads,
        head_dim=config.head_dim,
        ffn=config.intermediate_size,
        ffn_matrices=3,
        vocab=config.vocab_size,
        tied=config.tied_embeddings,
        context_tokens=config.context_tokens,
        windows=tuple((seen.count(window), window) for window in sorted(set(seen))),
        source="the built-in engine's shapes",
    )


def _config_at(name: str) -> Path | None:
    """The file that a path names or holds; None where there is none."""
    try:
        path = Path(name).expanduser()
        inside = path / CONFIG
        return inside if inside.is_file() else path if path.is_file() else None
    except (OSError, ValueError, RuntimeError):  # no name of a file: too long, a null byte, an unknown user
        return None


def _from_file(path: Path, name: str) -> ModelShape:
    try:
        size, content = path.stat().st_size, b""
        if size <= BYTES_MAX:
            content = path.read_bytes()
    except OSError as error:
        raise PlanError(f"{path}: {error.strerror or error}") from None
    if size > BYTES_MAX:
        raise PlanError(f"{path}: longer than {BYTES_MAX} bytes, which no config.json is")
    try:
        values = json.loads(content)
    except (ValueError, RecursionError):
        raise PlanError(f"{path}: no JSON; the model's config.json was expected") from None
    if not isinstance(values, Mapping):
        raise PlanError(f"{path}: not a JSON object; the model's config.json was expected")
    return replace(read_model(values, name), source=str(path))
