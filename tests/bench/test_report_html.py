"""The page of a run: whole whatever the run, loads nothing, and no text of others is markup in it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest

from headway.bench.figures import Run
from headway.bench.loads import ClosedLoop, OpenLoop
from headway.bench.record import Record
from headway.bench.report.html import page
from headway.bench.report.sections import Axis, Cell, Chart, Code, Fold, Item, Paragraph, Section, Series, Table
from tests.bench.fake_runs import KINDS, FakeServer, fake_run, level_of, run_of

VOID_ELEMENTS = {"meta", "br", "hr", "img", "input", "link"}
HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'&{{7*7}}\u2028<!--"
SECTIONS_MOST = [
    "Where the limit is",
    "The tails",
    "Where the time goes",
    "Over time",
    "All figures",
    "How it was measured",
]


class Parsed(HTMLParser):
    """Elements and texts; fails where an element isn't closed in its place."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID_ELEMENTS:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open, tag
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.texts.append((self._open[-1] if self._open else "", data))

    def all_of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def text_in(self, tag: str) -> list[str]:
        return [text for name, text in self.texts if name == tag]

    def charts(self) -> list[dict[str, object]]:
        found = next(text for name, text in self.texts if name == "script")
        charts = json.loads(found)
        assert isinstance(charts, list)
        return charts


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("with_records", [True, False])
def test_every_run_has_a_whole_page(kind: str, with_records: bool) -> None:
    run, records = fake_run(kind)
    parsed = Parsed(page(run, records if with_records else None))
    charts = parsed.charts()
    assert [figure["data-chart"] for figure in parsed.all_of("figure")] == [
        str(number) for number in range(len(charts))
    ]
    assert len(parsed.all_of("script")) == 3
    assert "How it was measured" in parsed.text_in("h2")
    assert len([button for button in parsed.all_of("button") if "data-csv" in button]) == len(charts)
    for chart in charts:
        check_chart(chart)


def check_chart(chart: dict[str, object]) -> None:
    x_values, series = chart["x_values"], chart.get("series", [])
    assert isinstance(x_values, list)
    assert isinstance(series, list)
    assert x_values == sorted(x_values)
    assert series or chart.get("rows")
    for each in series:
        for name in ("values", "low", "high", "names"):
            assert len(each.get(name, x_values)) == len(x_values), (chart["title"], name)


def test_a_full_run_has_every_section_and_chart() -> None:
    run, records = fake_run("open")
    parsed = Parsed(page(run, records))
    assert [text for text in parsed.text_in("h2") if text in SECTIONS_MOST] == SECTIONS_MOST
    titles = [str(chart["title"]) for chart in parsed.charts()]
    assert titles[:6] == [
        "p95 TTFT against throughput",
        "p95 ITL against throughput",
        "Goodput",
        "Attainment",
        "Tail of TTFT",
        "Tail of ITL",
    ]
    for title in ("p95 TTFT", "Batch and queue (headway's own numbers)", "Single requests"):
        assert titles.count(title) == len(run.levels)
    assert "Client: how late requests were sent" in titles
    assert "intended send time to the first token (content, reasoning or tool call)" in parsed.text_in("small")


def test_nothing_is_loaded() -> None:
    run, records = fake_run("closed")
    text = page(run, records)
    for tag, attributes in Parsed(text).elements:
        assert not {"src", "href", "srcset", "action", "background", "poster", "data"} & set(attributes), tag
        assert tag not in ("link", "iframe", "img", "object", "embed", "base", "form")
    assert not re.search(r"@import|url\(|\bfetch\(|XMLHttpRequest|WebSocket|import\(", text)
    assert "default-src 'none'" in text


def hostile(run: Run, records: dict[int, list[Record]]) -> None:
    """Put markup wherever a text comes from somebody else."""
    run.id = run.started_at = run.command = run.note = HOSTILE
    run.target = dict.fromkeys([*run.target, HOSTILE], HOSTILE)
    run.workload = run.machine = {HOSTILE: {HOSTILE: [HOSTILE]}}
    run.versions = run.definitions = {HOSTILE: HOSTILE, "ttft": HOSTILE}
    for level in run.levels:
        level.name, level.state, level.reason, level.warnings = HOSTILE, HOSTILE, HOSTILE, [HOSTILE]
        level.load = {HOSTILE: HOSTILE}
        level.client.bound = HOSTILE if level is run.levels[-1] else None
        assert level.scraped is not None
        level.scraped.engine = HOSTILE
        for figures in level.classes[1:]:
            figures.name = HOSTILE
            figures.misses = {HOSTILE: 3}
    for each in (each for of_level in records.values() for each in of_level):
        each.service_class, each.error, each.code = HOSTILE, HOSTILE, HOSTILE


def test_no_text_of_others_is_markup() -> None:
    run, records = fake_run("classes")
    hostile(run, records)
    cell = Cell(HOSTILE, "kept", HOSTILE)
    chart = Chart(
        title=HOSTILE,
        x=Axis(label=HOSTILE),
        y=Axis(label=HOSTILE),
        x_values=[1.0],
        series=[Series(label=HOSTILE, values=[1.0], names=[HOSTILE])],
        note=HOSTILE,
    )
    table = Table(columns=(HOSTILE, cell), rows=[[HOSTILE, cell]], caption=HOSTILE, note=HOSTILE)
    items: list[Item] = [
        Paragraph(HOSTILE),
        table,
        Code(title=HOSTILE, text=HOSTILE),
        chart,
        Fold(title=HOSTILE, items=[table]),
    ]
    text = page(run, records, baseline=run, extra=[Section(HOSTILE, items, HOSTILE)])
    parsed = Parsed(text)
    assert len(parsed.all_of("script")) == 3
    assert parsed.all_of("img") == []
    assert not any(name.startswith("on") for _, attributes in parsed.elements for name in attributes)
    assert "<img src=x" not in text
    assert HOSTILE in parsed.text_in("code")
    assert parsed.charts()[0]["title"] == HOSTILE


def test_the_page_is_bounded() -> None:
    """Many levels, and a long one: points, rows and curves are thinned, not the figures."""
    many = [level_of(FakeServer(), OpenLoop(rate=4.0, seconds=5.0), seed) for seed in range(40)]
    long = level_of(FakeServer(slots=64), OpenLoop(rate=2.0, seconds=500.0), 1)
    run, records = run_of("many", [*many, long])
    text = page(run, records)
    assert len(text.encode()) < 2_000_000
    for chart in Parsed(text).charts():
        x_values, rows = chart["x_values"], chart.get("rows", [])
        assert isinstance(x_values, list)
        assert isinstance(rows, list)
        assert len(x_values) <= 400
        assert len(rows) <= 120


def test_a_baseline_is_drawn_behind() -> None:
    run, records = fake_run("closed")
    charts = Parsed(page(run, records, baseline=fake_run("closed", seconds=12.0)[0])).charts()
    series = charts[0]["series"]
    assert isinstance(series, list)
    assert [each["label"] for each in series] == ["this run", "baseline"]
    assert len(series[0]["order"]) == len(run.levels)


def test_sections_of_others_come_after_the_verdict() -> None:
    run, records = fake_run("single")
    probe = Table(columns=("probe", "verdict"), rows=[["batch 1", Cell("kept", "kept")]], caption="Probes")
    extra = [Section("The search", [probe, Code(title="vLLM", text="vllm serve --max-num-seqs 16")])]
    parsed = Parsed(page(run, records, extra=extra))
    headings = parsed.text_in("h2")
    assert headings.index("The search") < headings.index("The tails")
    assert parsed.text_in("code") == ["vllm serve --max-num-seqs 16"]


def test_the_star_is_at_the_level_chosen() -> None:
    run, records = fake_run("open", seconds=60.0)
    chart = Parsed(page(run, records)).charts()[0]
    series = chart["series"]
    assert isinstance(series, list)
    assert series[0]["names"][series[0]["star"]] == "4/s"


@pytest.mark.skipif(shutil.which("node") is None, reason="no node here")
def test_our_script_is_one() -> None:
    script = Path("src/headway/bench/report/assets/report.js")
    subprocess.run(["node", "--check", str(script)], check=True, capture_output=True, timeout=60)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="no chromium here")
@pytest.mark.parametrize("kind", ["classes", "empty", "none-good"])
def test_a_browser_draws_it(kind: str, tmp_path: Path) -> None:
    run, records = fake_run(kind)
    file = tmp_path / "report.html"
    file.write_text(page(run, records), encoding="utf-8")
    flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--virtual-time-budget=2000"]
    command = ["chromium", *flags, f"--user-data-dir={tmp_path}/profile", "--dump-dom", file.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=True)
    assert 'data-ready="true"' in done.stdout
    assert "CONSOLE" not in done.stderr
    if kind != "empty":
        assert done.stdout.count("<canvas") >= 3


def test_open_and_closed_loops_are_not_joined() -> None:
    """A search has both, and its levels come in no order of load."""
    closed = [level_of(FakeServer(), ClosedLoop(concurrency=at_once, seconds=10.0), 1) for at_once in (1, 8, 2)]
    run, records = run_of("both", [*closed, *(level_of(FakeServer(), OpenLoop(rate=2.0, seconds=10.0), 1),) * 2])
    series = Parsed(page(run, records, chosen=2)).charts()[0]["series"]
    assert isinstance(series, list)
    assert [each["label"] for each in series] == ["this run, open loop", "this run, closed loop"]
    assert [series[1]["names"][index] for index in series[1]["order"]] == ["1", "2", "8"]
    assert series[1]["names"][series[1]["star"]] == "2"


def test_the_licence_of_what_is_in_the_page_is_in_it() -> None:
    assert "Copyright (c) 2022 Leon Sorokin" in page(*fake_run("empty"))
