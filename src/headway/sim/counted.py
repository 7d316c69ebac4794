"""The KV cache of requests that share nothing, as counts: what a simulation needs to know of blocks that nobody reads.

Requests whose tokens nobody else has find nothing in the cache but their own blocks, after they were preempted. So it
is enough to know how many blocks each has left there, and in what order they will be evicted. Everything that a
scheduler can see is as with ``KVCache``, for tenants of one salt, at a tenth of the cost.
"""

from __future__ import annotations

from headway.policy.blocks import BlockPool
from headway.policy.kv import KVCache
from headway.policy.request import Request


class CountedPool(BlockPool):
    """Blocks without names. ``left``: how many each request has left in the cache, the next one to be evicted first;
    of one request, the blocks of its last tokens are evicted before those of its first."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.left: dict[str, int] = {}
        self._unused = total
        self._left_in_all = 0

    @property
    def free(self) -> int:
        return self._unused

    @property
    def cached(self) -> int:
        return self._left_in_all

    @property
    def available(self) -> int:
        return self._unused + self._left_in_all

    def references(self, block: int) -> int:
        """Of what ``lookup`` found: nobody holds it."""
        return 0

    def take(self, count: int) -> list[int]:
        """So many blocks, whichever they are."""
        self._unused -= count
        while self._unused < 0:
            oldest = next(iter(self.left))
            missing, there = -self._unused, self.left[oldest]
            evicted = min(missing, there)
            if evicted == there:
                del self.left[oldest]
            else:
                self.left[oldest] = there - evicted
            self._left_in_all -= evicted
            self._unused += evicted
        return [0] * count

    def take_back(self, request_id: str) -> None:
        """A request goes on from all that it has left."""
        self._left_in_all -= self.left.pop(request_id, 0)

    def put_away(self, request_id: str, blocks: int, kept: int) -> None:
        """A request gives its blocks back; the first ``kept`` of them may be asked for again."""
        self._unused += blocks - kept
        if kept:
            self.left[request_id] = kept
            self._left_in_all += kept


class CountedCache(KVCache):
    pool: CountedPool

    def __init__(self, blocks: int, block_size: int, prefix_key: bytes) -> None:
        self.block_size = block_size
        self.pool = CountedPool(blocks)

    def lookup(self, request: Request) -> list[int]:
        left = self.pool.left.get(request.spec.request_id, 0)
        return [0] * min(left, (len(request.tokens) - 1) // self.block_size)

    def publish(self, request: Request) -> None:
        request.published = request.computed // self.block_size

    def distrust(self, request: Request) -> None:
        request.published = 0

    def _share(self, request: Request, hits: list[int]) -> None:
        self.pool.take_back(request.spec.request_id)

    def _give_back(self, request: Request) -> None:
        self.pool.put_away(request.spec.request_id, len(request.block_table), request.published)
