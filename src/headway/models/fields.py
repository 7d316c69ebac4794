"""Typed reading of a parsed JSON object: a wrong type or an absurd number becomes one clear line."""

from __future__ import annotations

import math
from collections.abc import Mapping

from headway.models.errors import ModelError

INTEGER_MAX = 1 << 31
"""No count, size or id in a model's configuration is larger."""


class Fields:
    """A JSON object and where it came from. A field that is null counts as absent."""

    def __init__(self, values: Mapping[str, object], where: str) -> None:
        self._values = values
        self._where = where

    def section(self, name: str) -> Fields:
        """A nested object; empty when absent."""
        value = self._values.get(name)
        if value is None:
            return Fields({}, f"{name} in {self._where}")
        if not isinstance(value, Mapping):
            raise self._wrong(name, "an object", value)
        return Fields(value, f"{name} in {self._where}")

    def integer(self, name: str, default: int | None = None, *, least: int = 1) -> int:
        value = self._values.get(name)
        if value is None:
            value = default
        if value is None:
            raise ModelError(f"{self._where}: {name} is missing")
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= INTEGER_MAX:
            raise self._wrong(name, f"an integer from {least} to {INTEGER_MAX}", value)
        return value

    def optional_integer(self, name: str) -> int | None:
        return None if self._values.get(name) is None else self.integer(name)

    def number(self, name: str, default: float | None = None, *, above: float = -math.inf) -> float:
        value = self._values.get(name)
        if value is None:
            value = default
        if value is None:
            raise ModelError(f"{self._where}: {name} is missing")
        if isinstance(value, bool) or not isinstance(value, int | float) or not above < value < math.inf:
            raise self._wrong(name, "a finite number" if above == -math.inf else f"a number above {above:g}", value)
        return float(value)

    def optional_number(self, name: str) -> float | None:
        return None if self._values.get(name) is None else self.number(name)

    def flag(self, name: str, default: bool) -> bool:
        value = self._values.get(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self._wrong(name, "true or false", value)
        return value

    def text(self, name: str, default: str | None = None) -> str:
        value = self._values.get(name)
        if value is None:
            value = default
        if value is None:
            raise ModelError(f"{self._where}: {name} is missing")
        if not isinstance(value, str):
            raise self._wrong(name, "a string", value)
        return value

    def integers(self, name: str) -> tuple[int, ...]:
        """One integer or a list of them; empty when absent."""
        value = self._values.get(name)
        items = [] if value is None else value if isinstance(value, list) else [value]
        if not all(isinstance(item, int) and not isinstance(item, bool) and 0 <= item <= INTEGER_MAX for item in items):
            raise self._wrong(name, "an id or a list of ids", value)
        return tuple(items)

    def texts(self, name: str) -> tuple[str, ...] | None:
        value = self._values.get(name)
        if value is None:
            return None
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self._wrong(name, "a list of strings", value)
        return tuple(value)

    def _wrong(self, name: str, wanted: str, value: object) -> ModelError:
        return ModelError(f"{self._where}: {name} must be {wanted}, not {str(value)[:60]!r}")
