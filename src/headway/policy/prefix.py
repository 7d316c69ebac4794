"""Which block holds the keys and values of which tokens: a keyed hash chain over full blocks.

Block ``i`` of a sequence has the digest H(key, digest of block i - 1, its tokens); the chain starts from the tenant's
salt, so equal tokens of two tenants have nothing in common. The key is secret: nobody outside can choose tokens whose
digests collide. A digest only finds an entry; salt, position and the block's own tokens are compared before it
counts as a hit.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

_TOKEN_TYPE = "I"
_TOKEN_BYTES = array(_TOKEN_TYPE).itemsize


@dataclass(frozen=True, slots=True)
class _Entry:
    block: int
    salt: bytes
    position: int
    content: bytes


class PrefixIndex:
    """Finds published blocks by content. Holds no references: a block that is reused must be forgotten here first."""

    def __init__(self, block_size: int, key: bytes, *, digest_bytes: int = 16) -> None:
        self._block_size = block_size
        self._block_bytes = block_size * _TOKEN_BYTES
        self._digest_bytes = digest_bytes
        self._keyed = blake2b(key=key, digest_size=digest_bytes)
        self._entries: dict[bytes, _Entry] = {}
        self._digest_of: dict[int, bytes] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, block: int) -> bool:
        return block in self._digest_of

    def extend(self, digests: list[bytes], salt: bytes, tokens: Sequence[int]) -> None:
        """Append to ``digests`` those of the full blocks of ``tokens`` that it does not cover yet."""
        done = len(digests)
        full = len(tokens) // self._block_size
        if full == done:
            return
        content = _pack(tokens[done * self._block_size : full * self._block_size])
        digest = digests[-1] if digests else self._hash(salt)
        for start in range(0, len(content), self._block_bytes):
            digest = self._hash(digest + content[start : start + self._block_bytes])
            digests.append(digest)

    def match(self, digests: Sequence[bytes], salt: bytes, tokens: Sequence[int]) -> list[int]:
        """The published blocks of the longest known prefix of ``tokens``, always short of its last token.

        At least one token is left over because the next one is drawn from what the last one computes.
        """
        most = (len(tokens) - 1) // self._block_size
        blocks: list[int] = []
        for position in range(most):
            entry = self._entries.get(digests[position])
            start = position * self._block_size
            if entry is None or not _same(entry, salt, position, _pack(tokens[start : start + self._block_size])):
                break
            blocks.append(entry.block)
        return blocks

    def publish(self, block: int, digest: bytes, salt: bytes, position: int, tokens: Sequence[int]) -> bool:
        """Make a full, computed block findable. False if its digest is taken: the block stays private."""
        assert block not in self._digest_of, f"block {block} is published already"
        assert len(tokens) == self._block_size, f"block {block} is not full"
        if digest in self._entries:
            return False
        self._entries[digest] = _Entry(block, salt, position, _pack(tokens))
        self._digest_of[block] = digest
        return True

    def forget(self, block: int) -> None:
        """The block's content is gone, or not to be trusted. Forgetting an unpublished block changes nothing."""
        digest = self._digest_of.pop(block, None)
        if digest is not None:
            del self._entries[digest]

    def content(self, block: int) -> tuple[bytes, int, tuple[int, ...]]:
        """Salt, position and tokens of a published block: for checks."""
        entry = self._entries[self._digest_of[block]]
        return entry.salt, entry.position, tuple(array(_TOKEN_TYPE, entry.content))

    def salt(self, block: int) -> bytes:
        """Whose content a published block holds: for checks."""
        return self._entries[self._digest_of[block]].salt

    def published(self) -> set[int]:
        return set(self._digest_of)

    def _hash(self, data: bytes) -> bytes:
        keyed = self._keyed.copy()
        keyed.update(data)
        return keyed.digest()


def _same(entry: _Entry, salt: bytes, position: int, content: bytes) -> bool:
    return entry.content == content and entry.position == position and entry.salt == salt


def _pack(tokens: Sequence[int]) -> bytes:
    return array(_TOKEN_TYPE, tokens).tobytes()
