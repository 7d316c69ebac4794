"""Stretches of steps run at once are what they are step by step: the same records, to the last bit."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from random import Random

import pytest

from headway.policy import invariants
from headway.policy.batch import StepInFlight
from headway.policy.plan import ExecutorInfo
from headway.policy.scheduler import Scheduler
from headway.sim import coasting
from headway.sim.arrivals import Gamma
from headway.sim.clients import IMPATIENT, OPENAI_SDK
from headway.sim.cluster import simulate_cluster
from headway.sim.faults import NO_FAULTS, swarm
from headway.sim.hardware import HARDWARE, Hardware, Noisy, decode_steps_s
from headway.sim.lengths import Lognormal
from headway.sim.replica import MakeScheduler, Replica
from headway.sim.result import Result
from headway.sim.router import LeastTtft, RoundRobin
from headway.sim.run import simulate
from headway.sim.timeline import Timeline
from headway.sim.traces import Replay, Row
from headway.sim.workload import Call, Size, Workload
from headway.sim.workloads import named
from headway.simulate import scheduler_maker
from tests.sim.machines import machine, static, workload


def as_text(result: Result) -> str:
    return json.dumps([result.figures(), *map(asdict, result.records)])


def both(run: Callable[[bool], Result]) -> tuple[Result, Result]:
    return run(True), run(False)


def drawn_workload(random: Random) -> Workload:
    """Short or long answers, deadlines or none, prefixes shared or not, batch beside the rest or not."""
    lengths = Lognormal(40, 1.0, 1, 300), Lognormal(random.choice((3, 40, 150)), 1.0, 1, 400)
    load = workload(*lengths, process=Gamma(random.choice((0.5, 1.0, 3.0))))
    [traffic] = load.traffic
    if random.random() < 0.4:
        sizes = [Size(random.randint(1, 200), random.randint(0, 90), (random.randrange(9),), 64) for _ in range(60)]
        traffic = replace(traffic, source=Replay(tuple(Row(float(i), size) for i, size in enumerate(sizes))))
    cap = random.choice((None, None, 30))
    kinds = [replace(traffic, max_tokens=cap, timeout_s=random.choice((None, None, 1.0)))]
    if random.random() < 0.3:
        kinds = [replace(kinds[0], share=0.5), replace(workload(*lengths).traffic[0], share=0.5, tenant="other")]
    return replace(load, traffic=tuple(kinds))


def drawn_scheduler(random: Random, hardware: Hardware) -> MakeScheduler:
    if random.random() < 0.5:
        return static(random.choice((16, 64, 512)), max_running=random.choice((3, 16, 256)))
    policy = random.choice(("vllm", "aimd", "prefill-first"))
    return scheduler_maker(policy, hardware, random.choice((64, 512)))


@pytest.mark.parametrize("seed", range(60))
def test_a_swarm_of_runs_is_the_same_step_by_step(seed: int) -> None:
    """Noise, faults, clients that leave, full caches, prefixes, deadlines, one to three replicas."""
    random = Random(seed)
    hardware = [
        Noisy(
            machine(token_s=random.choice((0.0, 1e-4)), kv_blocks=random.choice((30, 60, 400))),
            random.choice((0.0, 0.0, 0.2)),
        )
        for _ in range(random.randint(1, 3))
    ]
    load = drawn_workload(random)
    makers = [drawn_scheduler(random, each) for each in hardware]
    rate, seconds = random.uniform(0.5, 25.0) * len(hardware), random.uniform(2.0, 6.0)
    client = random.choice((IMPATIENT, OPENAI_SDK))
    faults = random.choice((NO_FAULTS, swarm(random, seconds)))
    router = random.choice((RoundRobin, LeastTtft))
    timelines: list[Timeline] = []

    def run(step_by_step: bool) -> Result:
        timelines.append(Timeline(0.013))
        return simulate_cluster(
            load,
            hardware,
            makers,
            router=router(),
            rate=rate,
            seconds=seconds,
            seed=seed,
            client=client,
            faults=faults,
            timeline=timelines[-1],
            step_by_step=step_by_step,
        )

    slow, fast = both(run)
    assert as_text(slow) == as_text(fast)
    assert slow.gaps.keys() == fast.gaps.keys()
    assert all(sorted(slow.gaps[name]) == sorted(fast.gaps[name]) for name in slow.gaps)
    for name in ("at_s", "replica", "running", "waiting", "batch", "kv_used"):
        assert getattr(timelines[0], name) == getattr(timelines[1], name), name


@pytest.mark.parametrize(("name", "rate"), [("azure-conv", 12.0), ("chat+batch", 6.0), ("mooncake", 1.0)])
def test_vllm_on_a_modelled_gpu_is_the_same_step_by_step(name: str, rate: float) -> None:
    hardware = HARDWARE["h100-llama-8b"]
    slow, fast = both(
        lambda step_by_step: simulate(
            named(name),
            hardware,
            scheduler_maker("vllm", hardware),
            rate=rate,
            seconds=8.0,
            step_by_step=step_by_step,
        )
    )
    assert as_text(slow) == as_text(fast)


@pytest.mark.parametrize(("name", "rate"), [("azure-conv", 11.0), ("chat", 20.0), ("mixed", 12.0)])
def test_the_adaptive_policy_is_nearly_the_same_step_by_step(name: str, rate: float) -> None:
    """It learns from a stretch as from one step, so its predictions differ a little, and a few calls fare otherwise:
    attainment within 2 points, throughput within 1 %, p50 and p95 of what is promised within 5 %."""
    hardware = HARDWARE["h100-llama-8b"]
    slow, fast = both(
        lambda step_by_step: simulate(
            named(name),
            hardware,
            scheduler_maker("headway", hardware),
            rate=rate,
            seconds=40.0,
            step_by_step=step_by_step,
        )
    )
    of_slow, of_fast = slow.summary(), fast.summary()
    assert fast.attainment() == pytest.approx(slow.attainment(), abs=0.02)
    assert of_fast.throughput == pytest.approx(of_slow.throughput, rel=0.01)
    for part in ("ttft", "itl", "e2e"):
        for share in ("p50", "p95"):
            expected = getattr(getattr(of_slow, part), share)
            assert getattr(getattr(of_fast, part), share) == pytest.approx(expected, rel=0.05), (part, share)


class Curious(RoundRobin):
    """Looks at all replicas, and sends to one after the other all the same."""

    def choose(self, now: float, call: Call, replicas: Sequence[Replica]) -> int:
        for replica in replicas:
            replica.view(now)
        return super().choose(now, call, replicas)


def test_looking_on_changes_nothing() -> None:
    """A router or a timeline that looked at a replica had its policy learn from each part of a stretch by itself: with
    a timeline, promises were kept otherwise than without."""
    hardware = HARDWARE["h100-llama-8b"]
    makers = [scheduler_maker("headway", hardware)] * 2

    def run(router: RoundRobin, timeline: Timeline | None) -> str:
        load, machines = named("chat"), [Noisy(hardware, 0.1)] * 2
        return as_text(
            simulate_cluster(load, machines, makers, router=router, rate=40.0, seconds=6.0, timeline=timeline)
        )

    alone = run(RoundRobin(), None)
    assert run(Curious(), None) == alone
    assert run(RoundRobin(), Timeline(0.05)) == alone


def test_forgetting_when_steps_ended_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    load = workload(Lognormal(40, 1.0, 1, 300), Lognormal(60, 1.0, 1, 300))
    texts = set()
    for kept in (5, 1 << 16):
        monkeypatch.setattr(coasting, "ENDS_KEPT", kept)
        result = simulate(load, machine(token_s=1e-4), static(64), rate=4.0, seconds=20.0)
        assert result.steps > 500
        texts.add(as_text(result))
    assert len(texts) == 1


def test_what_a_stretch_leaves_behind_breaks_no_invariant() -> None:
    """Blocks, tables, and the books of the cache, checked after each stretch and each step."""
    stretches = 0

    def make(info: ExecutorInfo) -> Scheduler:
        scheduler = static(64)(info)
        repeated, begin = scheduler.repeated, scheduler.begin

        def checked_repeated(after: StepInFlight, took_s: Sequence[float]) -> None:
            nonlocal stretches
            stretches += 1
            repeated(after, took_s)
            invariants.check(scheduler)

        def checked_begin(now: float, *, with_plan: bool) -> StepInFlight | None:
            step = begin(now, with_plan=with_plan)
            invariants.check(scheduler)
            return step

        scheduler.repeated, scheduler.begin = checked_repeated, checked_begin  # type: ignore[method-assign]
        return scheduler

    sizes = [Size(30 + 7 * i % 200, 20 + 11 * i % 150, (i % 5,), 64) for i in range(60)]  # prefixes: books by block
    rows = tuple(Row(float(i), size) for i, size in enumerate(sizes))
    load = replace(workload(), traffic=(replace(workload().traffic[0], source=Replay(rows)),))
    simulate(load, machine(token_s=1e-4, kv_blocks=60), make, rate=2.0, seconds=30.0)
    assert stretches > 20, stretches


@pytest.mark.parametrize("name", HARDWARE)
def test_the_quick_way_to_many_steps_is_exact(name: str) -> None:
    class Slow:
        step_s = HARDWARE[name].step_s

    for sequences, context in ((1, 1), (7, 12_345), (256, 300_000)):
        quick = decode_steps_s(HARDWARE[name], sequences, context, 50)
        assert quick == decode_steps_s(Slow(), sequences, context, 50)  # type: ignore[arg-type]
