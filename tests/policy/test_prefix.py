"""The prefix index: what it finds, and what it must never take for equal."""

from __future__ import annotations

from headway.policy.prefix import PrefixIndex

KEY = b"secret"


def filled(tokens: list[int], salt: bytes = b"", digest_bytes: int = 16) -> PrefixIndex:
    """An index of blocks of two tokens with all full blocks of ``tokens`` published, as blocks 10, 11, ..."""
    index = PrefixIndex(2, KEY, digest_bytes=digest_bytes)
    digests: list[bytes] = []
    index.extend(digests, salt, tokens)
    for position, digest in enumerate(digests):
        assert index.publish(10 + position, digest, salt, position, tokens[2 * position : 2 * position + 2])
    return index


def match(index: PrefixIndex, tokens: list[int], salt: bytes = b"") -> list[int]:
    digests: list[bytes] = []
    index.extend(digests, salt, tokens)
    return index.match(digests, salt, tokens)


def test_the_longest_published_prefix_is_found() -> None:
    index = filled([1, 2, 3, 4, 5, 6])
    assert match(index, [1, 2, 3, 4, 9, 9, 9]) == [10, 11]
    assert match(index, [1, 2, 3, 4, 5, 6, 7]) == [10, 11, 12]
    assert match(index, [9, 2, 3, 4]) == []


def test_at_least_one_token_is_left_to_compute() -> None:
    index = filled([1, 2, 3, 4])
    assert match(index, [1, 2, 3, 4]) == [10]
    assert match(index, [1, 2]) == []
    assert match(index, [1]) == []


def test_the_same_tokens_later_in_a_sequence_are_something_else() -> None:
    assert match(filled([1, 2, 1, 2]), [9, 9, 1, 2, 0]) == []


def test_tenants_share_nothing() -> None:
    index = filled([1, 2, 3, 4], salt=b"one")
    assert match(index, [1, 2, 3, 4, 5], salt=b"one") == [10, 11]
    assert match(index, [1, 2, 3, 4, 5], salt=b"two") == []
    assert match(index, [1, 2, 3, 4, 5]) == []


def test_the_salt_is_compared_and_not_only_hashed() -> None:
    index = filled([1, 2, 3, 4], salt=b"one")
    digests: list[bytes] = []
    index.extend(digests, b"one", [1, 2, 3, 4])
    others: list[bytes] = []
    index.extend(others, b"two", [1, 2, 3, 4])
    assert not set(digests) & set(others)
    assert index.match(digests, b"two", [1, 2, 3, 4, 5]) == []


def test_digests_depend_on_the_key_and_grow_block_by_block() -> None:
    whole: list[bytes] = []
    PrefixIndex(2, KEY).extend(whole, b"", [1, 2, 3, 4, 5])
    grown: list[bytes] = []
    index = PrefixIndex(2, KEY)
    for length in range(6):
        index.extend(grown, b"", [1, 2, 3, 4, 5][:length])
    other: list[bytes] = []
    PrefixIndex(2, b"another").extend(other, b"", [1, 2, 3, 4, 5])
    assert len(whole) == 2
    assert grown == whole
    assert not set(whole) & set(other)


def test_equal_digests_are_not_enough() -> None:
    """With digests of one byte most sequences collide with another; none may be found under foreign tokens or salt."""
    tried = collisions = 0
    index = filled([1, 2], digest_bytes=1)
    published: list[bytes] = []
    index.extend(published, b"", [1, 2])
    for first in range(30):
        for second in range(30):
            for salt in (b"", b"other"):
                digests: list[bytes] = []
                index.extend(digests, salt, [first, second])
                found = index.match([*digests, b""], salt, [first, second, 0])
                assert found == ([10] if (first, second, salt) == (1, 2, b"") else [])
                tried += 1
                collisions += digests == published
    assert collisions > 1


def test_a_second_block_with_the_same_tokens_stays_private() -> None:
    index = filled([1, 2])
    digests: list[bytes] = []
    index.extend(digests, b"", [1, 2])
    assert not index.publish(99, digests[0], b"", 0, [1, 2])
    assert 99 not in index
    index.forget(99)
    assert match(index, [1, 2, 3]) == [10]


def test_a_forgotten_block_is_found_no_more_and_hides_what_follows_it() -> None:
    index = filled([1, 2, 3, 4])
    index.forget(10)
    assert match(index, [1, 2, 3, 4, 5]) == []
    assert len(index) == 1
    index.forget(11)
    assert len(index) == 0
