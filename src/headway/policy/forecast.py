"""Whether a waiting request may start: its tokens must fit the KV cache now, and soon."""

from __future__ import annotations

import math
from collections.abc import Iterable

from headway.policy.config import SchedulerConfig
from headway.policy.kv import KVCache
from headway.policy.outputs import OutputLengths
from headway.policy.request import Request

PROMISED_VARIES = 0.3
"""Requests with a promise come and go by chance: they may soon hold so much more than now. (With a hundred of them this
is three standard deviations; without it, 2 % of chats were refused at 90 % load for want of blocks that batch held.)"""


class KVForecast:
    """The most KV blocks that the running requests will hold at once in the near future.

    Each is taken to draw one token a step, from its last token known until it is as long as answers of its class tend
    to be (``outputs``); while nothing is known of them, until the look-ahead ends; never past its ``max_tokens``.
    At the moment a request ends, those with more to go hold what they have and as much again as it drew; the peak
    is at one of these moments. Method: the future-memory estimate of LightLLM's scheduler.
    Blocks that are shared now count once: if a sharer leaves, the estimate is low, which preemption makes good.
    """

    def __init__(
        self,
        running: Iterable[Request],
        cache: KVCache,
        config: SchedulerConfig,
        outputs: OutputLengths,
        *,
        deferrable: bool = False,
    ) -> None:
        """``deferrable``: for those that run in what others leave, who must leave blocks to whoever may come."""
        running = list(running)
        left_alone = cache.pool.total * config.kv_watermark
        if deferrable:
            promised = sum(len(request.block_table) for request in running if not request.deferrable)
            left_alone = cache.pool.total * config.kv_deferrable_watermark + PROMISED_VARIES * promised
        self._cache = cache
        self._outputs = outputs
        self._lookahead = config.kv_lookahead_tokens
        self._foresees = config.kv_foresight
        self._usable = cache.pool.total - math.ceil(left_alone)
        self._entries: list[tuple[int, int]] = []  # tokens to come, tokens now
        self._bound = 0  # tokens, were all at their largest at once
        self._table_blocks = 0
        self._reserved_blocks = 0
        self._protected_from = config.max_preemptions
        self._slack = cache.block_size - 1  # of each one's last block
        add = self.add
        for request in running:
            add(request)

    def fits(self, request: Request, hits: list[int]) -> bool:
        """Whether the request may start from the ``hits`` found in the cache.

        One that would run alone always may: it was refused at the door if it could not. One that must not be
        preempted again is given all that it and its like may ever need, or nothing.
        """
        if not self._entries:
            return True
        pool = self._cache.pool
        if request.preemptions >= self._protected_from and self._reserved_blocks + self._peak(request) > pool.total:
            return False
        if not self._foresees:
            held = sum(1 for block in hits if pool.references(block))
            return pool.referenced + self._cache.blocks_for(len(request.tokens)) - held <= self._usable
        growth, tokens = self._entry(request)
        bound = self._bound + growth + tokens + self._slack
        if bound <= self._usable * self._cache.block_size:
            return True  # even if all held all they may need at the same time
        shared = self._table_blocks - pool.referenced + sum(1 for block in hits if pool.references(block))
        return self._peak_blocks(request) - shared <= self._usable

    def add(self, request: Request) -> None:
        """The request runs, and holds its table."""
        growth, tokens = entry = self._entry(request)
        self._entries.append(entry)
        self._bound += growth + tokens + self._slack
        self._table_blocks += len(request.block_table)
        if request.preemptions >= self._protected_from:
            self._reserved_blocks += self._peak(request)

    def room_tokens(self) -> int:
        """How many tokens more would fit at the peak."""
        shared = self._table_blocks - self._cache.pool.referenced
        return (self._usable - self._peak_blocks() + shared) * self._cache.block_size

    def _peak_blocks(self, candidate: Request | None = None) -> int:
        """The peak with the candidate among those running, as if nothing were shared; at most a block each too high."""
        peak = held = 0
        slack = self._slack
        entries = sorted([*self._entries, self._entry(candidate)] if candidate else self._entries, reverse=True)
        for count, (growth, tokens) in enumerate(entries, start=1):
            held += tokens + slack
            if held + growth * count > peak:
                peak = held + growth * count
        return peak // self._cache.block_size

    def _entry(self, request: Request) -> tuple[int, int]:
        tokens = len(request.tokens)
        expected = self._outputs.expected(request)
        growth = self._lookahead if expected is None else expected - tokens + len(request.spec.prompt)
        most = request.peak_tokens - tokens
        return (growth if growth < most else most), tokens

    def _peak(self, request: Request) -> int:
        return self._cache.blocks_for(request.peak_tokens)
