"""What a report is made of: sections of paragraphs, tables, code to copy and charts. Plain text throughout: whatever
is in it is escaped where the page is written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec

Unit = Literal["s", "share", "number", "count"]
"""How values are said: seconds (given in seconds, said in ms below one), shares of 1, numbers, whole numbers."""
Color = Literal["a", "b", "c", "d", "e", "f", "muted", "kept", "missed", "undecided"]
COLORS: tuple[Color, ...] = ("a", "b", "c", "d", "e", "f")
Tone = Literal["", "kept", "undecided", "missed", "muted"]


class Axis(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True):
    """``log`` axes show no value of 0 or less; others begin at 0. ``most``: an end that is not left to the values."""

    label: str
    unit: Unit = "number"
    log: bool = False
    most: float | None = None
    least: float | None = None


class Series(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True):
    """One value for each x of the chart; None: no such point.

    ``low`` and ``high``: interval bars; a None of one end alone is an open one. ``names``: written at the points.
    ``order``: indices in the order in which a line joins the points, where that is not x's. ``star``: the index of the
    point chosen. ``place``: 0 to 1 on a scale of colours, for series that have an order, in place of ``color``.
    """

    label: str
    values: list[float | None]
    color: Color = "a"
    place: float | None = None
    style: Literal["line", "points", "thin", "steps"] = "line"
    is_dashed: bool = False
    low: list[float | None] = []
    high: list[float | None] = []
    names: list[str] = []
    order: list[int] = []
    star: int | None = None


class Mark(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True):
    """A line across the chart at a value of ``axis``, such as a target."""

    axis: Literal["x", "y"]
    value: float
    label: str
    color: Color = "missed"


class RasterRow(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True, array_like=True):
    """One request in time: intended, sent, no longer waiting (None: not told), first token, end, all in seconds;
    ``stalls``: starts and ends of long gaps, flat; ``miss``: why it is not in SLO, empty if it is."""

    name: str
    intended_s: float
    sent_s: float
    begun_s: float | None
    first_s: float | None
    end_s: float
    stalls: list[float]
    miss: str


class Chart(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True):
    """``x_values`` ascend. Charts of one ``sync`` share the cursor. ``pass_below``: what is below it is shaded as kept.
    ``dimmed``: ranges of x that do not count. ``note``: one sentence on how to read it. ``rows``: of a raster."""

    title: str
    x: Axis
    y: Axis
    x_values: list[float]
    series: list[Series] = []
    marks: list[Mark] = []
    note: str = ""
    sync: str | None = None
    pass_below: float | None = None
    dimmed: list[tuple[float, float]] = []
    height: int = 300
    is_wide: bool = False
    rows: list[RasterRow] | None = None


@dataclass(frozen=True, slots=True)
class Paragraph:
    text: str
    tone: Tone = ""


@dataclass(frozen=True, slots=True)
class Cell:
    """``bar``: parts of a bar, each a share of its length and a colour; in a heading its colour before the text."""

    text: str
    tone: Tone = ""
    hint: str = ""
    bar: tuple[tuple[float, Color], ...] = ()


Row = Sequence[str | Cell]


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """``text_columns``: how many of the first columns hold words; the others are numbers, set to the right."""

    columns: Sequence[str | Cell]
    rows: Sequence[Row]
    caption: str = ""
    note: str = ""
    text_columns: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """A block with a button that copies it."""

    title: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Fold:
    title: str
    items: Sequence[Item]
    is_open: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One of several is shown; the reader chooses."""

    label: str
    options: Sequence[tuple[str, Sequence[Item]]]
    chosen: int = 0


Item = Paragraph | Table | Code | Chart | Fold | Choice


@dataclass(frozen=True, slots=True)
class Section:
    title: str
    items: Sequence[Item]
    note: str = ""
