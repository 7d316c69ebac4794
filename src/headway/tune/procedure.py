"""The whole procedure: batch, tokens in a step, rate, comparison. Each probe is a level, and shown as it happens."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from headway.bench.figures import Level
from headway.bench.loads import ClosedLoop, Load, OpenLoop
from headway.bench.record import Record
from headway.bench.window import life_of
from headway.policy.slo import TARGET_ATTAINMENT
from headway.tune.binding import binding
from headway.tune.comparison import COMPARED_RATES, common_window, compared, setting_name, spread
from headway.tune.engines import Engine, Interrupted, Knobs, interruptible
from headway.tune.knobs import TokensSearch, score
from headway.tune.observation import Observation, Verdict
from headway.tune.observe import Measurement, Promise, observe, with_rate_only
from headway.tune.probe import Found, Limits, Outcome, Probe
from headway.tune.process import StartError
from headway.tune.rate import rate_search
from headway.tune.result import Stage, StepTaken, Tuned, answer, step_taken
from headway.tune.saturation import Saturation
from headway.tune.scale import batch_rungs
from headway.tune.search import Search
from headway.tune.wording import sentence

Measure = Callable[[Load, int], Awaitable[tuple[Level, list[Record]]]]
"""One level: the load, and the seed of its prompts."""

SECONDS_MIN = 4.0
"""Of a probe: less is mostly filling up and draining."""
LIVES = 4.0
"""A probe lasts so many requests' lives at least: the first and the last of them are not measured."""
WARM_UP_S = 3.0
WARM_UP_AT_ONCE = 4
TOKENS_PROBES = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """``most``: the largest batch to try. ``probes``: of each search. ``seconds``: the longest a probe may take, unless
    its requests live too long for that; ``minutes``: all of it. ``tokens``: of a step, to begin with."""

    most: int = 512
    probes: int = 12
    seconds: float = 60.0
    minutes: float = 60.0
    finds_rate: bool = True
    compares: bool = True
    tokens: int | None = None


class Show(Protocol):
    def say(self, line: str) -> None: ...

    def stage(self, stage: Stage, title: str) -> None: ...

    def step(self, step: StepTaken) -> None: ...


@dataclass
class Procedure:
    """``tuned`` grows as it goes, and is whole after ``run``. ``keep`` is called after each level that is part of it.

    ``clock``: seconds, for the time limit. ``stop``: ends it after the level under way.
    """

    plan: Plan
    promise: Promise
    engine: Engine
    measure: Measure
    show: Show
    tuned: Tuned
    keep: Callable[[list[Record]], None]
    stop: asyncio.Event
    clock: Callable[[], float]
    at: dict[float, Observation] = field(default_factory=dict)
    """The last observation of each batch."""

    def __post_init__(self) -> None:
        self._began_s = self.clock()
        self._seed = 0
        self._life_s = 1.0
        self._rates: dict[float, float] = {}
        self._levels: dict[float, Level] = {}
        self._longest = 0
        self._reason: str | None = None
        self._tokens = self.plan.tokens

    async def run(self) -> Tuned:
        """Raises ``StartError`` or ``TargetError`` from the engine; what was measured is in ``tuned`` by then."""
        try:
            await self._run()
        except Interrupted:
            self._reason = self._reason or "interrupted"
        finally:
            if self._reason is not None:
                self.tuned.state, self.tuned.reason = "partial", self._reason
        return self.tuned

    async def _run(self) -> None:
        await self._set(self._first_batch())
        await self._warm_up(self._first_batch())
        outcome = await self._find_batch()
        if outcome.load is not None and self.engine.has_tokens and self._tokens is not None:
            measured = [load for load in self.at if load <= outcome.load]
            outcome = await self._tune_tokens(int(max(measured, default=min(self.at)))) or outcome
        self._bind(outcome)
        if outcome.load is not None and self.plan.finds_rate and self.promise.targets:
            rate = await self._find_rate(outcome.load)
            if rate is not None and self.engine.has_adaptive and self.plan.compares:
                await self._compare(int(outcome.load), rate)

    async def _set(self, batch: int) -> None:
        """The server to a batch; a new one is warmed up."""
        await interruptible(self.engine.use(Knobs(batch=batch, tokens=self._tokens)), self.stop)
        if self.engine.is_restarted and self._rates:
            await self._warm_up(batch)

    @property
    def longest(self) -> int:
        """Tokens of the longest prompt and answer together."""
        return self._longest

    def _first_batch(self) -> int:
        return 1 if self.engine.is_restarted else min(WARM_UP_AT_ONCE, self.plan.most)

    # ---- batch -------------------------------------------------------------------------------------------------------

    async def _find_batch(self, first: int = 1) -> Outcome:
        plan, targets = self.plan, self.promise.targets
        limits = Limits(probes=plan.probes, most=plan.most)
        rungs = [first, *(rung for rung in batch_rungs(plan.most) if rung > first)]
        search = Search(targets, limits, rungs) if targets else Saturation(limits, first=first)
        self.show.stage("batch", f"Requests at once, up to {plan.most} ({self.engine.how})")
        outcome = await self._search("batch", search)
        self.tuned.batch = answer(
            outcome,
            probes=len(search.steps),
            sentence=sentence("batch", outcome, plan.most),
            at=self.at.get(outcome.load or 0.0),
            targets=search.targets,
        )
        self.show.say(self.tuned.batch.sentence)
        return outcome

    async def _search(self, stage: Stage, search: Search | Saturation) -> Outcome:
        pools: dict[float, list[Measurement]] = {}
        while (probe := search.next()) is not None and self._may_go_on(search):
            pool = pools.setdefault(probe.load, [])
            if stage == "batch" and not await self._can_set(search, probe):
                continue
            level, records = await self._level(self._load_of(stage, probe))
            found = Measurement(level, records)
            seen = observe([*pool, found], self.promise)
            if seen.void is None:
                pool.append(found)
                if stage == "batch":
                    self._levels[probe.load] = level
                    self._learn(probe.load, seen, records)
            verdict = search.tell(probe, with_rate_only(seen) if stage == "rate" else seen)
            self._keep_step(stage, probe, seen, verdict, search.targets)
        outcome = search.outcome()
        if outcome.found is Found.CUT and outcome.reason is not None:
            self._reason = self._reason or outcome.reason
        return outcome

    async def _can_set(self, search: Search | Saturation, probe: Probe) -> bool:
        """Whether the server takes the probe's batch. One that starts with a smaller batch and not with this one (for
        want of memory) says something of this batch, and nothing of what was found below. Raises ``StartError`` before
        anything was measured."""
        try:
            await self._set(int(probe.load))
        except StartError as error:
            if not search.steps:
                raise
            why = str(error).splitlines()[0]
            self.show.say(f"batch {probe.load:g}: {error}")
            search.refuse(probe.load, f"with batch {probe.load:g} {why}")
            return False
        return True

    def _may_go_on(self, search: Search | Saturation) -> bool:
        if not self._has_time():
            search.stop(self._reason or "")
            return False
        return True

    def _has_time(self) -> bool:
        if self.stop.is_set():
            self._reason = self._reason or "interrupted"
        elif self.clock() - self._began_s > 60.0 * self.plan.minutes:
            self._reason = self._reason or f"{self.plan.minutes:g} minutes are over"
        return self._reason is None

    def _load_of(self, stage: Stage, probe: Probe) -> Load:
        if stage == "rate":
            return OpenLoop(rate=probe.load, seconds=self._seconds(probe.samples, probe.load))
        batch = int(probe.load)
        return ClosedLoop(concurrency=batch, seconds=self._seconds(probe.samples, self._rate_at(batch)))

    def _seconds(self, samples: int, rate: float) -> float:
        """For so many requests in the steady part, as far as one can know before."""
        wanted = samples / max(rate, 1e-3) + 2.0 * self._life_s
        return max(SECONDS_MIN, LIVES * self._life_s, min(wanted, self.plan.seconds))

    def _rate_at(self, batch: float) -> float:
        """Requests a second at a batch: less than in proportion to the nearest that was measured."""
        if not self._rates:
            return 1.0 / self._life_s
        near = min(self._rates, key=lambda load: abs(math.log(load / batch)))
        return self._rates[near] * math.sqrt(batch / near)

    def _learn(self, load: float, seen: Observation, records: Sequence[Record]) -> None:
        self.at[load] = seen
        self._rates[load] = seen.requests_per_s or 1.0 / self._life_s
        self._life_s = max(life_of(records), 1e-3)
        self._longest = max(self._longest, *(each.prompt_tokens + each.max_tokens for each in records))

    async def _warm_up(self, at_once: int) -> None:
        """What a server does but once (compile, allocate, learn) is not measured. Tells how long requests take."""
        seconds = min(max(WARM_UP_S, 1.5 * self._life_s), self.plan.seconds)
        self._seed += 1
        _, records = await self.measure(ClosedLoop(concurrency=at_once, seconds=seconds, ramp_s=0.0), self._seed)
        self._life_s = life_of(records) or self._life_s
        self._longest = max([self._longest, *(each.prompt_tokens + each.max_tokens for each in records)])

    async def _level(self, load: Load, setting: str = "") -> tuple[Level, list[Record]]:
        """``setting`` of the server, where levels of the same load are to be told apart."""
        self._seed += 1
        level, records = await self.measure(load, self._seed)
        if not setting and self._tokens is not None:
            setting = str(Knobs(tokens=self._tokens))
        level.name = f"{level.name}, {setting}" if setting else level.name
        self.tuned.run.levels.append(level)
        self.keep(records)
        return level, records

    def _keep_step(
        self, stage: Stage, probe: Probe, seen: Observation, verdict: Verdict, targets: dict[str, float]
    ) -> None:
        knobs = Knobs(batch=int(probe.load) if stage == "batch" else None, tokens=self._tokens)
        level = len(self.tuned.run.levels) - 1
        step = step_taken(stage, probe, seen, verdict, targets, level=level, knobs=knobs)
        self.tuned.steps.append(step)
        self.show.step(step)

    # ---- tokens in a step --------------------------------------------------------------------------------------------

    async def _tune_tokens(self, batch: int) -> Outcome | None:
        """More or fewer tokens in a step at the batch that was chosen. If other ones are better, the batch is searched
        once more from there: its outcome."""
        assert self._tokens is not None
        targets, first = self.promise.targets, self.at.get(float(batch))
        first_score = None if first is None else score(first, targets)
        if first_score is None:
            return None
        self.show.stage("tokens", f"Tokens in a step, at batch {batch}")
        before = self._tokens
        search = TokensSearch(before, first_score, least=batch, probes=TOKENS_PROBES)
        while (tokens := search.next()) is not None and self._has_time():
            self._tokens = tokens
            await self._set(batch)
            probe = Probe(load=float(tokens), samples=Limits().samples, why="the next step")
            seconds = self._seconds(2 * probe.samples, self._rate_at(batch))
            level, records = await self._level(ClosedLoop(concurrency=batch, seconds=seconds))
            seen = observe([Measurement(level, records)], self.promise)
            search.tell(tokens, score(seen, targets))
            self._keep_step("tokens", probe, seen, seen.verdict(targets), targets)
        self._tokens = self.tuned.tokens = search.best
        self.show.say(f"{search.best} tokens in a step are best at batch {batch}")
        if search.best == before or not targets or not self._has_time():
            return None
        return await self._find_batch_again(batch, before)

    async def _find_batch_again(self, first: int, tokens_before: int) -> Outcome | None:
        """With other tokens in a step, which make it another server. Without a point, all is as it was before."""
        was, at, levels = self.tuned.batch, self.at, self._levels
        self.at, self._levels = {}, {}
        found = await self._find_batch(first=first)
        if found.load is not None:
            return found
        self.tuned.batch, self.at, self._levels = was, at, levels
        self._tokens = self.tuned.tokens = tokens_before
        self.show.say(f"so it stays with {tokens_before} tokens in a step")
        return None

    # ---- rate --------------------------------------------------------------------------------------------------------

    async def _find_rate(self, batch: float) -> float | None:
        seen = self.at.get(batch) or self.at[min(self.at, key=lambda load: abs(load - batch))]
        if seen.requests_per_s <= 0.0:
            self.show.say(f"no request ended while batch {batch:g} was measured: there is no rate to start from")
            return None
        await self._set(int(batch))
        search = rate_search(seen.requests_per_s, probes=self.plan.probes)
        self.show.stage("rate", f"Requests a second, coming as they come, kept to {TARGET_ATTAINMENT:.0%}")
        outcome = await self._search("rate", search)
        seen_at = [each.observation for each in search.steps if each.probe.load == outcome.load]
        at = next((each for each in reversed(seen_at) if each.void is None), None)
        self.tuned.rate = answer(
            outcome,
            probes=len(search.steps),
            sentence=sentence("rate", outcome, search.limits.most),
            at=at,
            targets=search.targets,
        )
        self.show.say(self.tuned.rate.sentence)
        return outcome.load

    # ---- what binds, and what the adaptive policy does ---------------------------------------------------------------

    def _bind(self, outcome: Outcome) -> None:
        if outcome.found is Found.CLIENT:
            self.tuned.binding = {"resource": "client", "why": "beyond the point this client was the limit"}
            return
        if outcome.high is None and outcome.found is not Found.UNDECIDED:
            return  # nothing is known of what is beyond
        load = outcome.high if outcome.high is not None else max(self.at, default=None)
        level = None if load is None else self._levels.get(load)
        if level is None or load is None:
            return
        found = binding(level, outcome.part, at_once=int(load))
        self.tuned.binding = {"resource": found.resource.value, "why": found.why}

    async def _compare(self, batch: int, rate: float) -> None:
        """Every static point near the one chosen, and the adaptive policy, at the rate found and beyond it."""
        statics = spread(batch, [int(load) for load in self.at])
        self.show.stage("compare", f"The adaptive policy beside static batches {', '.join(map(str, statics))}")
        for share in COMPARED_RATES:
            load = OpenLoop(rate=share * rate, seconds=self._seconds(3 * Limits().samples, share * rate))
            window_s = common_window(load.seconds, self._life_s)
            for static in (None, *statics):
                if not self._has_time():
                    return
                await self._compare_one(static, load, window_s)

    async def _compare_one(self, static: int | None, load: OpenLoop, window_s: tuple[float, float]) -> None:
        if static is None:
            await interruptible(self.engine.use_adaptive(), self.stop)
        else:
            await self._set(static)
        setting = setting_name(static)
        found = Measurement(*await self._level(load, setting))
        if found.void is not None:
            self.show.say(f"{load.rate:.3g} requests/s, {setting}: does not count, {found.void}")
            return
        row = compared(static, load.rate, found, self.promise, window_s=window_s, level=len(self.tuned.run.levels) - 1)
        self.tuned.compared.append(row)
        kept = "-" if row.attainment is None else f"{row.attainment:.1%}"
        self.show.say(f"{load.rate:.3g} requests/s, {setting}: {kept} in SLO, {row.goodput:.3g} in SLO a second")
