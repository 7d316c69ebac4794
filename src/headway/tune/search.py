"""The search for the largest load at which a promise holds, as a state machine: no clock, no network, no randomness.

    while (probe := search.next()) is not None:
        search.tell(probe, measure(probe))
    search.outcome()

It climbs the visible steps (``rungs``) until a target is crossed and then narrows down. Steps that are surely fine are
skipped, and said to be. Every probe is chosen so that those that are left suffice whatever it finds
(``Scale.between``); where that leaves a choice, the measured curve makes it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from headway.tune.crossing import Point, crossing
from headway.tune.observation import SHARES, Observation, Verdict
from headway.tune.probe import REFUSED_MAX, VOID_MAX, Found, Limits, Outcome, Probe, Step
from headway.tune.scale import DOUBLING_FROM, Scale

LEAN = 0.8
"""An undecided value within this share of its target lets the climb go on: a pass further up decides it as well."""
LEAP_MAX = 8
"""How many times further than anything measured a step may lead."""
SLOPE_FACTOR = 2.0
"""A step is surely fine if values could grow so many times faster than they did and stay within their targets."""
OVERSHOOT = 1.25
"""A step leads so far beyond the load at which the line through the last two points crosses, not further."""
MORE = 4
"""How many times as many samples are asked for when they don't decide, and near the crossing from the start."""
FALL = 0.75
"""Where the first load fails, the next is this share of it."""
MORE_MAX = 2
UNDECIDED_MAX = 3
PROBES_ENOUGH = 64
"""To come anywhere from anywhere."""
BOUND_MAX = 3
"""Times that the client may be at its limit at one load: then nothing from there on is tried."""
BOUND_SHARE = 0.5
"""Of the probes; more such runs end the search. They don't count as probes."""


class Search:
    """``targets``: the most that each part of an observation may be. ``rungs``: the steps of the climb, ascending."""

    def __init__(
        self,
        targets: Mapping[str, float],
        limits: Limits,
        rungs: Sequence[float],
        *,
        scale: Scale | None = None,
        first: float | None = None,
    ) -> None:
        if not targets:
            raise ValueError("a search needs at least one target")
        self.targets = dict(targets)
        self.limits = limits
        self.steps: list[Step] = []
        self._rungs = [rung for rung in rungs if rung <= limits.most]
        self._first = self._rungs[0] if first is None else first
        self._scale = scale or Scale()
        self._seen: dict[float, Observation] = {}
        self._most = limits.most
        self._voids = 0
        self._bound: list[float] = []
        self._bound_by: str | None = None
        self._refusals = 0
        self._refused_by: str | None = None
        self._stopped: str | None = None

    # ---- what is known -----------------------------------------------------------------------------------------------

    @property
    def left(self) -> int:
        """Probes that there may still be."""
        return self.limits.probes - (len(self.steps) - len(self._bound))

    def _loads(self, *verdicts: Verdict) -> list[float]:
        return sorted(load for load, seen in self._seen.items() if seen.verdict(self.targets) in verdicts)

    @property
    def high(self) -> float | None:
        """The smallest load at which the promise is broken."""
        return min(self._loads(Verdict.FAIL), default=None)

    def _below_high(self, loads: Sequence[float]) -> list[float]:
        high = self.high
        return [load for load in loads if high is None or load < high]

    @property
    def low(self) -> float | None:
        """The largest load at which it holds."""
        return max(self._below_high(self._loads(Verdict.PASS)), default=None)

    def _leans(self, load: float) -> bool:
        return self._seen[load].load_of_targets(self.targets) <= LEAN

    @property
    def _floor(self) -> float | None:
        """The largest load at which it holds or, as far as one can see, does."""
        leaning = [load for load in self._loads(Verdict.UNDECIDED) if self._leans(load)]
        return max([*self._below_high(self._loads(Verdict.PASS)), *self._below_high(leaning)], default=None)

    @property
    def _zone(self) -> list[float]:
        """Undecided loads between what holds and what doesn't."""
        floor = self._floor or 0.0
        return [load for load in self._below_high(self._loads(Verdict.UNDECIDED)) if load > floor]

    def crossing(self) -> float | None:
        """Where the first of the targets is crossed, by the measured curves."""
        found = [self._crossing_of(part) for part in self.targets]
        return min((each for each in found if each is not None), default=None)

    def _crossing_of(self, part: str) -> float | None:
        points = [
            Point(load, seen.parts[part].value, seen.parts[part].deviation)
            for load, seen in sorted(self._seen.items())
            if part in seen.parts
        ]
        return crossing(points, self.targets[part])

    # ---- the procedure -----------------------------------------------------------------------------------------------

    def tell(self, probe: Probe, observation: Observation) -> Verdict:
        """What the probe saw. What is void becomes no bound: the load is tried once more, and if it was the client
        every time, nothing from there on is tried."""
        verdict = observation.verdict(self.targets)
        self.steps.append(Step(probe=probe, observation=observation, verdict=verdict))
        if verdict is not Verdict.VOID:
            self._seen[probe.load] = observation
        elif observation.is_client_bound:
            self._bound.append(probe.load)
            self._bound_by = observation.void
            if self._bound.count(probe.load) >= BOUND_MAX:
                self._stay_below(probe.load)
            if len(self._bound) > BOUND_SHARE * self.limits.probes:
                self.stop(observation.void or "")
        else:
            self._voids += 1
            if self._voids >= VOID_MAX:
                self.stop(observation.void or "")
        return verdict

    def refuse(self, load: float, reason: str) -> None:
        """The server can't be set to ``load``: nothing from there on is tried."""
        self._refusals += 1
        self._refused_by = reason
        self._stay_below(load)
        if self._refusals >= REFUSED_MAX:
            self.stop(reason)

    def _stay_below(self, load: float) -> None:
        middle = (self._scale.position(self._floor or 0.0) + self._scale.position(load)) / 2
        self._most = min(self._most, math.floor(self._scale.load(middle) / self._scale.grain) * self._scale.grain)

    def stop(self, reason: str) -> None:
        """No further probes: interrupted, or out of time."""
        self._stopped = self._stopped or reason

    def next(self) -> Probe | None:
        if self.left <= 0 or self._stopped is not None:
            return None
        if self.steps and self.steps[-1].verdict is Verdict.VOID and self.steps[-1].probe.load <= self._most:
            return replace(self.steps[-1].probe, why="once more: the last one does not count", skipped=())
        if not self._seen:
            return self._baseline()
        return self._more_where_undecided() or self._climb() or self._narrow() or self._more_at_the_end()

    def _baseline(self) -> Probe | None:
        if self._first > self._most:
            return None
        return Probe(load=self._first, samples=self.limits.samples, why="the baseline")

    def _more_where_undecided(self) -> Probe | None:
        """If the last probe was undecided near the target and the search can afford it."""
        load = self.steps[-1].probe.load
        return self._more(load) if load in self._zone and self.left > 1 else None

    def _more(self, load: float) -> Probe | None:
        more = sum(step.probe.is_more and step.probe.load == load for step in self.steps)
        if load not in self._seen or self._seen[load].samples >= self.limits.samples_max or more >= MORE_MAX:
            return None
        samples = max(self.limits.samples, min((MORE - 1) * self._seen[load].samples, self.limits.samples_max))
        return Probe(load=load, samples=samples, why="more samples: undecided so far", is_more=True)

    def _climb(self) -> Probe | None:
        """The first step that is not surely fine, as long as nothing has failed."""
        floor = self._floor
        if self.high is not None or floor is None or self._zone or floor >= self._most:
            return None
        above = [rung for rung in self._rungs if floor < rung < self._most] + [self._most]
        wanted = next((rung for rung in above if rung > LEAP_MAX * floor or not self._is_fine(rung)), self._most)
        line = self._line_crossing()
        if line is not None and wanted > DOUBLING_FROM:
            wanted = min(wanted, max(OVERSHOOT * line, self._scale.last_near(floor)))
        load = min(self._scale.between(floor, self._most + self._scale.grain, wanted, self.left) or wanted, self._most)
        skipped = tuple(rung for rung in above if rung < load)
        why = "the next step" if not skipped else self._why_skipped(skipped[-1])
        return Probe(load=load, samples=self.limits.samples, why=why, skipped=skipped)

    def _why_skipped(self, rung: float) -> str:
        return f"steps up to {rung:.4g} are {'surely fine' if self._is_fine(rung) else 'left out to save probes'}"

    def _narrow(self) -> Probe | None:
        """Between what holds and what doesn't: at the crossing; around loads that stay undecided."""
        floor, high, zone = self._floor, self.high, self._zone
        if len(zone) >= UNDECIDED_MAX:
            return None
        low, top = floor or 0.0, self._most + self._scale.grain if high is None else high
        if zone:
            return self._around(low, zone[0], zone[-1], top)
        if high is None or self._scale.is_near(low, high):
            return None
        return self._probe(low, high, self._aim(low, high), f"between {low:.4g} and {high:.4g}")

    def _aim(self, low: float, high: float) -> float:
        """A little below the crossing; if that is next to a bound, where the other answer would end the search."""
        scale = self._scale
        middle = scale.load((scale.position(low) + scale.position(high)) / 2)
        found = self.crossing()
        if found is None or not low < found < high:
            return middle if low > 0.0 else FALL * high
        place = scale.position(found)
        if place - scale.position(low) <= 1.0:
            return scale.last_near(low)
        if scale.position(high) - place <= 1.0:
            return scale.first_near(high)
        return scale.load(place - 0.5)

    def _around(self, low: float, from_: float, to: float, high: float) -> Probe | None:
        scale = self._scale
        below = scale.position(from_) - scale.position(low)
        above = scale.position(high) - scale.position(to)
        why = f"next to {from_:.4g}, which stays undecided"
        if not scale.is_near(low, from_) and (below >= above or scale.is_near(to, high)):
            return self._probe(low, from_, scale.load(scale.position(from_) - min(2.0, below / 2)), why, PROBES_ENOUGH)
        if not scale.is_near(to, high):
            return self._probe(to, high, scale.load(scale.position(to) + min(2.0, above / 2)), why, PROBES_ENOUGH)
        return None

    def _probe(self, low: float, high: float, wanted: float, why: str, probes: int | None = None) -> Probe | None:
        load = self._scale.between(low, high, wanted, self.left if probes is None else probes)
        samples = min(MORE * self.limits.samples, self.limits.samples_max)
        return None if load is None else Probe(load=load, samples=samples, why=why)

    def _more_at_the_end(self) -> Probe | None:
        """What is left goes to what decides: the point that was only seen to hold, then the undecided ones."""
        floor = self._floor
        candidates = [floor] if floor is not None and floor != self.low else []
        return next((more for load in [*candidates, *self._zone] if (more := self._more(load)) is not None), None)

    # ---- extrapolation -----------------------------------------------------------------------------------------------

    def _is_fine(self, load: float) -> bool:
        """Whether every time surely stays within its target at ``load``, by how it grew so far.

        After the first probe: if it would even were requests served one after the other.
        """
        times = [part for part in self.targets if part not in SHARES]
        return bool(times) and all(self._upper(part, load) <= self.targets[part] for part in times)

    def _last_two(self, part: str) -> tuple[float | None, float]:
        """The largest load that was measured, and one before it that is far enough away to tell a slope."""
        loads = [load for load in sorted(self._seen) if part in self._seen[load].parts]
        before = [load for load in loads if load <= loads[-1] / 1.5]
        return (before[-1] if before else None), loads[-1]

    def _upper(self, part: str, load: float) -> float:
        if not any(part in seen.parts for seen in self._seen.values()):
            return math.inf
        before, last = self._last_two(part)
        at_last = self._seen[last].parts[part]
        high = at_last.high if at_last.high < math.inf else OVERSHOOT * at_last.value
        if before is None:
            return high * load / last
        rise = max(high - self._seen[before].parts[part].value, 0.0)
        return high + SLOPE_FACTOR * rise / (last - before) * (load - last)

    def _line_crossing(self) -> float | None:
        """Where the lines through the last two points of each part cross the first target."""
        found: list[float] = []
        for part, target in self.targets.items():
            if part in SHARES or not any(part in seen.parts for seen in self._seen.values()):
                continue
            before, last = self._last_two(part)
            if before is None:
                continue
            value = self._seen[last].parts[part].value
            slope = (value - self._seen[before].parts[part].value) / (last - before)
            if slope > 0.0:
                found.append(last + (target - value) / slope)
        return min(found, default=None)

    # ---- the answer --------------------------------------------------------------------------------------------------

    def outcome(self) -> Outcome:
        low, high, floor = self.low, self.high, self._floor
        estimate = self.crossing()
        found, load, reason = Found.CUT, low, self._stopped
        if low is not None and high is not None and self._scale.is_near(low, high):
            found = Found.POINT
        elif low is not None and low >= self.limits.most:
            found = Found.OPEN
        elif high is not None and floor is None and not self._zone:
            # Where the search ended on its way down, what is below was never tried.
            found = Found.NONE if self._scale.is_near(0.0, high) else Found.CUT
        elif self._stopped is not None:
            pass
        elif self._is_bound_at(floor):
            found = Found.CLIENT if self._refused_by is None else Found.SERVER
            load, reason = floor, self._refused_by or self._bound_by
        elif self._seen:
            found, load = Found.UNDECIDED, self._estimate(estimate)
        else:
            reason = self._bound_by or "nothing was measured"
        return Outcome(found=found, load=load, low=low, high=high, crossing=estimate, part=self._part(), reason=reason)

    def _is_bound_at(self, floor: float | None) -> bool:
        """Whether all that the client can measure, and the server be set to, was seen to hold."""
        is_cut = self._most < self.limits.most and self.high is None
        return is_cut and floor is not None and self._scale.is_near(floor, self._most)

    def _estimate(self, crossing: float | None) -> float | None:
        """The best guess where nothing is sure."""
        floor, high = self._floor, self.high
        if crossing is None:
            return floor
        load = math.floor(crossing / self._scale.grain) * self._scale.grain if self._scale.whole else crossing
        load = max(load, floor or 0.0)
        return load if high is None else min(load, high - self._scale.grain if self._scale.whole else high)

    def _part(self) -> str | None:
        """What is crossed first: by the curves, else at the smallest load that fails, else what is nearest to it."""
        crossings = {part: self._crossing_of(part) for part in self.targets}
        known = {part: at for part, at in crossings.items() if at is not None}
        if known:
            return min(known, key=lambda part: known[part])
        last = self.high if self.high is not None else max(self._seen, default=None)
        return None if last is None else self._seen[last].worst(self.targets)
