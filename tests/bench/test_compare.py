"""A change is real, noise, or not to be told from what there is."""

from __future__ import annotations

import io
import random
from collections.abc import Callable

import pytest
from rich.console import Console

from headway.bench.compare import Change, Comparison, Sureness, compare
from headway.bench.figures import ClientHealth, Level, Run
from headway.bench.metrics import measure
from headway.bench.record import Outcome, Record
from headway.bench.shelf import comparison
from headway.policy.slo import Objective
from tests.bench.made_records import failure, reply

PROMISE = Objective(ttft_s=0.5, itl_s=0.1)
SECONDS = 120.0


def served(
    seed: int, *, first_s: float = 0.1, gap_s: float = 0.02, rate: float = 8.0, is_counted: bool = True
) -> list[Record]:
    """Poisson arrivals; first tokens are exponential, and all gaps of a moment share the server's mood."""
    draw = random.Random(seed)
    moods = [draw.lognormvariate(0.0, 0.2) for _ in range(int(SECONDS) * 4 + 4)]
    at_s, made = draw.expovariate(rate), []
    while at_s < SECONDS:
        mood = moods[int(at_s * 4)]
        gaps_s = [gap_s * mood * draw.uniform(0.8, 1.2) for _ in range(20)]
        made.append(reply(at_s, draw.expovariate(1 / first_s) * mood, gaps_s, is_counted=is_counted))
        at_s += draw.expovariate(rate)
    return made


def level(records: list[Record], *, load: float = 8.0, promise: Objective = PROMISE) -> Level:
    window_s = (0.0, SECONDS)
    return Level(
        name=f"{load:g}/s", load={"rate": load}, window_s=window_s, classes=measure(records, window_s, {}, promise)
    )


def run(run_id: str, *levels: Level) -> Run:
    return Run(id=run_id, started_at="2026-07-31T12:00:00Z", levels=list(levels), target={"model": "m"})


def compared(before: list[Record], after: list[Record]) -> Comparison:
    return compare(run("a", level(before)), run("b", level(after)), [before], [after])


def changes(comparison: Comparison) -> dict[str, Change]:
    (only,) = comparison.levels
    return {each.figure: each for each in only.changes}


def test_two_runs_of_the_same_server_differ_by_noise() -> None:
    """Over many pairs, each of which has nothing but noise: hardly any is taken for more."""
    found = [each for seed in range(5) for each in changes(compared(served(seed), served(seed + 100))).values()]
    assert {each.figure for each in found} >= {"ttft p50", "ttft p95", "itl p50", "itl p95", "tpot p95", "e2e p95"}
    assert {each.figure for each in found} >= {"throughput", "goodput", "attainment"}
    real = sum(each.sureness is Sureness.REAL for each in found)
    assert real <= len(found) * 0.03
    assert not any(each.sureness is Sureness.UNKNOWN for each in found)


@pytest.mark.parametrize(
    ("after", "figures"),
    [
        (lambda: served(2, first_s=0.2), ["ttft p50", "ttft p95", "attainment"]),
        (lambda: served(2, gap_s=0.03), ["itl p50", "itl p95", "tpot p50", "tpot p95", "e2e p50", "stall p50"]),
        (lambda: served(2, rate=6.0), ["throughput", "goodput"]),
    ],
)
def test_a_slower_server_is_really_slower(after: Callable[[], list[Record]], figures: list[str]) -> None:
    found = changes(compared(served(1), after()))
    for name in figures:
        change = found[name]
        assert change.sureness is Sureness.REAL, change
        assert change.before is not None
        assert change.after is not None
        if change.low is not None and change.high is not None:
            assert change.low <= change.after - change.before <= change.high
            assert change.low * change.high > 0.0
    assert found["itl p95"].ratio == pytest.approx((found["itl p95"].after or 0) / (found["itl p95"].before or 1))


def test_few_requests_say_nothing() -> None:
    before, after = served(1, rate=0.3), served(2, rate=0.3, first_s=0.15)
    found = changes(compared(before, after))
    assert found["ttft p95"].sureness is Sureness.UNKNOWN
    assert "requests like these are too few to tell" in found["ttft p95"].why


def test_a_window_of_few_request_lives_says_nothing() -> None:
    before, after = served(1, gap_s=1.5), served(2, gap_s=3.0)
    found = changes(compared(before, after))
    assert {each.sureness for each in found.values()} == {Sureness.UNKNOWN}
    assert "120 s are too short to know how a figure varies: it takes" in found["goodput"].why


def test_itl_is_not_compared_with_gaps_between_chunks() -> None:
    before, after = served(1), served(2, is_counted=False)
    comparison = compared(before, after)
    found = changes(comparison)
    assert not any(name.startswith(("itl", "chunk_gap")) for name in found)
    assert "can't be compared" in comparison.levels[0].warnings[0]
    both = changes(compared(after, served(3, is_counted=False)))
    assert "chunk_gap p95" in both
    assert "itl p95" not in both


def test_a_server_that_fails_its_slow_requests_has_not_got_faster() -> None:
    before = served(1)
    slowest = sorted(before, key=lambda each: each.ttft_s or 0.0)[-len(before) // 10 :]
    late = {id(each) for each in slowest}
    after = [failure(each.intended_s, Outcome.ERROR) if id(each) in late else each for each in before]
    found = changes(compared(before, after))
    assert found["ttft p95"].after is None
    assert found["ttft p95"].sureness is Sureness.REAL
    assert found["ttft p50"].sureness is Sureness.NOISE
    assert found["attainment"].sureness is Sureness.REAL


def test_levels_are_matched_by_load() -> None:
    one, two = served(1), served(2)
    before = run("a", level(one, load=4.0), level(one, load=8.0))
    after = run("b", level(two, load=8.0), level(two, load=16.0))
    found = compare(before, after, [one, one], [two, two])
    assert [each.name for each in found.levels] == ["8/s"]
    assert found.unmatched == ["4/s (only in a)", "16/s (only in b)"]


def test_two_runs_without_a_load_in_common_are_told_what_would_help() -> None:
    one, two = served(1), served(2)
    found = compare(run("a", level(one, load=4.0)), run("b", level(two, load=8.0)), [one], [two])
    console = Console(width=100, file=io.StringIO(), record=True)
    console.print(comparison(found))
    assert "Nothing was compared: run both with a load in common" in console.export_text()


def test_what_else_differs_is_said() -> None:
    records = served(1)
    before, after = run("a", level(records)), run("b", level(records, promise=Objective(ttft_s=0.2)))
    after.target = {"model": "other"}
    after.machine = {"cores": 4}
    after.workload = {"name": "chat", "seed": 7}
    after.levels[0].client = ClientHealth(bound="requests were sent late")
    after.levels[0].state, after.levels[0].reason = "partial", "interrupted"
    found = compare(before, after, [records], [records])
    assert found.warnings == [
        "the model differs: m, then other",
        "the workload differs in name",
        "the machine differs in cores",
    ]
    assert found.levels[0].warnings == [
        "after, the client was the limit: requests were sent late",
        "after, the level is partial: interrupted",
        "the targets differ: attainment and goodput are against each run's own",
    ]


def test_a_level_in_which_nothing_came() -> None:
    nothing = [failure(at, Outcome.CONNECT) for at in range(100)]
    found = changes(compared(served(1), nothing))
    assert found["attainment"].sureness is Sureness.REAL
    assert found["ttft p50"].after is None
    assert "itl p50" not in found
    assert compared([], []).levels[0].changes != []


def test_figures_without_their_requests_tell_less() -> None:
    """A run that was read from a JSON file: no rates of nothing are compared, and none is called noise for it."""
    before, slower = level(served(1)), level(served(2, first_s=0.2, rate=6.0))
    found = changes(compare(run("a", before), run("b", slower), [[]], [served(2)]))
    assert found["throughput"].sureness is found["ttft p50"].sureness is Sureness.UNKNOWN
    assert "no single requests" in found["goodput"].why
    assert found["throughput"].before == before.classes[0].throughput
    assert found["ttft p95"].sureness is found["attainment"].sureness is Sureness.REAL
    assert found["e2e p95"].before == before.classes[0].latencies["e2e"].p95
    same = changes(compare(run("a", before), run("b", before), [[]], [[]]))
    assert same["ttft p95"].sureness is Sureness.NOISE
