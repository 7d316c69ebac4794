"""From bytes to one JSON object, strictly: what two parsers could read differently is refused.

Refused are: bytes that aren't UTF-8, numbers that aren't finite, keys that come twice, and deep nesting, which is found
without recursion before the parser sees the body. Time and memory are linear in the body's size.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, NoReturn

from headway.serve.bounds import RequestLimits
from headway.serve.errors import ApiError, Reason

_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
_NOT_STRUCTURE = bytes(set(range(256)) - set(b"[]{},"))


def decode_object(body: bytes, limits: RequestLimits) -> dict[str, Any]:
    """The JSON object in ``body``. Raises ``ApiError`` (400)."""
    if _nested_deeper(_brackets(body, limits), limits.nesting):
        raise _invalid(f"its brackets don't match or are nested deeper than {limits.nesting} levels")
    try:
        value = json.loads(
            body.decode("utf-8"), object_pairs_hook=_object, parse_constant=_constant, parse_float=_finite
        )
    except UnicodeDecodeError as error:
        raise _invalid(f"byte {error.start} is not UTF-8") from error
    except json.JSONDecodeError as error:
        raise _invalid(str(error)) from error
    except ValueError as error:  # Python's own bound on the digits of an integer
        raise _invalid("an integer has too many digits") from error
    if not isinstance(value, dict):
        raise _invalid("it must be an object")
    return value


def _brackets(body: bytes, limits: RequestLimits) -> bytes:
    """The brackets outside strings. Other threads get their turn between strings."""
    structure = bytearray()
    start = 0
    for count, string in enumerate(_STRING.finditer(body), 1):
        if count > limits.strings:
            raise _invalid(f"it has more than {limits.strings} strings")
        structure += body[start : string.start()].translate(None, _NOT_STRUCTURE)
        start = string.end()
    structure += body[start:].translate(None, _NOT_STRUCTURE)
    if len(structure) > limits.values:
        raise _invalid(f"it has more than {limits.values} values")
    return bytes(structure.translate(None, b","))


def _nested_deeper(brackets: bytes, nesting: int) -> bool:
    """Whether brackets remain after the innermost pairs were taken away ``nesting`` times."""
    if b"[" * (nesting + 1) in brackets.replace(b"{", b"["):
        return True  # found at once, as the loop is slow when no pair is near
    for _ in range(nesting):
        remaining = brackets.replace(b"[]", b"").replace(b"{}", b"")
        if len(remaining) == len(brackets):
            break
        brackets = remaining
    return bool(brackets)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise _invalid(f"the key {key[:64]!r} comes twice in one object")
            seen.add(key)
    return values


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise _invalid(f"the number {text[:64]} is out of range")
    return value


def _constant(name: str) -> NoReturn:
    raise _invalid(f"{name} is not a number that JSON knows")


def _invalid(problem: str) -> ApiError:
    return ApiError(Reason.INVALID_JSON, f"The request body is not valid JSON: {problem}.")
