"""Clients that are refused try again as the official client does, and are counted once."""

from __future__ import annotations

from random import Random

import pytest

from headway.sim.clients import IMPATIENT, OPENAI_SDK
from headway.sim.lengths import Fixed
from headway.sim.record import Outcome
from headway.sim.run import simulate
from tests.sim.machines import machine, static, workload


@pytest.mark.parametrize(
    ("attempt", "retry_after_s", "wait_s"),
    [
        (0, 3.0, 3.0),
        (1, 120.0, 120.0),
        (0, 120.5, None),  # too long: the client leaves it
        (0, None, None),  # the server says that it is of no use
        (2, 3.0, None),  # two retries, no more
    ],
)
def test_how_long_a_client_waits(attempt: int, retry_after_s: float | None, wait_s: float | None) -> None:
    assert OPENAI_SDK.wait_s(attempt, retry_after_s, Random(1)) == wait_s
    assert IMPATIENT.wait_s(attempt, retry_after_s, Random(1)) is None


def test_without_a_usable_time_the_wait_doubles_less_some_jitter() -> None:
    random = Random(1)
    for attempt, most_s in ((0, 0.5), (1, 1.0)):
        waits = [OPENAI_SDK.wait_s(attempt, 0.0, random) for _ in range(100)]
        assert all(wait_s is not None and 0.75 * most_s <= wait_s <= most_s for wait_s in waits)


def test_a_refused_call_is_sent_three_times_and_counted_once() -> None:
    overload = workload(prompt=Fixed(64), output=Fixed(64))
    make = static(64, max_queued_requests=1, max_running=1)
    result = simulate(overload, machine(), make, rate=20.0, seconds=10.0, client=OPENAI_SDK)
    assert [record.index for record in result.records] == list(range(len(result.records)))
    shed = [record for record in result.records if record.outcome is Outcome.SHED]
    assert shed
    assert {record.attempts for record in shed} == {3}
    later = [record for record in result.records if record.outcome is Outcome.SERVED and record.attempts > 1]
    assert later
    assert all(record.sent_s - record.arrived_s >= 1.0 for record in later)  # the least retry-after there is
    assert result.summary().retried > 0


def test_an_impatient_client_is_refused_once() -> None:
    make = static(64, max_queued_requests=1, max_running=1)
    result = simulate(workload(output=Fixed(64)), machine(), make, rate=20.0, seconds=10.0)
    assert {record.attempts for record in result.records} == {1}
    assert any(record.outcome is Outcome.SHED for record in result.records)
