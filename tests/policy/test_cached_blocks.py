"""Whose cached block goes first: the oldest of whoever has the most."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from headway.policy.blocks import BlockPool
from headway.policy.cached import CachedBlocks
from tests.policy.world import World, info, spec


def order_of_going(cached: CachedBlocks) -> list[int]:
    order: list[int] = []
    while len(cached):
        order.append(cached.next())
        cached.remove(order[-1])
    return order


def test_with_one_owner_the_oldest_goes_first() -> None:
    cached = CachedBlocks()
    for block in (3, 1, 2):
        cached.add(block, b"")
    assert list(cached) == [3, 1, 2]
    assert order_of_going(cached) == [3, 1, 2]


def test_whoever_has_the_most_loses_first_and_nobody_more_than_that() -> None:
    cached = CachedBlocks()
    for block in (0, 1):
        cached.add(block, b"quiet")
    for block in range(2, 7):
        cached.add(block, b"loud")
    assert order_of_going(cached)[:3] == [2, 3, 4], "though the other's are older"


def test_what_is_used_again_leaves_and_comes_back_as_the_youngest() -> None:
    cached = CachedBlocks()
    for block in (0, 1, 2):
        cached.add(block, b"")
    cached.remove(0)
    assert 0 not in cached
    cached.add(0, b"")
    assert order_of_going(cached) == [1, 2, 0]
    with pytest.raises(KeyError):
        cached.remove(0)


def test_as_a_slow_and_simple_one_would_do_it() -> None:
    random = Random(0)
    cached = CachedBlocks()
    model: dict[int, bytes] = {}  # in order of coming
    for _ in range(5000):
        if model and random.random() < 0.5:
            block = cached.next() if random.random() < 0.5 else random.choice(list(model))
            counts = Counter(model.values())
            if block == cached.next():
                owner = model[block]
                assert counts[owner] == max(counts.values())
                assert block == next(each for each, whose in model.items() if whose == owner)
            cached.remove(block)
            del model[block]
        else:
            block = random.randrange(60)
            if block not in model:
                model[block] = random.choice([b"a", b"b", b"c", b"d"])
                cached.add(block, model[block])
        assert list(cached) == list(model)


def test_a_pool_gives_up_the_content_of_whoever_floods_it() -> None:
    evicted: list[int] = []
    pool = BlockPool(8, evicted.append)
    quiet, loud = pool.take(2), pool.take(6)
    for blocks, owner in ((quiet, b"quiet"), (loud, b"loud")):
        for block in blocks:
            pool.keep(block, owner)
        pool.give_back(blocks)
    assert [pool.owner(block) for block in (quiet[0], loud[0])] == [b"quiet", b"loud"]
    pool.take(4)
    assert evicted == loud[:4]
    assert pool.owner(loud[0]) is None


def test_a_quiet_tenants_prefix_survives_a_flood() -> None:
    """The flood is many times the cache; the quiet one's prompt is found again all the same."""
    world = World(info(block_size=4, kv_blocks=32, context_tokens=64))
    prompt = [49] * 21
    world.submit(spec("first", prompt, 1, salt=b"quiet"))
    world.run()
    for number in range(40):
        world.submit(spec(f"flood{number}", [number] * 24, 4, seed=number, salt=b"loud"))
        world.run()
    world.submit(spec("again", prompt, 1, salt=b"quiet"))
    world.run()
    assert world.history.ended["again"].cached_tokens == 20
    world.check_answers()
