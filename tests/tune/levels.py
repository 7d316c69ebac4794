"""Levels as a server would give them whose latency is known at every load: for the procedure, without a server."""

from __future__ import annotations

import random
from dataclasses import asdict

from headway.bench.figures import ClientHealth, Level, Scraped
from headway.bench.loads import ClosedLoop, Load
from headway.bench.metrics import measure
from headway.bench.record import Outcome, Record
from headway.policy.slo import Objective

TOKENS = 8


class FakeServer:
    """Gaps of ``gap_s`` times (1 + requests at once / ``at``), first tokens after two of them. ``bound``: from so many
    at once on the client is at its limit. In an open loop, what is beyond ``capacity`` requests a second is late."""

    def __init__(self, objective: Objective, *, at: float = 20.0, gap_s: float = 0.01, capacity: float = 50.0) -> None:
        self._objective, self._at, self.gap_s, self._capacity = objective, at, gap_s, capacity
        self.bound: float | None = None
        self.dies_at: float | None = None
        self.loads: list[Load] = []

    async def measure(self, load: Load, seed: int) -> tuple[Level, list[Record]]:
        self.loads.append(load)
        rng = random.Random(seed)
        at_once = load.concurrency if isinstance(load, ClosedLoop) else load.rate * TOKENS * self.gap_s
        gap_s = self.gap_s * (1.0 + at_once / self._at)
        rate = load.concurrency / (gap_s * (TOKENS + 1)) if isinstance(load, ClosedLoop) else load.rate
        late_s = 0.0 if isinstance(load, ClosedLoop) or load.rate <= self._capacity else 10.0
        records = [
            _record(index, index / rate, gap_s * rng.uniform(0.97, 1.0), late_s)
            for index in range(int(rate * load.seconds))
        ]
        level = Level(
            name=load.name,
            load=asdict(load),
            seed=seed,
            elapsed_s=load.seconds,
            window_s=(0.0, load.seconds),
            classes=measure(records, (0.0, load.seconds), {}, self._objective),
            client=ClientHealth(bound="the event loop lagged" if self.bound and at_once >= self.bound else None),
            scraped=Scraped(engine="fake"),
        )
        if self.dies_at is not None and at_once >= self.dies_at:
            level.state, level.reason = "partial", "the server went away"
        return level, records


def _record(index: int, at_s: float, gap_s: float, late_s: float) -> Record:
    chunks = [at_s + late_s + gap_s * (number + 2) for number in range(TOKENS)]
    return Record(
        index=index,
        intended_s=at_s,
        sent_s=at_s,
        ended_s=chunks[-1],
        chunk_s=chunks,
        chunk_tokens=[1] * TOKENS,
        prompt_tokens=100,
        max_tokens=TOKENS,
        outcome=Outcome.OK,
    )
