"""A client that was the limit says so, and by which limit."""

from __future__ import annotations

import pytest

from headway.bench.figures import ClientHealth
from headway.bench.health import client_health
from headway.bench.record import Outcome, Record
from headway.policy.slo import Objective
from tests.bench.made_records import failure, reply


def health(
    records: list[Record] | None = None,
    *,
    cpu_s: tuple[float, ...] = (1.0, 2.0),
    lag_p99_s: float = 0.001,
    objectives: tuple[Objective, ...] = (Objective(ttft_s=0.3, itl_s=0.1),),
) -> ClientHealth:
    return client_health(
        [reply(1.0)] if records is None else records,
        cpu_s=cpu_s,
        elapsed_s=10.0,
        lag_p99_s=lag_p99_s,
        lag_max_s=0.5,
        tokens=100_000,
        objectives=objectives,
    )


def late(by_s: float) -> Record:
    record = reply(1.0, 1.0)
    record.sent_s = 1.0 + by_s
    return record


def test_a_client_that_keeps_up() -> None:
    found = health([late(0.001)] * 99 + [late(0.5)])
    assert found.bound is None
    assert (found.processes, found.cpu_s, found.cpu_share) == (2, 3.0, 0.2)
    assert found.cpu_us_per_token == pytest.approx(30.0)
    assert (found.slip_p50_s, found.slip_p99_s, found.slip_max_s) == pytest.approx((0.001, 0.001, 0.5))


def test_requests_that_are_sent_late() -> None:
    assert health([late(0.031)]).bound == "requests were sent late: p99 31 ms, limit 30 ms"
    assert health([late(0.029)]).bound is None
    assert health([late(0.09)], objectives=()).bound is None
    assert "limit 100 ms" in (health([late(0.11)], objectives=()).bound or "")
    assert "limit 100 ms" in (health([late(0.11)], objectives=(Objective(ttft_s=60.0),)).bound or "")


def test_a_server_that_takes_no_connection_is_not_the_clients_fault() -> None:
    assert health([failure(1.0, Outcome.CONNECT, after_s=30.0)]).bound is None
    assert health([]).bound is None


def test_a_server_that_is_slow_to_accept_is_not_the_clients_fault() -> None:
    """A handshake with a server far away, or one that accepts late, was taken for a client that sends late."""
    slow = late(0.2)
    slow.connect_s = 0.19
    assert health([slow]).bound is None
    assert health([slow]).slip_p99_s == pytest.approx(0.01)


def test_an_event_loop_that_lags() -> None:
    assert health(lag_p99_s=0.019).bound is None
    assert health(lag_p99_s=0.021).bound == "the client's event loop lagged: p99 21 ms, limit 20 ms"
    assert "limit 50 ms" in (health(lag_p99_s=0.051, objectives=()).bound or "")


def test_one_busy_process_of_many_is_enough() -> None:
    assert health(cpu_s=(0.1, 9.1, 0.1)).bound == "a client process used 91% of a core, limit 90%"
    both = health([late(0.2)], cpu_s=(9.9,)).bound
    assert both is not None
    assert both.count(";") == 1


def test_a_client_without_sockets_is_its_own_limit() -> None:
    """A file limit of 1024 made every further request "no connection", and the server "gone"."""
    found = health([late(0.0), failure(1.0, Outcome.CLIENT, after_s=0.0)])
    assert found.bound == "1 requests found no free socket on this machine"
