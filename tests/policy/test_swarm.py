"""Many seeds, each a world with other faults, another policy and other promises: answers, invariants, and an end once
the faults have stopped. A seed that fails is told; it belongs in ``regressions/seeds.txt`` from then on."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from headway.policy.events import FinishReason, RejectReason
from tests.policy.swarm import Swarm
from tests.policy.world import World

WORLDS, CHUNK = 10_000, 500
REGRESSIONS = Path(__file__).parent / "regressions" / "seeds.txt"


def run(seed: int) -> World:
    swarm = Swarm(seed)
    try:
        world = swarm.run()
        swarm.check()
    except Exception as error:
        error.add_note(f"seed {seed}; see it again with: python -m tests.policy.swarm {seed}")
        raise
    return world


def kept_seeds() -> list[int]:
    lines = REGRESSIONS.read_text().splitlines()
    return [int(line.split()[0]) for line in lines if line and not line.startswith("#")]


@pytest.mark.parametrize("seed", kept_seeds())
def test_a_seed_that_once_failed(seed: int) -> None:
    run(seed)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, WORLDS, CHUNK))
def test_every_seed_ends_with_the_right_answers(first: int) -> None:
    seen: Counter[str] = Counter()
    for seed in range(first, first + CHUNK):
        scheduler = run(seed).scheduler
        counters, classes = scheduler.counters, scheduler.ledger.classes.values()
        seen["preemptions"] += counters.preemptions
        seen["cached tokens"] += counters.cached_tokens
        seen["displaced"] += counters.displaced
        seen["stale results"] += counters.stale_results
        seen["refused"] += counters.rejected[RejectReason.OVERLOADED]
        seen["shed"] += counters.finished[FinishReason.SHED]
        seen["demoted"] += sum(each.demoted for each in classes)
        seen["late"] += sum(each.late for each in classes)
    assert min(seen.values()) > 10, f"the worlds have become too quiet to show anything: {seen}"
