import random

import pytest

from headway.bench.statistics import wilson
from headway.tune.observation import MISSES, Measured, Observation
from headway.tune.probe import Found, Outcome
from headway.tune.rate import rate_search


def run(closed: float, capacity: float, *, steep: float, seed: int) -> tuple[int, Outcome]:
    """A server that is late for 5 % at ``capacity``, and for more the steeper the rise."""
    rng, seen = random.Random(seed), dict[float, tuple[int, int]]()
    search = rate_search(closed, probes=12)
    while (probe := search.next()) is not None:
        late, all_of_them = seen.get(probe.load, (0, 0))
        share = min(1.0, 0.05 * (probe.load / capacity) ** steep)
        late += sum(rng.random() < share for _ in range(probe.samples))
        all_of_them += probe.samples
        seen[probe.load] = late, all_of_them
        low, high = wilson(late, all_of_them)
        parts = {MISSES: Measured(late / all_of_them, low, high)}
        search.tell(probe, Observation(parts=parts, samples=all_of_them))
    return len(search.steps), search.outcome()


def test_the_largest_rate_is_found_above_and_far_below_what_the_closed_loop_got_done() -> None:
    missed = []
    for seed in range(60):
        rng = random.Random(seed)
        closed = 10 ** rng.uniform(-1, 3)
        capacity = closed * rng.uniform(0.3, 1.8)
        probes, outcome = run(closed, capacity, steep=rng.choice((5, 10, 30)), seed=seed)
        assert probes <= 12
        assert outcome.load is not None
        if abs(outcome.load - capacity) > 0.05 * capacity:
            missed.append((seed, capacity / closed, outcome))
    assert len(missed) <= 2, missed


def test_a_server_that_never_keeps_it_has_no_rate_worth_naming() -> None:
    _, outcome = run(10.0, 1e-6, steep=1, seed=1)
    assert outcome.found in (Found.NONE, Found.UNDECIDED)
    assert (outcome.load or 0.0) <= 0.2


@pytest.mark.parametrize("rate", [0.0, -1.0, float("inf"), float("nan")])
def test_there_must_be_a_rate_to_start_from(rate: float) -> None:
    with pytest.raises(ValueError, match="above 0"):
        rate_search(rate, probes=5)
