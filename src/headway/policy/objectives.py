"""Objectives as people write them: parts of a promise in milliseconds, and service classes from a configuration.

Whoever reads them (a header, a flag, a table of the configuration file, the admin endpoint) gets the same names, the
same limits and the same words for what is wrong.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from headway.policy.slo import BATCH, CONVERSATIONAL, INTERACTIVE, Objective, ServiceClass, ServiceClasses

PARTS = ("ttft", "itl", "e2e")
"""What can be promised: the first token, the gaps between tokens, the whole."""
MS_MIN, MS_MAX = 1, 86_400_000
NOTHING = "none"
"""How a configuration says that a part is not promised."""
AUTO = "auto"
"""The tier of requests that name none."""
BUILT_IN = (CONVERSATIONAL, INTERACTIVE, BATCH)
_KEYS = (*(f"{part}_ms" for part in PARTS), "tiers", "weight")
_TIERS_MAX = 8


def with_parts(objective: Objective, parts_ms: Mapping[str, float | None]) -> Objective:
    """The objective with some of its parts replaced; None: not promised. Raises ValueError for a part out of range."""
    for part, value in parts_ms.items():
        if value is not None and not MS_MIN <= value <= MS_MAX:
            raise ValueError(f"{part} must be between {MS_MIN} and {MS_MAX} ms, not {value:g}")
    changes = {f"{part}_s": None if value is None else value / 1000 for part, value in parts_ms.items()}
    return dataclasses.replace(objective, **changes)


def parts_ms(objective: Objective) -> dict[str, float | None]:
    """The objective's parts in milliseconds, as ``with_parts`` takes them."""
    seconds = {part: getattr(objective, f"{part}_s") for part in PARTS}
    return {part: None if value is None else round(1000 * value, 6) for part, value in seconds.items()}


def read_classes(tables: Mapping[str, Any], changes: Iterable[str] = ()) -> ServiceClasses:
    """The service classes of a server: the built-in ones, with what the operator says of them and of others.

    ``tables`` are the tables ``[classes.NAME]`` of the configuration file; ``changes`` are written
    ``NAME:ttft=300,itl=100,e2e=2000`` and come after. What is not named stays as it is. A tier that a table claims
    is taken from the built-in class that had it. Raises ValueError, in one line, for whatever can't be meant.
    """
    if not isinstance(tables, Mapping):
        raise ValueError(f"[classes] must hold one table for each class, not {tables!r}")
    classes = {each.name: each for each in BUILT_IN}
    for name, table in tables.items():
        classes[name] = _read_table(name, table, classes.get(name))
    claimed = {tier for table in tables.values() for tier in table.get("tiers", ())}
    for name, each in classes.items():
        if "tiers" not in tables.get(name, {}):
            classes[name] = dataclasses.replace(each, tiers=tuple(tier for tier in each.tiers if tier not in claimed))
    for change in changes:
        name, parts = _read_change(change, classes)
        classes[name] = _with_objective(classes[name], parts)
    result = ServiceClasses(classes.values())
    if AUTO not in result.tiers:
        raise ValueError(f"no service class has the tier {AUTO!r}, which is for requests that name none")
    return result


def _read_table(name: str, table: Any, old: ServiceClass | None) -> ServiceClass:
    where = f"[classes.{name}]"
    if not isinstance(table, Mapping):
        raise ValueError(f"{where} must be a table, not {table!r}")
    for key in table:
        if key not in _KEYS:
            raise ValueError(f"{where} has an unknown key {key!r}; known are {', '.join(_KEYS)}")
    result = old or ServiceClass(name=name)
    if "tiers" in table:
        result = dataclasses.replace(result, tiers=_read_tiers(where, table["tiers"]))
    if "weight" in table:
        result = dataclasses.replace(result, weight=_number(f"{where}: weight", table["weight"]))
    given = {part: table[f"{part}_ms"] for part in PARTS if f"{part}_ms" in table}
    return _with_objective(result, {part: _part(f"{where}: {part}_ms", value) for part, value in given.items()})


def _read_tiers(where: str, value: Any) -> tuple[str, ...]:
    words = isinstance(value, list) and all(isinstance(each, str) and 1 <= len(each) <= 32 for each in value)
    if not words or not 1 <= len(value) <= _TIERS_MAX:
        raise ValueError(f"{where}: tiers must be a list of 1 to {_TIERS_MAX} short words, not {value!r}")
    return tuple(value)


def _read_change(text: str, classes: Mapping[str, ServiceClass]) -> tuple[str, dict[str, float | None]]:
    name, _, listed = text.partition(":")
    if name not in classes:
        raise ValueError(f"--slo {text}: there is no service class {name!r}; there are {', '.join(classes)}")
    parts: dict[str, float | None] = {}
    for each in listed.split(","):
        part, equals, value = each.strip().partition("=")
        if part not in PARTS or not equals or part in parts:
            raise ValueError(f"--slo {text}: write NAME:ttft=300,itl=100,e2e=2000 (milliseconds), each part once")
        parts[part] = _part(f"--slo {text}: {part}", value)
    return name, parts


def _part(what: str, value: Any) -> float | None:
    if value == NOTHING:
        return None
    try:
        return float(value) if isinstance(value, str) else _number(what, value)
    except ValueError:
        raise ValueError(f"{what} must be a number of milliseconds or {NOTHING!r}, not {value!r}") from None


def _number(what: str, value: Any) -> float:
    if type(value) not in (int, float):
        raise ValueError(f"{what} must be a number, not {value!r}")
    return float(value)


def _with_objective(service_class: ServiceClass, parts: Mapping[str, float | None]) -> ServiceClass:
    try:
        return dataclasses.replace(service_class, objective=with_parts(service_class.objective, parts))
    except ValueError as error:
        raise ValueError(f"class {service_class.name}: {error}") from None
