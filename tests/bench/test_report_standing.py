"""What is said of a run in words follows from its figures, and "undecided" is an answer."""

from __future__ import annotations

import pytest

from headway.bench.figures import ClassFigures, Level, Quantiles, Run
from headway.bench.report.standing import Standing, chosen_level, keeps, standing, verdict
from headway.bench.report.wording import between, duration, number, p95_interval, share
from tests.bench.fake_runs import fake_run, wilson


def level(name: str, offered: int, good: int, *, rate: float, target_s: float | None = 0.5) -> Level:
    low, high = wilson(good, offered)
    figures = ClassFigures(
        name="",
        ttft_target_s=target_s,
        offered=offered,
        ok=offered,
        good=good,
        misses={"ttft": offered - good} if good < offered else {},
        attainment=good / offered,
        attainment_low=low,
        attainment_high=high,
        request_rate=rate,
        goodput=rate * good / offered,
        throughput=50.0 * rate,
        latencies={"ttft": quantiles(0.4)},
    )
    return Level(name=name, load={"rate": rate}, classes=[figures])


def quantiles(p95_s: float, p95_with_misses: float | None = None) -> Quantiles:
    return Quantiles(
        n=100, mean=0.1, p50=0.1, p90=0.2, p95=p95_s, p99=p95_s, max=p95_s, p95_with_misses=p95_with_misses
    )


def run_with(*levels: Level) -> Run:
    return Run(id="1", started_at="2026-11-24T00:00:00Z", levels=list(levels))


def test_three_answers() -> None:
    assert standing(level("a", 1000, 990, rate=1.0)) is Standing.KEPT
    assert standing(level("a", 100, 96, rate=1.0)) is Standing.UNDECIDED
    assert standing(level("a", 100, 80, rate=1.0)) is Standing.MISSED
    assert standing(level("a", 100, 100, rate=1.0, target_s=None)) is Standing.NO_PROMISE
    assert standing(Level(name="a")) is Standing.VOID


def test_the_level_chosen_has_the_most_goodput_of_those_that_surely_keep() -> None:
    levels = [
        level("1", 1000, 999, rate=1.0),
        level("2", 1000, 990, rate=2.0),
        level("3", 100, 96, rate=3.0),
        level("4", 100, 50, rate=8.0),
    ]
    assert chosen_level(run_with(*levels)) == 1
    said = verdict(run_with(*levels))
    assert said.headline == "Promise kept up to 2"
    assert "p95 TTFT is 400 ms, 80 % of its target of 500 ms." in said.details
    assert any(each.startswith("3 is too close to call: 96.0 % in SLO") for each in said.details)
    assert chosen_level(run_with(*levels[2:])) == 0
    assert verdict(run_with(*levels[2:])).headline == "Probably kept at 3"
    assert chosen_level(run_with(levels[3])) is None


def test_what_limits_is_said() -> None:
    said = verdict(run_with(level("8 requests/s", 100, 50, rate=8.0)))
    assert said.headline == "Promise missed at 8 requests/s"
    assert "most misses: first token late (50 of 50)" in said.details[0]


def test_a_level_of_a_client_that_was_the_limit_counts_for_nothing() -> None:
    good, bound = level("1", 1000, 999, rate=1.0), level("9", 1000, 999, rate=9.0)
    bound.client.bound = "too slow"
    assert standing(bound) is Standing.VOID
    assert chosen_level(run_with(good, bound)) == 0
    said = verdict(run_with(bound))
    assert (said.headline, said.details[0]) == ("The client was the limit, not the server", "Too slow.")


def test_no_limit_was_found() -> None:
    said = verdict(run_with(level("1", 1000, 999, rate=1.0), level("2", 1000, 990, rate=2.0)))
    assert any("its limit is above the highest load here" in each for each in said.details)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("empty", Standing.VOID),
        ("no-requests", Standing.VOID),
        ("none-good", Standing.MISSED),
        ("batch", Standing.NO_PROMISE),
        ("client-bound", Standing.VOID),
    ],
)
def test_runs_that_keep_nothing(kind: str, expected: Standing) -> None:
    said = verdict(fake_run(kind)[0])
    assert said.standing is expected
    assert said.headline


def test_requests_that_failed_count_as_never_served() -> None:
    figures = ClassFigures(name="", offered=100, ok=80, latencies={"ttft": quantiles(0.2, None)})
    assert not keeps(figures, "ttft", 0.5)
    figures.latencies["ttft"] = quantiles(0.2, 0.4)
    assert keeps(figures, "ttft", 0.5)
    assert not keeps(figures, "e2e", 0.5)


def test_how_figures_are_said() -> None:
    assert [duration(each) for each in (0.00012, 0.0123, 0.183, 1.25, 12.34, 320.0, None)] == [
        "0.12 ms",
        "12.3 ms",
        "183 ms",
        "1.25 s",
        "12.3 s",
        "320 s",
        "–",
    ]
    assert [share(each) for each in (0.0, 0.00001, 0.984, 0.99999, 1.0)] == [
        "0 %",
        "0.1 %",
        "98.4 %",
        "99.9 %",
        "100 %",
    ]
    assert [number(each) for each in (0.5, 3.0, 12.34, 1234.5)] == ["0.500", "3", "12.3", "1\u202f234"]
    assert between("172 ms", "234 ms") == "172 to 234 ms"
    assert between("800 ms", "1.20 s") == "800 ms to 1.20 s"
    assert p95_interval(quantiles(0.1)) == "n 100: too few to say"
