"""Reads the fields of one JSON object, each by its type and range; fields that nobody read are refused."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from headway.serve.errors import ApiError, Reason

QUOTED_CHARACTERS_MAX = 64

_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


class Fields:
    """One object of a request. ``path`` is where it is, such as ``messages[2]``; empty at the top.

    A field that is null counts as absent. All methods raise ``ApiError`` (400) that names the field, the limit and
    the value given.
    """

    def __init__(self, values: Mapping[str, Any], path: str = "") -> None:
        self._values = values
        self._path = path
        self._unread = dict.fromkeys(values)

    def at(self, name: str) -> str:
        """The full path of a field."""
        return f"{self._path}.{name}" if self._path else name

    def refuse_null(self, name: str, expected: str) -> None:
        """For a field that may be absent but not null."""
        if name in self._values and self._values[name] is None:
            raise wrong_type(self.at(name), expected, None)

    def take(self, name: str) -> Any:
        """The field as it is; None if it is absent or null."""
        self._unread.pop(name, None)
        return self._values.get(name)

    def number(self, name: str, default: float, low: float, high: float, *, above_low: bool = False) -> float:
        """A number in low .. high; ``above_low`` leaves ``low`` itself out."""
        value = self.take(name)
        if value is None:
            return default
        if type(value) not in (int, float):
            raise wrong_type(self.at(name), "a number", value)
        if not low <= value <= high or (above_low and value == low):
            limits = f"above {low} and at most {high}" if above_low else f"between {low} and {high}"
            raise bad_value(self.at(name), f"must be {limits}", value)
        return float(value)

    def integer(self, name: str, low: int, high: int) -> int | None:
        """A whole number in low .. high."""
        value = self.take(name)
        return None if value is None else integer(value, self.at(name), low, high)

    def flag(self, name: str, default: bool = False) -> bool:
        value = self.take(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise wrong_type(self.at(name), "true or false", value)
        return value

    def text(self, name: str, length: int) -> str | None:
        """A string of 1 .. length characters."""
        value = self.take(name)
        return None if value is None else short_text(value, self.at(name), length)

    def object(self, name: str) -> Fields | None:
        value = self.take(name)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise wrong_type(self.at(name), "an object", value)
        return Fields(value, self.at(name))

    def items(self) -> list[tuple[str, Any]]:
        """All fields, for objects whose keys are data."""
        self._unread.clear()
        return list(self._values.items())

    def __len__(self) -> int:
        return len(self._values)

    def finish(self) -> None:
        """Refuse the first field that was not read."""
        for name in self._unread:
            raise unsupported(self.at(name), "is not a parameter that this server knows")


def integer(value: object, path: str, low: int, high: int) -> int:
    if type(value) is not int:
        raise wrong_type(path, "an integer", value)
    if not low <= value <= high:
        raise bad_value(path, f"must be between {low} and {high}", value)
    return value


def text(value: object, path: str) -> str:
    """A string. Lone surrogates, which JSON can spell but no text can hold, become replacement characters."""
    if not isinstance(value, str):
        raise wrong_type(path, "a string", value)
    return value if value.isascii() else _LONE_SURROGATE.sub("�", value)


def short_text(value: object, path: str, length: int) -> str:
    result = text(value, path)
    if not 1 <= len(result) <= length:
        raise bad_value(path, f"must have between 1 and {length} characters, not {len(result)}")
    return result


def wrong_type(path: str, expected: str, value: object) -> ApiError:
    return ApiError(Reason.INVALID_TYPE, f"'{path}' must be {expected}, not {_describe(value)}.", param=path)


_GIVEN = object()


def bad_value(path: str, rule: str, value: object = _GIVEN) -> ApiError:
    given = "" if value is _GIVEN else f", not {_describe(value)}"
    return ApiError(Reason.INVALID_VALUE, f"'{path}' {rule}{given}.", param=path)


def missing(path: str) -> ApiError:
    return ApiError(Reason.MISSING_PARAMETER, f"'{path}' is required.", param=path)


def unsupported(path: str, problem: str = "is not supported by this server") -> ApiError:
    return ApiError(Reason.UNSUPPORTED_PARAMETER, f"'{path}' {problem}.", param=path)


def _describe(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    if isinstance(value, dict):
        return "an object"
    shown = repr(value)
    return shown if len(shown) <= QUOTED_CHARACTERS_MAX else f"{shown[:QUOTED_CHARACTERS_MAX]}..."
