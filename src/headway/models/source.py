"""Which model: from the argument a person types to a checkpoint that has been looked over, before a weight is read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from headway.models.checkpoint import read_json, read_tensors, weight_files
from headway.models.config import ModelConfig, parse_config
from headway.models.errors import ModelError
from headway.models.hub import ALLOWED, REPOSITORY_ID, Progress, cache_root, download
from headway.models.shapes import shape_config

BUNDLED_NAME = "headway-demo"
BUNDLED_DIRECTORY = Path(__file__).parent / "bundled"
RANDOM_PREFIX = "random:"


@dataclass(frozen=True, slots=True)
class ModelSource:
    """A model that can be loaded: a directory, or a shape to be filled with random weights.

    ``path`` holds config.json, safetensors and tokenizer; it is None exactly when ``random_shape`` is not.
    """

    name: str
    path: Path | None
    config: ModelConfig
    description: str
    random_shape: str | None = None


def resolve(argument: str | None, *, progress: Progress | None = None) -> ModelSource:
    """The model behind an argument: None is the bundled one, else ``random:SHAPE``, a directory, or a hub id.

    Raises ``ModelError``, one clear line, for everything that would make loading fail.
    """
    if argument is None:
        return _from_directory(BUNDLED_NAME, BUNDLED_DIRECTORY, BUNDLED_DIRECTORY)
    if argument.startswith(RANDOM_PREFIX):
        shape = argument.removeprefix(RANDOM_PREFIX)
        config = shape_config(shape)
        return ModelSource(argument, None, config, f"{shape} shape, random weights, {_size(config)}", shape)
    path = Path(argument).expanduser()
    if path.is_dir():
        return _from_directory(path.resolve().name, path, path)
    if path.exists():
        raise ModelError(f"{argument}: is a file; give the directory that holds config.json and the safetensors")
    if argument.startswith(("/", "./", "../", "~")) or not REPOSITORY_ID.fullmatch(argument):
        raise ModelError(f"{argument}: no such directory (and not a hub id of the form owner/name)")
    snapshot = download(argument, progress)
    return _from_directory(argument, snapshot, cache_root(snapshot))


def _from_directory(name: str, path: Path, root: Path) -> ModelSource:
    """``root`` is the folder that no file of the model may lie outside of, links followed."""
    if not (path / "config.json").exists():
        raise ModelError(f"{path}: no config.json")
    _refuse_escapes([path / name for name in ALLOWED if (path / name).is_file()], root)
    config = parse_config(read_json(path / "config.json"))
    _refuse_escapes(weight_files(path), root)
    read_tensors(path, config)
    return ModelSource(name, path, config, f"{config.family}, {_size(config)}")


def _refuse_escapes(files: list[Path] | tuple[Path, ...], root: Path) -> None:
    inside = root.resolve()
    for file in files:
        target = file.resolve()
        if not target.is_relative_to(inside):
            raise ModelError(f"{file}: is a link to {target}, which lies outside {inside}")


def _size(config: ModelConfig) -> str:
    count = config.parameters
    for unit, size in (("B", 1e9), ("M", 1e6)):
        if count >= size:
            return f"{count / size:.3g}{unit} parameters"
    return f"{count} parameters"
