"""Replicas behind a router: one virtual time, and nothing lost between them."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, replace
from itertools import takewhile
from random import Random

import pytest

from headway.sim.arrivals import Gamma, Regular, Steady
from headway.sim.clients import IMPATIENT, OPENAI_SDK
from headway.sim.cluster import simulate_cluster
from headway.sim.faults import swarm
from headway.sim.hardware import HARDWARE, Noisy
from headway.sim.lengths import Fixed, Lognormal
from headway.sim.record import Outcome
from headway.sim.result import Result
from headway.sim.router import LeastTtft, RoundRobin
from headway.sim.run import simulate
from headway.sim.timeline import MOMENTS_MAX, Timeline
from headway.sim.traces import Replay, Row
from headway.sim.workload import Size
from headway.sim.workloads import named
from headway.simulate import scheduler_maker
from tests.sim.machines import STEP_S, machine, static, workload


def as_text(result: Result) -> str:
    return json.dumps([result.figures(), *map(asdict, result.records)])


def served_by(result: Result) -> Counter[int]:
    return Counter(record.replica for record in result.records)


def test_round_robin_shares_calls_out_evenly_and_each_is_served_as_if_alone() -> None:
    load = workload(Fixed(100), Fixed(5), process=Regular())
    pair = simulate_cluster(load, [machine()] * 2, [static(60)] * 2, rate=20.0, seconds=2.0)
    assert served_by(pair) == {0: 20, 1: 19}
    alone = simulate(load, machine(), static(60), rate=10.0, seconds=2.0)
    times = [record.e2e_s for record in (*pair.records, *alone.records)]
    assert times == pytest.approx([times[0]] * len(times))


@pytest.mark.parametrize("router", [RoundRobin, LeastTtft])
def test_equal_arguments_give_equal_results(router: type[RoundRobin] | type[LeastTtft]) -> None:
    def run() -> Result:
        hardware = [Noisy(machine(token_s=1e-4, kv_blocks=blocks), 0.2) for blocks in (40, 60, 400)]
        load = workload(Lognormal(40, 1.0, 1, 300), Lognormal(20, 1.0, 1, 100), process=Gamma(3.0))
        make = [static(64, max_queued_requests=20), scheduler_maker("headway", hardware[1]), static(16)]
        return simulate_cluster(load, hardware, make, router=router(), rate=30.0, seconds=10.0, client=OPENAI_SDK)

    assert as_text(run()) == as_text(run())


@pytest.mark.parametrize("seed", range(20))
def test_every_call_has_one_outcome_whatever_goes_wrong(seed: int) -> None:
    random = Random(seed)
    rate, seconds = random.uniform(1.0, 100.0), random.uniform(1.0, 6.0)
    load = workload(Lognormal(40, 1.0, 1, 300), Lognormal(20, 1.0, 1, 100), process=Gamma(random.choice((1.0, 4.0))))
    machines = [
        Noisy(machine(token_s=1e-4, kv_blocks=random.choice((30, 400))), random.choice((0.0, 0.3)))
        for _ in range(random.randint(1, 5))
    ]
    result = simulate_cluster(
        load,
        machines,
        [static(random.choice((16, 256)), max_queued_requests=random.choice((5, 1000))) for _ in machines],
        router=random.choice((RoundRobin, LeastTtft))(),
        rate=rate,
        seconds=seconds,
        seed=seed,
        client=random.choice((IMPATIENT, OPENAI_SDK)),
        faults=swarm(random, seconds),
        timeline=Timeline(0.5),
    )
    arrived = list(takewhile(lambda call: call.at_s < seconds, load.calls(Steady(rate), seed)))
    assert [record.index for record in result.records] == [call.index for call in arrived]
    assert {record.replica for record in result.records} <= set(range(len(machines)))
    for record, call in zip(result.records, arrived, strict=True):
        if record.outcome is Outcome.SERVED:
            assert record.output_tokens == call.size.output_tokens


def test_the_least_predicted_ttft_prefers_the_faster_machine_and_keeps_clear_of_queues() -> None:
    load = workload(Fixed(256), Fixed(20))
    machines = [machine(token_s=1e-3), machine(token_s=1e-4)]
    blind, seeing = (
        simulate_cluster(load, machines, [static(2048)] * 2, router=router, rate=8.0, seconds=20.0)
        for router in (RoundRobin(), LeastTtft())
    )
    shares = served_by(seeing)
    assert shares[1] > 2 * shares[0]
    blind_p95, seeing_p95 = blind.summary().ttft.p95, seeing.summary().ttft.p95
    assert blind_p95 is not None
    assert seeing_p95 is not None
    assert seeing_p95 < 0.7 * blind_p95


def test_the_least_predicted_ttft_goes_where_the_prefix_is() -> None:
    random = Random(1)
    rows = tuple(Row(float(i), Size(600, 5, (random.randrange(12),), 512)) for i in range(200))
    traffic = replace(workload().traffic[0], source=Replay(rows))
    load = replace(workload(), traffic=(traffic,))
    hardware = machine(token_s=1e-4, kv_blocks=130)  # room for three of the twelve prefixes

    def cached(router: RoundRobin | LeastTtft) -> int:
        result = simulate_cluster(load, [hardware] * 4, [static(2048)] * 4, router=router, rate=20.0, seconds=10.0)
        return sum(record.cached_tokens for record in result.records)

    assert cached(LeastTtft()) > 1.5 * cached(RoundRobin())


def test_a_timeline_shows_batch_queue_and_cache_over_time() -> None:
    load = workload(Fixed(32), Fixed(64), process=Regular())
    timeline = Timeline(STEP_S)
    simulate_cluster(
        load, [machine(kv_blocks=12)] * 2, [static(256, max_running=2)] * 2, rate=20.0, seconds=1.0, timeline=timeline
    )
    columns = (timeline.replica, timeline.running, timeline.waiting, timeline.batch, timeline.kv_used)
    assert {len(column) for column in columns} == {len(timeline.at_s)}
    assert max(timeline.running) == max(timeline.batch) == 2
    assert max(timeline.waiting) > 2
    assert 0.5 < max(timeline.kv_used) <= 1.0
    assert timeline.running[-1] == timeline.batch[-1] == timeline.waiting[-1] == 0
    assert timeline.at_s[2] == timeline.at_s[3] == STEP_S


def test_a_timeline_changes_nothing() -> None:
    load = named("azure-conv")
    hardware = HARDWARE["h100-llama-8b"]
    texts = {
        as_text(
            simulate(load, hardware, scheduler_maker("headway", hardware), rate=8.0, seconds=5.0, timeline=timeline)
        )
        for timeline in (None, Timeline(0.01))
    }
    assert len(texts) == 1


def test_a_timeline_is_bounded() -> None:
    timeline = Timeline(0.001)
    simulate(workload(), machine(), static(64), rate=1.0, seconds=10.0, timeline=timeline)
    assert len(timeline.at_s) < MOMENTS_MAX
    assert timeline.every_s == pytest.approx(0.004)
    assert [timeline.at_s[i] for i in range(3)] == pytest.approx([0.0, 0.004, 0.008])


def test_machines_that_can_not_be_meant_are_errors() -> None:
    with pytest.raises(ValueError, match="1 to"):
        simulate_cluster(workload(), [], [], rate=1.0, seconds=1.0)
    with pytest.raises(ValueError, match="as many schedulers"):
        simulate_cluster(workload(), [machine()] * 2, [static(8)], rate=1.0, seconds=1.0)
    with pytest.raises(ValueError, match="timeline"):
        Timeline(0.0)


def test_timeouts_hold_on_every_replica() -> None:
    load = workload(Fixed(4), Fixed(50), process=Regular())
    load = replace(load, traffic=(replace(load.traffic[0], timeout_s=0.2),))
    result = simulate_cluster(load, [machine()] * 3, [static(64)] * 3, rate=3.0, seconds=2.0)
    assert {record.outcome for record in result.records} == {Outcome.EXPIRED}
