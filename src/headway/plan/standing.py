"""How far a prediction can be trusted."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    SUPPORTED = "supported"
    FRAGILE = "fragile"  # a number, in a wide band, with what makes it so
    UNSUPPORTED = "not supported"  # no number


@dataclass(frozen=True, slots=True)
class Band:
    """What is meant to hold 90 % of measured values: from ``low`` times to ``high`` times the prediction."""

    low: float
    high: float
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """``reasons``: why it is not simply supported, one short sentence each. The bands are None where unsupported."""

    level: Level
    reasons: tuple[str, ...] = ()
    tpot: Band | None = None
    throughput: Band | None = None
    ttft: Band | None = None
