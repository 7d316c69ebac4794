"""Who holds which KV block. Knows block ids and counts; knows no tokens and no requests.

Every block is in exactly one of three places: free (holds nothing worth keeping), cached (nobody holds it, but its
content may be asked for again) or referenced (at least one block table holds it). A block is taken or shared by
adding a reference and given back by dropping one. Giving back what nobody holds is an error, and a block that is
never given back shows in ``referenced``. A block whose content is kept belongs to a tenant, its owner.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from headway.policy.cached import CachedBlocks


class BlockPool:
    """``total`` blocks, ids 0 .. total - 1. ``on_evict`` is told of each cached block whose content is given up."""

    def __init__(self, total: int, on_evict: Callable[[int], None]) -> None:
        self.total = total
        self._on_evict = on_evict
        self._references = [0] * total
        self._owner: list[bytes | None] = [None] * total  # of the content, if that is kept
        self._free = list(range(total - 1, -1, -1))
        self._cached = CachedBlocks()

    @property
    def free(self) -> int:
        return len(self._free)

    @property
    def cached(self) -> int:
        return len(self._cached)

    @property
    def available(self) -> int:
        """Blocks that ``take`` can hand out: the free ones, and the cached ones at the price of their content."""
        return len(self._free) + len(self._cached)

    @property
    def referenced(self) -> int:
        return self.total - self.available

    def references(self, block: int) -> int:
        return self._references[block]

    def take(self, count: int) -> list[int]:
        """Hand out ``count`` blocks, each with one reference. At most ``available`` may be asked for."""
        assert 0 <= count <= self.available, f"{count} blocks asked for, {self.available} available"
        blocks = [self._free.pop() if self._free else self._evict() for _ in range(count)]
        for block in blocks:
            self._references[block] = 1
        return blocks

    def share(self, block: int) -> None:
        """Add a reference to a block that is cached or referenced."""
        if self._references[block] == 0:
            self._cached.remove(block)  # KeyError: a free block has no content to share
        self._references[block] += 1

    def give_back(self, blocks: Iterable[int]) -> None:
        """Drop one reference from each block. Of an owner's, the first to fall to none are the first to be evicted."""
        for block in blocks:
            assert self._references[block] > 0, f"block {block} given back twice"
            self._references[block] -= 1
            if self._references[block]:
                continue
            owner = self._owner[block]
            if owner is None:
                self._free.append(block)
            else:
                self._cached.add(block, owner)

    def keep(self, block: int, owner: bytes) -> None:
        """Remember a referenced block's content, which is ``owner``'s, when its last reference is dropped."""
        assert self._references[block] > 0, f"block {block} is not referenced"
        self._owner[block] = owner

    def owner(self, block: int) -> bytes | None:
        """Whose content is kept there; None if none is."""
        return self._owner[block]

    def forget(self, block: int) -> None:
        """Give up a block's content: it becomes free now if nobody holds it, else when it is given back."""
        self._owner[block] = None
        if block in self._cached:
            self._cached.remove(block)
            self._free.append(block)

    def census(self) -> tuple[set[int], set[int], dict[int, int]]:
        """Free blocks, cached blocks, and the reference count of every referenced block: for checks."""
        counts = {block: count for block, count in enumerate(self._references) if count}
        assert len(set(self._free)) == len(self._free), "a block is free twice"
        return set(self._free), set(self._cached), counts

    def _evict(self) -> int:
        block = self._cached.next()
        self._cached.remove(block)
        self._owner[block] = None
        self._on_evict(block)
        return block
