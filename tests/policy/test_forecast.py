"""The forecast against a simulation of its own assumption, token by token."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from headway.policy.forecast import KVForecast
from headway.policy.kv import KVCache
from headway.policy.outputs import OutputLengths
from headway.policy.request import Request
from headway.policy.scheduler import SchedulerConfig
from tests.policy.world import KEY, spec

SIZES = st.tuples(st.integers(1, 12), st.integers(1, 12))


def simulated_peak(sizes: list[tuple[int, int]], block_size: int, lookahead: int) -> int:
    """The most blocks held at once while each request draws a token a step, from its whole prompt on."""
    peak = 0
    for step in range(lookahead + 1):
        live = [prompt + step for prompt, max_tokens in sizes if step < max_tokens]
        peak = max(peak, sum(-(-tokens // block_size) for tokens in live))
    return peak


@given(st.lists(SIZES, max_size=5), SIZES, st.integers(1, 4), st.integers(0, 15))
def test_a_request_fits_where_the_simulated_peak_does(
    running: list[tuple[int, int]], new: tuple[int, int], block_size: int, lookahead: int
) -> None:
    everyone = [*running, new]
    peak = simulated_peak(everyone, block_size, lookahead)
    *others, candidate = [Request.new(spec(f"r{i}", *size), i, 0.0) for i, size in enumerate(everyone)]

    def fits(blocks: int) -> bool:
        cache = KVCache(blocks, block_size, KEY)
        config = SchedulerConfig(kv_watermark=0.0, kv_lookahead_tokens=lookahead)
        return KVForecast(others, cache, config, OutputLengths()).fits(candidate, [])

    assert fits(peak + len(everyone)), "the estimate is at most a block a request too high"
    assert not others or not fits(peak - 1), "the estimate is never too low"


def test_the_watermark_is_left_alone() -> None:
    running, new = Request.new(spec("a", 4, 1), 0, 0.0), Request.new(spec("b", 4, 1), 1, 0.0)
    for watermark, expected in ((0.0, True), (0.1, False)):
        cache = KVCache(8, 1, KEY)
        config = SchedulerConfig(kv_watermark=watermark, kv_lookahead_tokens=0)
        assert KVForecast([running], cache, config, OutputLengths()).fits(new, []) is expected


def test_without_foresight_only_what_is_free_now_counts() -> None:
    """A block of four tokens is held of four blocks; the others may grow and come to nothing here."""
    config = SchedulerConfig(kv_watermark=0.0, kv_foresight=False)
    cache = KVCache(4, 4, KEY)
    running = Request.new(spec("a", 4, 12), 0, 0.0)
    running.planned = 4
    assert cache.grow(running)
    for prompt, expected in ((12, True), (13, False)):
        new = Request.new(spec("b", prompt, 3), 1, 0.0)
        assert KVForecast([running], cache, config, OutputLengths()).fits(new, []) is expected
