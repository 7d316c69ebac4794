"""One set-up under a load: the server's own scheduler in virtual time, over several draws of the load.

A run offers a given number of requests, however fast they come, so that a fast machine costs no more to simulate than a
slow one; and more where answers live so long that otherwise none would have ended before the figures begin. Every rate
is offered the same requests in the same order, so that two rates differ in nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, median

from headway.plan.intervals import attainment, over_seeds
from headway.plan.load import Demand
from headway.plan.outcome import ClassForecast, Figure, Forecast, Point, Usage
from headway.plan.parts import Work
from headway.policy.slo import Objective
from headway.sim.cluster import simulate_cluster
from headway.sim.hardware import Hardware
from headway.sim.record import Outcome, Record, nearest_rank
from headway.sim.replica import MakeScheduler
from headway.sim.result import Percentiles, Result, Window
from headway.sim.router import LeastTtft, RoundRobin, Router
from headway.sim.timeline import Timeline
from headway.sim.workload import Workload

WINDOW = (0.35, 0.98)
"""Shares of a run's time between which a request must come to be counted."""
LOOKS = 200
"""Samples of batch, queue and KV use in a run."""
LIVES = 1.5
"""How many times the life of an answer the part of a run must last that is not counted."""
REQUESTS_MAX = 1500
"""Of one run: more change nothing that matters, and take long."""
SURE = 0.03
"""A first seed whose attainment is this far above or below the target decides alone."""

Parts = Callable[[Work], Mapping[str, float]]


@dataclass(frozen=True, slots=True)
class Run:
    """One seed."""

    result: Result
    timeline: Timeline

    def of(self, service_class: str) -> list[Record]:
        window = self.result.window
        return [r for r in self.result.records if r.service_class == service_class and window.holds(r.arrived_s)]

    def share(self, service_class: str) -> tuple[int, int]:
        records = self.of(service_class)
        return sum(record.in_slo for record in records), len(records)


class Forecaster:
    """Replicas of one machine under the ``demand``.

    ``request_s``: what a request spends before it can be scheduled; promises are judged, and times reported, with it.
    ``life_s``: how long an answer takes at a rate of one replica. ``parts``: what the time of an average step goes to.
    ``known``: what was tried before.
    """

    def __init__(
        self,
        hardware: Hardware,
        make_scheduler: MakeScheduler,
        demand: Demand,
        *,
        target: float,
        seeds: int,
        requests: int,
        request_s: float = 0.0,
        life_s: Callable[[float], float] = lambda _: 0.0,
        router: str = "least-ttft",
        parts: Parts = lambda _: {},
        known: Mapping[float, tuple[Point, Figure]] | None = None,
    ) -> None:
        self.demand = demand
        self.simulated = 0
        self._hardware = hardware
        self._make = make_scheduler
        self._target = target
        self._seeds = range(1, seeds + 1)
        self._requests = requests
        self._request_s = request_s
        self._life_s = life_s
        self._router: Callable[[], Router] = LeastTtft if router == "least-ttft" else RoundRobin
        self._parts = parts
        self._promised = tuple(demand.promises)
        self._workload = _sooner(demand.workload, request_s)
        self._tried = dict(known or {})

    @property
    def tried(self) -> list[tuple[Point, Figure]]:
        """What ``attainment`` has tried on one replica, in order of rate, with the interval of its attainment."""
        return [self._tried[rate] for rate in sorted(self._tried)]

    def attainment(self, rate: float) -> float:
        """Of the class that keeps its promise least, on one replica. As many seeds as it takes to tell."""
        if rate not in self._tried:
            runs = [self._run(rate, 1, self._seeds[0])]
            if abs(self._worst(runs).value - self._target) < SURE:
                runs += [self._run(rate, 1, seed) for seed in self._seeds[1:]]
            self._tried[rate] = self._point(rate, runs)
        return self._tried[rate][0].attainment

    def forecast(self, rate: float, replicas: int, seeds: int | None = None) -> Forecast:
        """All of them together, over all seeds if not fewer are asked for."""
        runs = [self._run(rate, replicas, seed) for seed in self._seeds[:seeds]]
        classes = tuple(
            self._class(name, runs) for name in dict.fromkeys(k.service_class for k in self.demand.workload.traffic)
        )
        promised = [each for each in classes if each.service_class in self._promised]
        return Forecast(
            rate=rate,
            replicas=replicas,
            keeps=all(each.attainment.value >= self._target for each in promised),
            attainment=self._worst(runs),
            classes=classes,
            tokens_per_s=over_seeds([run.result.summary().throughput for run in runs]),
            prompt_tokens_per_s=fmean(_prompt_rate(run) for run in runs),
            user_tokens_per_s=_user_rate(runs),
            usage=self._usage(runs, replicas),
        )

    def _run(self, rate: float, replicas: int, seed: int) -> Run:
        requests = self.requests_at(rate, replicas)
        self.simulated += requests
        seconds = requests / rate
        timeline = Timeline(seconds / LOOKS)
        result = simulate_cluster(
            self._workload,
            [self._hardware] * replicas,
            [self._make] * replicas,
            router=self._router(),
            rate=rate,
            seconds=seconds,
            seed=seed,
            window=Window(WINDOW[0] * seconds, WINDOW[1] * seconds),
            timeline=timeline,
        )
        return Run(result, timeline)

    def requests_at(self, rate: float, replicas: int = 1) -> int:
        life_s = self._life_s(rate / replicas)
        return min(REQUESTS_MAX, max(self._requests, round(rate * LIVES * life_s / WINDOW[0])))

    def _worst(self, runs: Sequence[Run]) -> Figure:
        found = [attainment([run.share(name) for run in runs]) for name in self._promised]
        return min(found, key=lambda figure: figure.value)

    def _point(self, rate: float, runs: Sequence[Run]) -> tuple[Point, Figure]:
        figure = self._worst(runs)
        ttft = sorted(r.ttft_s + self._request_s for run in runs for r in self._records(run) if r.ttft_s is not None)
        itl = [run.result.summary().itl.p95 for run in runs]
        point = Point(
            rate=rate,
            attainment=figure.value,
            keeps=figure.value >= self._target,
            tokens_per_s_per_gpu=fmean(run.result.summary().throughput for run in runs),
            user_tokens_per_s=_user_rate(runs),
            ttft_p95_s=nearest_rank(ttft, 0.95) if ttft else None,
            itl_p95_s=median(each for each in itl if each is not None) if any(itl) else None,
        )
        return point, figure

    def _records(self, run: Run) -> list[Record]:
        return [record for name in self._promised for record in run.of(name)]

    def _class(self, name: str, runs: Sequence[Run]) -> ClassForecast:
        summaries = [run.result.summary(name) for run in runs]
        offered = sum(each.offered for each in summaries)
        refused = sum(r.outcome in (Outcome.SHED, Outcome.REFUSED) for run in runs for r in run.of(name))

        def figure(part: str, share: str, more_s: float = 0.0) -> Figure | None:
            found: list[Percentiles] = [getattr(each, part) for each in summaries]
            values: list[float | None] = [getattr(each, share) for each in found]
            known = [value + more_s for value in values if value is not None]
            return over_seeds(known) if known else None

        return ClassForecast(
            service_class=name,
            offered=offered,
            attainment=attainment([run.share(name) for run in runs]),
            refused=refused / offered if offered else 0.0,
            ttft_p50_s=figure("ttft", "p50", self._request_s),
            ttft_p95_s=figure("ttft", "p95", self._request_s),
            ttft_p99_s=figure("ttft", "p99", self._request_s),
            itl_p50_s=figure("itl", "p50"),
            itl_p95_s=figure("itl", "p95"),
            itl_p99_s=figure("itl", "p99"),
            e2e_p50_s=figure("e2e", "p50", self._request_s),
            e2e_p95_s=figure("e2e", "p95", self._request_s),
            e2e_p99_s=figure("e2e", "p99", self._request_s),
        )

    def _usage(self, runs: Sequence[Run], replicas: int) -> Usage:
        batches, kv = _samples(runs)
        working = [batch for batch in batches if batch]
        records = [record for run in runs for record in run.result.records if run.result.window.holds(record.arrived_s)]
        prompt = sum(record.prompt_tokens for record in records)
        cached = sum(record.cached_tokens for record in records)
        output = sum(record.output_tokens for record in records)
        batch = fmean(working) if working else 0.0
        per_output = (prompt - cached) / max(1, output)
        prompt_mean = prompt / max(1, len(records))
        work = Work(
            decodes=batch,
            context=prompt_mean + output / 2 / max(1, len(records)),
            prompt_tokens=batch * per_output,
            reads=batch * per_output * prompt_mean / 2,
        )
        return Usage(
            busy=len(working) / max(1, len(batches)),
            batch=batch,
            batch_peak=max(batches, default=0),
            step_tokens=batch * (1.0 + per_output),
            kv_mean=fmean(kv) if kv else 0.0,
            kv_peak=max(kv, default=0.0),
            prefix_hits=cached / max(1, prompt),
            parts=dict(self._parts(work)) if batch else {},
        )


def _sooner(workload: Workload, request_s: float) -> Workload:
    """Promises less what is spent before the scheduler sees a request."""

    def less(value: float | None) -> float | None:
        return None if value is None else max(1e-3, value - request_s)

    traffic = tuple(
        replace(
            kind,
            objective=Objective(
                ttft_s=less(kind.objective.ttft_s), itl_s=kind.objective.itl_s, e2e_s=less(kind.objective.e2e_s)
            ),
        )
        for kind in workload.traffic
    )
    return replace(workload, traffic=traffic)


def _samples(runs: Sequence[Run]) -> tuple[list[int], list[float]]:
    """Batches and shares of the KV cache, of each replica at each look in the window."""
    batches: list[int] = []
    kv: list[float] = []
    for run in runs:
        timeline, window = run.timeline, run.result.window
        for at_s, batch, used in zip(timeline.at_s, timeline.batch, timeline.kv_used, strict=True):
            if window.holds(at_s):
                batches.append(batch)
                kv.append(used)
    return batches, kv


def _user_rate(runs: Sequence[Run]) -> float:
    """Tokens a second of the median request, after its first."""
    found = [
        (record.output_tokens - 1) / (record.e2e_s - record.ttft_s)
        for run in runs
        for record in run.result.records
        if record.e2e_s is not None and record.ttft_s is not None and record.e2e_s > record.ttft_s
    ]
    return median(found) if found else 0.0


def _prompt_rate(run: Run) -> float:
    window = run.result.window
    tokens = sum(r.prompt_tokens for r in run.result.records if window.holds(r.arrived_s) and r.admitted)
    return tokens / window.seconds
