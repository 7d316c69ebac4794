"""Progress while a level runs: what is shown is what came, p95 is of the last seconds, and lines are few."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from headway.bench.live import CLASSES_MAX, LAST_S, Live
from headway.bench.record import Outcome, Record
from headway.policy.slo import Objective

PROMISE = {"": Objective(ttft_s=0.5, itl_s=0.05)}


def console(is_terminal: bool = False) -> Console:
    return Console(width=100, file=io.StringIO(), force_terminal=is_terminal, color_system=None)


def text_of(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def record(ended_s: float, ttft_s: float, gap_s: float = 0.01, name: str = "") -> Record:
    begun_s = ended_s - ttft_s - 10 * gap_s
    chunks = [begun_s + ttft_s + number * gap_s for number in range(11)]
    return Record(
        index=0,
        service_class=name,
        intended_s=begun_s,
        sent_s=begun_s + 0.002,
        ended_s=ended_s,
        chunk_s=chunks,
        chunk_tokens=[1] * 11,
    )


def failed(ended_s: float, outcome: Outcome) -> Record:
    return Record(index=0, intended_s=ended_s - 0.1, ended_s=ended_s, outcome=outcome)


def test_lines_every_few_seconds_where_there_is_no_terminal() -> None:
    out = console()
    with Live(out, "4 requests/s", PROMISE, 20.0) as live:
        for tenth in range(200):
            now_s = tenth / 10
            live.add(record(now_s, 0.2))
            live.tick(now_s)
    lines = text_of(out).splitlines()
    assert lines[0] == "4 requests/s: 20 s"
    assert 4 <= len(lines) - 1 <= 6
    assert "200 ok, 0 refused, 0 failed" in lines[-1]
    assert "110 tokens/s" in lines[-1]
    assert "in SLO 100 %" in lines[-1]


def p95_ttft_s(text: str) -> float:
    value, unit = text.rsplit("p95 TTFT ", 1)[1].split()[:2]
    return float(value) / (1000.0 if unit == "ms" else 1.0)


def test_p95_is_of_the_last_seconds_to_a_bucket() -> None:
    out = console()
    with Live(out, "level", PROMISE, 60.0) as live:
        for number in range(100):
            live.add(record(1.0 + number / 100, 2.0))
        live.tick(2.0)
        assert p95_ttft_s(text_of(out)) == pytest.approx(2.0, rel=0.04)
        for number in range(100):
            live.add(record(14.0 + number / 100, 0.3 if number < 94 else 0.6))
        live.tick(2.0 + LAST_S + 3.0)
    assert p95_ttft_s(text_of(out)) == pytest.approx(0.6, rel=0.04)
    assert "in SLO 47.0 %" in text_of(out)


def test_what_went_wrong_is_counted_by_kind() -> None:
    out = console()
    with Live(out, "level", PROMISE, 5.0) as live:
        for outcome in Outcome:
            if outcome is not Outcome.OK:
                live.add(failed(1.0, outcome))
        live.tick(1.0)
    assert "0 ok, 1 refused, 6 failed" in text_of(out)
    assert "in SLO 0 %" in text_of(out)


def test_a_terminal_is_drawn_over() -> None:
    out = console(is_terminal=True)
    with Live(out, "16 at once", PROMISE, 10.0, title="2 of 5") as live:
        live.add(record(1.0, 0.2))
        for tick in range(100):
            live.tick(tick / 100)
    text = text_of(out)
    assert "2 of 5  16 at once" in text
    assert "/ 500 ms" in text
    assert text.count("16 at once") <= 5


def test_a_run_without_requests_or_targets() -> None:
    out = console()
    with Live(out, "level", {}, 1.0) as live:
        live.tick(0.0)
        live.tick(1.0)
    assert "0 ok, 0 refused, 0 failed" in text_of(out)


@pytest.mark.parametrize("is_terminal", [False, True])
def test_the_name_of_a_class_is_no_markup(is_terminal: bool) -> None:
    """Files of requests name classes as they like; none of them may end the level."""
    shown = console(is_terminal)
    with Live(shown, "4 at once", PROMISE, 60.0) as live:
        live.add(record(1.0, 0.1, name="[/b]"))
        live.tick(5.0)
    assert "[/b]" in text_of(shown)


def test_classes_are_bounded() -> None:
    out = console()
    with Live(out, "level", {}, 1.0) as live:
        for number in range(50):
            live.add(record(1.0, 0.2, name=f"class {number}"))
        live.tick(1.0)
    assert text_of(out).count("p95 TTFT") <= CLASSES_MAX + 1
