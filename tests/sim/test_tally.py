"""Figures kept while a run goes on are those of its records, within the error that is stated."""

from __future__ import annotations

from dataclasses import asdict
from random import Random

import pytest

from headway.sim import tally as tally_module
from headway.sim.cluster import simulate_cluster, simulate_into
from headway.sim.lengths import Lognormal
from headway.sim.record import nearest_rank
from headway.sim.result import Window
from headway.sim.sketch import BUCKETS_MAX, ERROR, LEAST, MOST, Sketch
from headway.sim.tally import Tally
from tests.sim.machines import machine, static, workload


@pytest.mark.parametrize("sigma", [0.01, 1.0, 2.0])
def test_quantiles_of_a_sketch_are_off_by_less_than_its_error(sigma: float) -> None:
    random, sketch = Random(1), Sketch()
    values = [random.lognormvariate(-3.0, sigma) for _ in range(5000)]
    sketch.add_all(values)
    for share in (0.01, 0.5, 0.95, 0.99, 1.0):
        expected = nearest_rank(sorted(values), share)
        assert sketch.quantile(share) == pytest.approx(expected, rel=1.001 * ERROR)


def test_a_sketch_is_bounded_and_takes_what_no_bucket_is_for() -> None:
    sketch = Sketch()
    sketch.add_all([10.0**exponent for exponent in range(-30, 30)] * 3 + [0.0])
    assert len(sketch._counts) <= BUCKETS_MAX
    assert sketch.quantile(0.0) == pytest.approx(LEAST, rel=ERROR)
    assert sketch.quantile(1.0) == pytest.approx(MOST, rel=ERROR)
    with pytest.raises(ValueError, match="no values"):
        Sketch().quantile(0.5)


def test_a_tally_says_what_the_records_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tally_module, "GAPS_OF_EVERY", 1)
    load = workload(Lognormal(40, 1.0, 1, 300), Lognormal(20, 1.0, 1, 100))
    machines, makers, window = [machine(token_s=1e-4)] * 2, [static(64, max_queued_requests=5)] * 2, Window(1.0, 9.0)
    exact = simulate_cluster(load, machines, makers, rate=80.0, seconds=10.0, window=window)
    tally = Tally(window)
    seconds, steps = simulate_into(tally, load, machines, makers, rate=80.0, seconds=10.0)
    assert (seconds, steps) == (exact.seconds, exact.steps)
    [name] = tally.classes
    expected, said = asdict(exact.summary(name)), asdict(tally.summary(name))
    for part in ("ttft", "itl", "e2e"):
        assert said.pop(part) == pytest.approx(expected.pop(part), rel=1.001 * ERROR)
    assert said == expected
    assert expected["shed"] > 0


def test_a_tally_of_nothing_has_no_shares() -> None:
    summary = Tally(Window(0.0, 1.0)).summary("batch")
    assert (summary.offered, summary.attainment, summary.ttft.p95) == (0, None, None)
