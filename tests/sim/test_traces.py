"""The packaged samples are like the traces that they are of."""

from __future__ import annotations

from itertools import islice, pairwise
from statistics import fmean, pstdev

import pytest

from headway.sim.traces import load
from headway.traces.packaged import MOONCAKE_BUCKET_S, TRACES

WHOLE = {  # requests a second, mean prompt, mean output; computed from the whole files
    "azure_conv": (5.530, 1154.7, 211.1),
    "azure_code": (2.567, 2047.8, 27.9),
    "mooncake_conversation": (3.401, 12035.0, 342.6),
}


@pytest.mark.parametrize("name", TRACES)
def test_rate_and_mean_lengths_are_those_of_the_whole(name: str) -> None:
    rows = load(name).rows
    rate, prompt, output = WHOLE[name]
    assert (len(rows) - 1) / (rows[-1].arrived_s - rows[0].arrived_s) == pytest.approx(rate, rel=0.1)
    assert fmean(row.size.prompt_tokens for row in rows) == pytest.approx(prompt, rel=0.1)
    assert fmean(row.size.output_tokens for row in rows) == pytest.approx(output, rel=0.05)


@pytest.mark.parametrize(("name", "cv"), [("azure_conv", 1.09), ("azure_code", 13.15)])
def test_azure_is_as_bursty_as_the_whole(name: str, cv: float) -> None:
    gaps = [after.arrived_s - before.arrived_s for before, after in pairwise(load(name).rows)]
    assert pstdev(gaps) / fmean(gaps) == pytest.approx(cv, rel=0.06)


def test_mooncake_shares_prefixes_and_its_buckets_are_spread() -> None:
    replay = load("mooncake_conversation")
    labels = [label for row in replay.rows for label in row.size.prefix]
    assert 1.0 - len(set(labels)) / len(labels) == pytest.approx(0.30, abs=0.01)
    assert all(len(row.size.prefix) == -(-row.size.prompt_tokens // 512) for row in replay.rows)
    assert {round(row.arrived_s) % MOONCAKE_BUCKET_S for row in replay.rows} == {0.0}
    times = [at for at, _ in islice(replay.draws("1"), 1000)]
    assert len(set(times)) == 1000


@pytest.mark.parametrize("name", TRACES)
def test_a_replay_has_unit_rate_and_goes_round(name: str) -> None:
    replay = load(name)
    count = len(replay.rows)
    draws = list(islice(replay.draws("a seed"), 2 * count))
    times = [at for at, _ in draws]
    assert times == sorted(times)
    assert times[0] >= 0.0
    assert times[-1] - times[0] == pytest.approx(2 * count - 1, rel=0.01)
    assert times[count] - times[0] == pytest.approx(count)
    assert [size for _, size in draws[:count]] == [size for _, size in draws[count:]]
