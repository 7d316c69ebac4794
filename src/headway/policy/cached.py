"""The blocks that nobody holds and that may be asked for again, and whose turn it is when one must go."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator


class CachedBlocks:
    """Blocks by owner (a tenant), each owner's in the order in which they were given back.

    The one to go is the oldest of the owner that has the most: whoever floods the cache loses its own blocks first, and
    nobody loses one while another has more. With one owner that is the oldest of all. Every call takes constant time:
    counts move by one at a time, so the most is found again next to where it was.
    """

    def __init__(self) -> None:
        self._owner: dict[int, bytes] = {}
        self._blocks: dict[bytes, OrderedDict[int, None]] = {}
        self._owners: dict[int, OrderedDict[bytes, None]] = {}  # by how many blocks they have
        self._most = 0

    def __len__(self) -> int:
        return len(self._owner)

    def __contains__(self, block: int) -> bool:
        return block in self._owner

    def __iter__(self) -> Iterator[int]:
        return iter(self._owner)

    def add(self, block: int, owner: bytes) -> None:
        assert block not in self._owner, f"block {block} is cached already"
        self._owner[block] = owner
        blocks = self._blocks.setdefault(owner, OrderedDict())
        blocks[block] = None
        self._recount(owner, len(blocks) - 1, len(blocks))

    def remove(self, block: int) -> None:
        """KeyError for a block that is not here."""
        owner = self._owner.pop(block)
        blocks = self._blocks[owner]
        del blocks[block]
        if not blocks:
            del self._blocks[owner]
        self._recount(owner, len(blocks) + 1, len(blocks))

    def next(self) -> int:
        """The block to go; there must be one."""
        owner = next(iter(self._owners[self._most]))
        return next(iter(self._blocks[owner]))

    def _recount(self, owner: bytes, before: int, now: int) -> None:
        if before:
            del self._owners[before][owner]
            if not self._owners[before]:
                del self._owners[before]
        if now:
            self._owners.setdefault(now, OrderedDict())[owner] = None
        if now > self._most or self._most not in self._owners:
            self._most = now
