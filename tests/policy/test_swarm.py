"""Many seeds, each a world with other faults: answers, invariants, and an end once the faults have stopped."""

from __future__ import annotations

from tests.policy.swarm import Swarm

SEEDS = 400


def test_every_seed_ends_with_the_right_answers() -> None:
    preemptions = cached_tokens = displaced = 0
    for seed in range(SEEDS):
        swarm = Swarm(seed)
        try:
            world = swarm.run()
            swarm.check()
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}") from error
        counters = world.scheduler.counters
        preemptions += counters.preemptions
        cached_tokens += counters.cached_tokens
        displaced += counters.displaced
    assert min(preemptions, cached_tokens, displaced) > 100, "the worlds have become too quiet to show anything"
