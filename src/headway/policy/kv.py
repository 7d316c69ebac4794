"""The KV blocks of requests: the block pool and the prefix index, moved together so that they never disagree."""

from __future__ import annotations

from headway.policy.blocks import BlockPool
from headway.policy.prefix import PrefixIndex
from headway.policy.request import Request


class KVCache:
    """Every change of a request's ``block_table`` happens here.

    A request's table starts with blocks shared with others (full, published, never written again) and goes on with
    blocks of its own. Only positions from ``computed`` on are written, so no shared block is.
    """

    def __init__(self, blocks: int, block_size: int, prefix_key: bytes) -> None:
        self.block_size = block_size
        self.index = PrefixIndex(block_size, prefix_key)
        self.pool = BlockPool(blocks, on_evict=self.index.forget)

    def blocks_for(self, tokens: int) -> int:
        return -(-tokens // self.block_size)

    def hash(self, request: Request) -> None:
        """Bring the request's digests up to its tokens."""
        self.index.extend(request.digests, request.spec.salt, request.tokens)

    def lookup(self, request: Request) -> list[int]:
        """The published blocks that the request could start from."""
        self.hash(request)
        return self.index.match(request.digests, request.spec.salt, request.tokens)

    def open(self, request: Request, hits: list[int]) -> None:
        """Start the table of a request with blocks just looked up."""
        assert not request.block_table, f"{request.request_id} holds blocks already"
        self._share(request, hits)
        request.block_table = tuple(hits)
        request.computed = request.started_at = len(hits) * self.block_size
        request.published = len(hits)

    def grow(self, request: Request) -> bool:
        """Make the table cover the request's computed and planned tokens. False, changing nothing, if it can't."""
        missing = self.blocks_for(request.computed + request.planned) - len(request.block_table)
        if missing <= 0:
            return True
        if missing > self.pool.available:
            return False
        request.block_table += tuple(self.pool.take(missing))
        return True

    def publish(self, request: Request) -> None:
        """Let others find the request's blocks that became full with the tokens computed last."""
        full = request.computed // self.block_size
        if full == request.published:
            return
        self.hash(request)
        for position in range(request.published, full):
            block = request.block_table[position]
            start = position * self.block_size
            tokens = request.tokens[start : start + self.block_size]
            if self.index.publish(block, request.digests[position], request.spec.salt, position, tokens):
                self.pool.keep(block, request.spec.salt)
        request.published = full

    def close(self, request: Request) -> None:
        """Take the request's blocks back. Published ones stay findable; later ones are evicted before earlier ones."""
        self._give_back(request)
        request.block_table = ()
        request.computed = request.planned = request.published = 0

    def distrust(self, request: Request) -> None:
        """Hide all blocks that the request holds, shared ones too: what they contain may be what made it fail."""
        for block in request.block_table:
            self.index.forget(block)
            self.pool.forget(block)

    def _share(self, request: Request, hits: list[int]) -> None:
        for block in hits:
            self.pool.share(block)

    def _give_back(self, request: Request) -> None:
        self.pool.give_back(reversed(request.block_table))
