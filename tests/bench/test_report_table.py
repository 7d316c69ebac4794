"""The console table fits its console and says all that it must; a spreadsheet has a row for each level and class."""

from __future__ import annotations

import csv
import io

import pytest
from rich.console import Console

from headway.bench.report.csv import COLUMNS, rows
from headway.bench.report.table import print_run
from tests.bench.fake_runs import KINDS, fake_run


def shown(kind: str, width: int) -> str:
    console = Console(width=width, file=io.StringIO(), force_terminal=False, color_system=None)
    print_run(console, fake_run(kind)[0])
    out = console.file
    assert isinstance(out, io.StringIO)
    return out.getvalue()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("width", [80, 120])
def test_it_fits(kind: str, width: int) -> None:
    text = shown(kind, width)
    assert text.strip()
    assert all(len(line.rstrip()) <= width for line in text.splitlines())
    assert "…" not in text


def test_it_says_what_matters() -> None:
    text = " ".join(shown("failures", 80).split())
    for said in ("p50", "95 % interval", "500 ms", "goodput", "tokens/s", "in SLO", "refused", "client:", "warning:"):
        assert said in text
    assert "never" in text
    assert "Promise missed" in text


def test_classes_have_their_own_targets() -> None:
    text = shown("classes", 120)
    assert text.count("✗ interactive") == 1
    assert "no target;" in text
    assert "100 ms" in text


def test_a_client_that_was_the_limit_is_not_a_result() -> None:
    text = " ".join(shown("client-bound", 120).split())
    assert "the client was the limit: requests were sent 690 ms late" in text
    assert "! The client was the limit, not the server" in text


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_for_each_level_and_class(kind: str) -> None:
    run, _ = fake_run(kind)
    found = list(csv.DictReader(io.StringIO(rows(run))))
    assert len(found) == sum(len(level.classes) for level in run.levels)
    for row, figures in zip(found, (each for level in run.levels for each in level.classes), strict=True):
        assert list(row) == list(COLUMNS)
        assert row["offered"] == str(figures.offered)
        ttft = figures.latencies.get("ttft")
        assert row["ttft_p95_s"] == ("" if ttft is None else str(ttft.p95))
        counted = sum(int(value) for name, value in row.items() if name.startswith("misses_"))
        assert counted == figures.offered - figures.good


def test_no_text_is_a_formula() -> None:
    run, _ = fake_run("single")
    run.target["model"] = "=HYPERLINK(1)"
    found = next(csv.DictReader(io.StringIO(rows(run))))
    assert found["model"] == "'=HYPERLINK(1)"
