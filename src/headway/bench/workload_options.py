"""How a workload is written: ``NAME``, ``NAME:key=value,...``, ``NAME:FILE,key=value,...``."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from headway.bench.lengths import Distribution, parse_distribution
from headway.bench.workload_interface import SCALE_MAX, SCALE_MIN, TOKENS_MAX, WorkloadError
from headway.policy.slo import ServiceClasses

SPEC_CHARACTERS_MAX = 4096
CLASS_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,31}")
NO_TIER = "none"
"""Where the field is not to be sent."""
_KEY = r"[A-Za-z_][\w.-]*="


@dataclass(slots=True)
class Options:
    """The keys and values of one workload. Each is taken once, with its limits; ``finish`` refuses what is left."""

    name: str
    """In messages."""
    file: str | None
    given: Mapping[str, str]
    known: dict[str, None] = field(default_factory=dict)

    def word(self, key: str) -> str | None:
        self.known[key] = None
        return self.given.get(key)

    def distribution(
        self, key: str, default: Distribution, *, least: float = 1, most: float = TOKENS_MAX
    ) -> Distribution:
        text = self.word(key)
        if text is None:
            return default
        try:
            return parse_distribution(text, least=least, most=most)
        except ValueError as error:
            raise WorkloadError(f"{self.name}: {key}: {error}") from None

    def number(self, key: str, default: float, *, least: float, most: float) -> float:
        text = self.word(key)
        if text is None:
            return default
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not least <= value <= most:
            raise WorkloadError(f"{self.name}: {key} must be a number from {least:g} to {most:,.10g}, not {text!r}")
        return value

    def integer(self, key: str, default: int, *, least: int, most: int) -> int:
        value = self.number(key, default, least=least, most=most)
        if value != int(value):
            raise WorkloadError(f"{self.name}: {key} must be a whole number from {least} to {most:,}, not {value:g}")
        return int(value)

    def flag(self, key: str, default: bool) -> bool:
        text = self.word(key)
        if text not in (None, "yes", "no"):
            raise WorkloadError(f"{self.name}: {key} must be yes or no, not {text!r}")
        return default if text is None else text == "yes"

    def service_class(self) -> str:
        name = self.word("class")
        if name is not None and not CLASS_NAME.fullmatch(name):
            raise WorkloadError(f"{self.name}: a class is named by a short word, not {name!r}")
        return name or ""

    def tier(self, service_class: str) -> str | None:
        """That of the class unless it is said."""
        tier = self.word("tier")
        return tier_of(service_class) if tier is None else None if tier == NO_TIER else tier

    def path(self) -> Path:
        if not self.file:
            raise WorkloadError(f"{self.name} needs a file: {self.name}:FILE")
        return Path(self.file).expanduser()

    def scale(self) -> float:
        return self.number("scale", 1.0, least=SCALE_MIN, most=SCALE_MAX)

    def finish(self, *, takes_file: bool = False) -> None:
        for key in self.given:
            if key not in self.known:
                raise WorkloadError(f"{self.name} has no option {key}; there are {', '.join(self.known)}")
        if self.file and not takes_file:
            raise WorkloadError(f"{self.name}: {self.file!r} is no option; write key=value, of {', '.join(self.known)}")


def tier_of(service_class: str) -> str | None:
    """The ``service_tier`` that asks for a class; None for no class."""
    known = ServiceClasses()
    return known.tier_of(service_class) if service_class in known else service_class or None


def split_spec(spec: str) -> Options:
    """The parts of what was written. Raises ``WorkloadError``."""
    if len(spec) > SPEC_CHARACTERS_MAX:
        raise WorkloadError(f"a workload is written in {SPEC_CHARACTERS_MAX} characters at most, not {len(spec)}")
    name, _, rest = spec.strip().partition(":")
    parts = re.split(rf",(?=\s*{_KEY})", rest) if rest else []
    file = None
    if parts and not re.match(rf"\s*{_KEY}", parts[0]):
        file = parts.pop(0)
    given: dict[str, str] = {}
    for part in parts:
        key, _, value = part.strip().partition("=")
        if key in given:
            raise WorkloadError(f"{name}: {key} is given twice")
        if not value:
            raise WorkloadError(f"{name}: {key} has no value")
        given[key] = value
    return Options(name, file, given)
