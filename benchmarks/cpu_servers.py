"""All servers on one shape: started once, idle but for the one that is measured, measured in turns."""

from __future__ import annotations

import argparse
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import TypeVar

from benchmarks.cpu_figures import (
    Figures,
    Sample,
    Work,
    beyond_limit,
    capacity_figures,
    comparison,
    point_figures,
    typical,
)
from benchmarks.cpu_load import PROMPT, Offered, Point, offer, run_point, traffic, window_s
from benchmarks.cpu_peers import Entry, Model
from benchmarks.cpu_probe import Probe, Speeds
from benchmarks.cpu_rates import Bisection, Recheck, Search
from benchmarks.machine import cpu_s, memory_mb, others_s
from headway.bench.call import Call
from headway.bench.launch import RunningServer
from headway.bench.sender import ReplyError
from headway.policy.slo import Objective

WARM_UP = (
    Point(streams=1, prompt_tokens=512, output_tokens=8, requests=1),
    Point(streams=8, prompt_tokens=128, output_tokens=16, requests=8),
)
LOW_SHARE, HIGH_SHARE = 0.1, 1.1
"""Between which shares of what a server gets done in closed loop its capacity is looked for."""
MEAN_OUTPUT = 57.0
"""Tokens, of the conversations."""
RECHECKS = 3
"""Windows of a later round, at most."""
SETTLE_S = 0.3
SETTLE_MAX_S = 6.0
SETTLED_CORES = 0.05

Value = TypeVar("Value")


class TimeIsUp(Exception):
    """The time given to the whole comparison is over."""


class Comparison:
    """Of ``servers``, one of which is measured at a time. ``until_s`` (``time.monotonic``): no measurement begins after
    it; raises ``TimeIsUp``, and what was measured until then has its figures."""

    def __init__(
        self,
        model: Model,
        servers: Mapping[Entry, RunningServer],
        probe: Probe,
        objective: Objective,
        arguments: argparse.Namespace,
        until_s: float,
    ) -> None:
        self._model = model
        self._servers = servers
        self._probe = probe
        self._objective = objective
        self._arguments = arguments
        self._until_s = until_s
        self._last: Speeds | None = None
        self._samples: dict[tuple[Entry, Point], list[Sample]] = defaultdict(list)
        self._kept: dict[Entry, list[float]] = defaultdict(list)
        self._offered: dict[Entry, list[Offered]] = defaultdict(list)
        self._windows: list[Sample] = []
        self._failed: dict[Entry, str] = {}

    def measure(self, points: list[Point], rounds: int) -> None:
        """Every point and, with ``capacity`` among the phases, the largest rate that is kept, in every round."""
        for entry in self._servers:
            for point in WARM_UP:
                self._try(entry, lambda entry=entry, point=point: self._closed(entry, point, 0))  # type: ignore[misc]
        for turn in range(rounds):
            for place, point in enumerate(points):
                for entry in self._order(turn + place):
                    self._point(entry, point, turn)
            if "capacity" in self._arguments.phases.split(","):
                self._capacity(turn)

    def figures(self, reached: Mapping[str, float]) -> Figures:
        """Keys begin with the shape and the server. ``reached``: what matrix products reach of the probed rate, by
        precision."""
        if not self._samples and not self._windows:
            return {}
        samples = [each for some in self._samples.values() for each in some] + self._windows
        usual = typical(samples)
        of: dict[Entry, Figures] = {entry: {} for entry in self._servers}
        for (entry, point), some in self._samples.items():
            work = Work.of(self._model.config, entry.precision)
            of[entry] |= point_figures(point, some, work, usual, reached[entry.precision])
        for entry, rounds in self._kept.items():
            of[entry] |= capacity_figures(rounds, self._offered[entry])
        for entry, server in self._servers.items():
            of[entry]["start_to_ready_s"] = round(server.ready_s, 2)
            of[entry] |= {"failed": self._failed[entry]} if entry in self._failed else self._memory(entry, server)
        shape = self._model.name
        assert self._objective.ttft_s is not None
        beyond = {
            precision: beyond_limit(
                Work.of(self._model.config, precision), usual, reached[precision], self._objective.ttft_s, PROMPT
            )
            for precision in sorted({entry.precision for entry in self._kept})
        }
        return {
            **{f"{shape}_{entry.name}_{key}": value for entry, known in of.items() for key, value in known.items()},
            **{f"{shape}_{key}": value for key, value in comparison(of).items()},
            **{f"{shape}_{each}_conversations_beyond_limit": round(share, 3) for each, share in beyond.items()},
            f"{shape}_windows_marked": sum(each.is_marked(usual) for each in self._windows),
            f"{shape}_probe_read_gb_s": round(usual.read, 1),
            f"{shape}_probe_bf16_gop_s": round(usual.bf16, 1),
            f"{shape}_probe_int8_gop_s": round(usual.int8, 1),
        }

    def _memory(self, entry: Entry, server: RunningServer) -> Figures:
        """For Headway also what there is besides weights and KV pool, by PSS."""
        config, memory = self._model.config, memory_mb(server.process.pid)
        if not entry.has_promises:
            return dict(memory)
        weights_mb = Work.of(config, entry.precision).read_s(Speeds(1e-3, 1.0, 1.0))
        kv_mb = self._arguments.kv_tokens * 2 * config.layers * config.kv_heads * config.head_dim * 2 / 1e6
        besides = memory["pss_mb"] - weights_mb - kv_mb
        known: Figures = {**memory, "weights_mb": round(weights_mb, 1), "kv_pool_mb": round(kv_mb, 1)}
        return known if besides < 0.0 else known | {"besides_mb": round(besides)}  # not all of the pool is there yet

    def _order(self, turn: int) -> list[Entry]:
        entries = list(self._servers)
        first = turn % len(entries)
        return entries[first:] + entries[:first]

    # ---- one measurement ---------------------------------------------------------------------------------------------

    def _try(self, entry: Entry, work: Callable[[], Value]) -> Value | None:
        """None if the server fails, now or before: it is left out from then on."""
        if time.monotonic() > self._until_s:
            raise TimeIsUp
        if entry in self._failed:
            return None
        try:
            value = work()
        except ReplyError as error:
            self._failed[entry] = str(error)
        else:
            status = self._servers[entry].process.poll()
            if status is None:
                return value
            self._failed[entry] = f"the server has ended, with status {status}"
        self._say(entry, f"is left out from here on: {self._failed[entry]}")
        return None

    def _watched(
        self, entry: Entry, work: Callable[[], Value], values: Callable[[Value], Mapping[str, float]]
    ) -> tuple[Value, Sample]:
        """With the machine's speed before and after, and what else it did meanwhile."""
        process = self._servers[entry].process.pid
        before = self._last or self._probe.speeds()
        start_s, start_others_s = time.perf_counter(), others_s(process)
        value = work()
        others = (others_s(process) - start_others_s) / (time.perf_counter() - start_s)
        self._settle(entry)
        self._last = self._probe.speeds()
        return value, Sample(values(value), before, self._last, max(0.0, others))

    def _closed(self, entry: Entry, point: Point, seed: int) -> dict[str, float]:
        calls = point.calls(self._model.config.vocab_size, seed, has_promises=entry.has_promises)
        return run_point(self._servers[entry].port, point, calls)

    def _point(self, entry: Entry, point: Point, turn: int) -> None:
        seed = self._arguments.seed + turn + 1
        done = self._try(
            entry, lambda: self._watched(entry, lambda: self._closed(entry, point, seed), lambda values: values)
        )
        if done is not None:
            values, sample = done
            self._samples[entry, point].append(sample)
            self._say(
                entry,
                f"{point}: TTFT {values['ttft_ms']:.0f} ms, ITL {values['itl_ms']:.1f} ms, "
                f"{values['output_tok_s']:.0f} tok/s; {sample.after}, others {sample.others:.2f} cores",
            )

    # ---- capacity ----------------------------------------------------------------------------------------------------

    def _capacity(self, turn: int) -> None:
        """Every server's search, a window of each in turn. If the time is up, a first search that isn't over counts
        with what it has."""
        searches = {entry: self._search(entry) for entry in self._servers if entry not in self._failed}
        try:
            self._run_searches(searches, turn)
        finally:
            for entry, search in searches.items():
                if entry not in self._failed and (search.next_rate() is None or (turn == 0 and search.kept)):
                    self._kept[entry].append(search.kept)
                    self._say(entry, f"keeps the promise at {search.kept:.2f} requests/s")

    def _run_searches(self, searches: Mapping[Entry, Search], turn: int) -> None:
        step = 0
        while any(search.next_rate() for entry, search in searches.items() if entry not in self._failed):
            for entry in self._order(turn + step):
                if entry in searches and entry not in self._failed and (rate := searches[entry].next_rate()):
                    is_kept = self._window(entry, rate)
                    if is_kept is not None:
                        searches[entry].note(rate, is_kept=is_kept)
            step += 1

    def _search(self, entry: Entry) -> Search:
        closed = [
            sample.values["output_tok_s"] / MEAN_OUTPUT
            for (known, _), some in self._samples.items()
            if known == entry
            for sample in some
        ]
        top = max(closed, default=self._arguments.rate)
        low = LOW_SHARE * top
        if kept := self._kept.get(entry):
            return Recheck(kept[-1], low, RECHECKS)
        return Bisection(low, HIGH_SHARE * top, self._arguments.windows)

    def _window(self, entry: Entry, rate: float) -> bool | None:
        """Whether the promise was kept; None: the server fails. The same requests for each server's first window, other
        ones for the second: most keep the prompts they have seen."""
        number = len(self._offered[entry]) + 1
        seconds, seed = window_s(rate, self._arguments.seconds), self._arguments.seed + 1000 * number
        told = traffic(self._model.config.vocab_size, self._objective, has_promises=entry.has_promises)
        calls: list[Call] = told.schedule("poisson", rate, seconds, seed)
        port = self._servers[entry].port

        def work() -> Offered:
            return offer(port, rate, calls, self._objective, seconds, whole=entry.has_promises)

        done = self._try(entry, lambda: self._watched(entry, work, lambda _: {}))
        if done is None:
            return None
        offered, sample = done
        self._windows.append(sample)
        self._offered[entry].append(offered)
        self._say(entry, _line(offered))
        return offered.is_kept

    def _settle(self, entry: Entry) -> None:
        """Until the server is idle: some go on with what nobody waits for any more, or have threads that wait by
        spinning, and would take that time from the next one."""
        process, until_s = self._servers[entry].process.pid, time.monotonic() + SETTLE_MAX_S
        while time.monotonic() < until_s:
            before_s = cpu_s(process)
            time.sleep(SETTLE_S)
            if cpu_s(process) - before_s < SETTLED_CORES * SETTLE_S:
                return

    def _say(self, entry: Entry, what: str) -> None:
        print(f"  {self._model.name} {entry.name}: {what}", file=sys.stderr, flush=True)


def _line(offered: Offered) -> str:
    verdict = offered.verdict
    how = "" if offered.is_whole else ", ended early"
    return (
        f"{offered.rate:.2f} requests/s: {verdict.in_slo} of {verdict.offered} in SLO, {verdict.refused} refused{how}; "
        f"p95 TTFT {1000 * verdict.ttft.p95_s:.0f} ms, ITL {1000 * verdict.itl.p95_s:.0f} ms"
    )
