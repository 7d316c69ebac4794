"""The block pool: where every block is, and what can't be done to it."""

from __future__ import annotations

import pytest

from headway.policy.blocks import BlockPool


@pytest.fixture
def evicted() -> list[int]:
    return []


@pytest.fixture
def pool(evicted: list[int]) -> BlockPool:
    return BlockPool(4, on_evict=evicted.append)


def counts(pool: BlockPool) -> tuple[int, int, int]:
    assert pool.free + pool.cached + pool.referenced == pool.total
    return pool.free, pool.cached, pool.referenced


def test_a_block_taken_and_given_back_is_free_again(pool: BlockPool) -> None:
    blocks = pool.take(3)
    assert len(set(blocks)) == 3
    assert counts(pool) == (1, 0, 3)
    pool.give_back(blocks)
    assert counts(pool) == (4, 0, 0)


def test_a_shared_block_comes_back_with_its_last_reference(pool: BlockPool) -> None:
    (block,) = pool.take(1)
    pool.share(block)
    pool.give_back([block])
    assert counts(pool) == (3, 0, 1)
    pool.give_back([block])
    assert counts(pool) == (4, 0, 0)


def test_kept_content_outlives_its_references_and_can_be_revived(pool: BlockPool, evicted: list[int]) -> None:
    (block,) = pool.take(1)
    pool.keep(block, b"")
    pool.give_back([block])
    assert counts(pool) == (3, 1, 0)
    pool.share(block)
    assert counts(pool) == (3, 0, 1)
    assert evicted == []


def test_eviction_takes_what_was_given_back_the_longest_ago_and_only_when_nothing_is_free(
    pool: BlockPool, evicted: list[int]
) -> None:
    blocks = pool.take(3)
    for block in blocks:
        pool.keep(block, b"")
    pool.give_back([blocks[1], blocks[0], blocks[2]])
    pool.share(blocks[1])
    pool.give_back([blocks[1]])  # used again: now the last to go
    pool.take(1)
    assert evicted == []
    assert pool.take(3) == [blocks[0], blocks[2], blocks[1]]
    assert evicted == [blocks[0], blocks[2], blocks[1]]
    assert counts(pool) == (0, 0, 4)


def test_an_evicted_block_is_an_ordinary_one_again(pool: BlockPool) -> None:
    blocks = pool.take(4)
    pool.keep(blocks[0], b"")
    pool.give_back(blocks)
    pool.give_back(pool.take(4))
    assert counts(pool) == (4, 0, 0)


def test_forgotten_content_is_free_at_once_or_when_given_back(pool: BlockPool) -> None:
    cached, held = pool.take(2)
    pool.keep(cached, b"")
    pool.keep(held, b"")
    pool.give_back([cached])
    pool.forget(cached)
    pool.forget(held)
    assert counts(pool) == (3, 0, 1)
    pool.give_back([held])
    assert counts(pool) == (4, 0, 0)


def test_giving_back_twice_is_an_error(pool: BlockPool) -> None:
    blocks = pool.take(1)
    pool.give_back(blocks)
    with pytest.raises(AssertionError, match="given back twice"):
        pool.give_back(blocks)


def test_giving_back_a_cached_block_is_an_error(pool: BlockPool) -> None:
    blocks = pool.take(1)
    pool.keep(blocks[0], b"")
    pool.give_back(blocks)
    with pytest.raises(AssertionError, match="given back twice"):
        pool.give_back(blocks)


def test_sharing_or_keeping_a_free_block_is_an_error(pool: BlockPool) -> None:
    with pytest.raises(KeyError):
        pool.share(0)
    with pytest.raises(AssertionError, match="not referenced"):
        pool.keep(0, b"")


def test_taking_more_than_there_is_changes_nothing(pool: BlockPool) -> None:
    pool.take(2)
    with pytest.raises(AssertionError, match="3 blocks asked for, 2 available"):
        pool.take(3)
    assert counts(pool) == (2, 0, 2)
