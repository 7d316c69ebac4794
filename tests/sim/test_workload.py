"""Calls: drawn by seed alone, at any rate, with the lengths and promises that were asked for."""

from __future__ import annotations

from itertools import islice, pairwise

import pytest

from headway.policy.slo import Objective
from headway.sim.arrivals import Steady
from headway.sim.lengths import Fixed, Lognormal
from headway.sim.workload import BACKLOG_INDEX, Call, Size, Workload
from headway.sim.workloads import descriptions, named


def some(workload: Workload, rate: float = 10.0, seed: int = 1, count: int = 500) -> list[Call]:
    return list(islice(workload.calls(Steady(rate), seed), count))


@pytest.mark.parametrize("name", descriptions())
def test_calls_come_in_order_at_the_rate_asked_for_and_fit_their_caps(name: str) -> None:
    calls = some(named(name), count=4000)
    assert [call.index for call in calls] == list(range(4000))
    assert all(before.at_s <= after.at_s for before, after in pairwise(calls))
    assert calls[-1].at_s == pytest.approx(400.0, rel=0.25)
    assert all(1 <= call.size.output_tokens <= call.max_tokens for call in calls)
    assert all(call.size.prompt_tokens >= 1 for call in calls)


def test_the_rate_changes_when_calls_come_and_nothing_else() -> None:
    slow, fast = some(named("chat"), rate=5.0), some(named("chat"), rate=20.0)
    assert [call.size for call in slow] == [call.size for call in fast]
    assert [call.at_s for call in slow] == pytest.approx([4.0 * call.at_s for call in fast])


def test_seeds_give_different_calls() -> None:
    assert some(named("chat"), seed=1) != some(named("chat"), seed=2)
    assert some(named("azure-conv"), seed=1) != some(named("azure-conv"), seed=2)


def test_shares_of_kinds_are_kept() -> None:
    calls = some(named("mixed"), count=4000)
    assert sum(call.service_class == "interactive" for call in calls) / 4000 == pytest.approx(0.15, abs=0.02)


def test_a_workload_is_scaled_in_length_and_in_promise() -> None:
    plain = some(named("experiment"))
    scaled = some(named("experiment").scaled(lengths=0.125, promise=4.0))
    assert scaled[0].objective == Objective(ttft_s=1.2, itl_s=0.2)
    assert scaled[0].max_tokens == 150
    for before, after in zip(plain, scaled, strict=True):
        assert after.size.prompt_tokens == pytest.approx(before.size.prompt_tokens / 8, abs=1.0)
        assert after.at_s == before.at_s


def test_prompts_share_what_their_labels_share_and_nothing_else() -> None:
    def call(index: int, prompt: int, prefix: tuple[int, ...] = ()) -> Call:
        size = Size(prompt, 1, prefix, prefix_block=4)
        return Call(index=index, at_s=0.0, size=size, max_tokens=1, service_class="batch")

    one, other = call(0, 10, (7, 8, 9)).prompt(), call(1, 14, (7, 8, 5)).prompt()
    assert len(one) == 10
    assert len(other) == 14
    assert one[:8] == other[:8]
    assert not set(one[8:]) & set(other[8:])
    assert set(call(2, 5).prompt()) == {3}


def test_a_backlog_is_endless_and_numbered_apart() -> None:
    calls = list(islice(named("chat+batch").backlog_calls(seed=1), 1000))
    assert [call.index for call in calls] == list(range(BACKLOG_INDEX, BACKLOG_INDEX + 1000))
    assert list(named("chat").backlog_calls(seed=1)) == []


def test_lengths_are_clipped_and_scaled() -> None:
    lengths = Lognormal(512, 1.0, 16, 4096)
    assert lengths.scaled(0.25) == Lognormal(128.0, 1.0, 4, 1024)
    assert lengths.longest == 4096
    assert Fixed(3).scaled(0.1) == Fixed(1)
