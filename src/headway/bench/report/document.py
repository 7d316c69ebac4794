"""One page for a browser: everything is in the file, nothing is loaded, no text of others is markup.

Texts are escaped by the template, data goes in as JSON that can't end its element, and the page's own policy lets no
script run but ours.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources

import msgspec
from jinja2 import Environment, PackageLoader, StrictUndefined

from headway.bench.report.sections import Chart, Item, Section, Tone

_MARKS = {"kept": "✓", "missed": "✕", "undecided": "?", "muted": "•", "": "•"}


@dataclass(frozen=True, slots=True)
class Card:
    name: str
    value: str
    more: str
    tone: Tone = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """``kind``: what Headway has made, in a word. ``headline``: the verdict, coloured by ``tone``. ``source``: what the
    page was made from."""

    kind: str
    made_at: str
    title: str
    headline: str
    sections: Sequence[Section]
    source: str
    note: str = ""
    details: Sequence[str] = ()
    tone: Tone = ""
    cards: Sequence[Card] = ()
    warnings: Sequence[str] = ()

    def html(self) -> str:
        charts = _Charts()
        script, uplot = _asset("report.js"), _asset("uplot/uPlot.iife.min.js")
        environment = Environment(
            loader=PackageLoader("headway.bench.report", "assets"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        body = environment.get_template("report.html.jinja").render(
            page=self,
            mark=_MARKS[self.tone],
            kind_of=_kind_of,
            chart_number=charts.number_of,
            # The template does not escape these: they are our own files.
            styles=_asset("uplot/uPlot.min.css") + _asset("report.css"),
            scripts=[uplot, script],
            license=_asset("uplot/LICENSE"),
            script_hashes=[_hash(uplot), _hash(script)],
            charts_json=charts.json,
        )
        return body + "\n"


class _Charts:
    """Numbers the charts as the template comes to them, and has them as JSON at the end."""

    def __init__(self) -> None:
        self._charts: list[Chart] = []

    def number_of(self, chart: Chart) -> int:
        self._charts.append(chart)
        return len(self._charts) - 1

    def json(self) -> str:
        text = msgspec.json.encode(self._charts).decode()
        for character in "<>&\u2028\u2029":
            text = text.replace(character, f"\\u{ord(character):04x}")
        return text


def _kind_of(item: Item) -> str:
    return type(item).__name__.lower()


def _asset(name: str) -> str:
    return resources.files("headway.bench.report").joinpath("assets", *name.split("/")).read_text(encoding="utf-8")


def _hash(script: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
