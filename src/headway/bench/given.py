"""What ``bench`` and ``tune`` are given alike: the groups of their options, a key, a seed, and promises."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from pathlib import Path

from cyclopts import Group

from headway.policy.objectives import read_classes
from headway.policy.slo import Objective

SERVER = Group("Server", sort_key=1)
CALLS = Group("Requests", sort_key=3)
PROMISE = Group("Promise", sort_key=4)
RESULTS = Group("Results", sort_key=5)
"""Of the help. What a command does with a server, its load or its search, comes second."""

KEY_VARIABLE = "OPENAI_API_KEY"
SEEDS = 1_000_000


def key_of(path: Path | None, variable: str = KEY_VARIABLE) -> str | None:
    """From the file, else from the environment; None: there is none. Raises ValueError."""
    try:
        text = os.environ.get(variable, "") if path is None else path.read_text(encoding="utf-8")
    except OSError as error:
        raise ValueError(f"key file {path} can't be read: {error.strerror}") from None
    key = text.strip()
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise ValueError("a key is one line of plain letters, digits and signs, without spaces")
    return key or None


def check_outputs(paths: Mapping[str, Path | None]) -> None:
    """``paths`` by the option that named them. A run may take an hour: what surely can't be written at its end is said
    before it. Raises ValueError."""
    for option, path in paths.items():
        why = _hindrance(path) if path is not None and path != Path("-") else None
        if why:
            raise ValueError(f"{option} {path} can't be written: {why}")


def _hindrance(path: Path) -> str | None:
    try:
        if path.is_dir():
            return "it is a directory; name a file in it"
        if not path.parent.is_dir():
            return f"there is no directory {path.parent}"
        is_replaced = path.is_file() or not path.exists()
    except OSError as error:
        return error.strerror
    return None if not is_replaced or os.access(path.parent, os.W_OK) else f"nothing may be written in {path.parent}"


def seed_of(given: int | None) -> int:
    """Another one each time if none is given: else a server would find the last run's prompts in its cache."""
    return secrets.randbelow(SEEDS) if given is None else given


def objectives_of(name: str, slo: tuple[str, ...], parts_ms: Mapping[str, float | None]) -> Mapping[str, Objective]:
    """What each service class is promised: ``slo`` as in ``serve``, then ``parts_ms`` for the class ``name``.

    Raises ValueError.
    """
    parts = ",".join(f"{part}={value:g}" for part, value in parts_ms.items() if value is not None)
    classes = read_classes({}, (*slo, *((f"{name}:{parts}",) if parts else ())))
    if name not in classes:
        raise ValueError(f"--class {name}: there is no such class; there are {', '.join(classes)}")
    return {each.name: each.objective for each in classes.values()}
