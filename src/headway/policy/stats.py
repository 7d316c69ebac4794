"""Numbers about the scheduler: plain values, for metrics and status lines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from headway.policy.events import FinishReason, RejectReason
from headway.policy.ledger import ClassCounters


@dataclass(slots=True)
class Counters:
    """What happened since the start; none ever falls.

    ``prompt_tokens`` and ``cached_tokens`` are counted when a request is first scheduled, ``output_tokens`` when they
    are drawn. ``preemptions`` are for want of KV blocks; ``displaced`` counts requests moved back because the executor
    was lost. ``stale_results`` are results of no step in flight; ``discarded_tokens`` are tokens and failures that
    no request in the step wanted. ``ignored_aborts`` named a request that was not there.
    """

    steps: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    preemptions: int = 0
    displaced: int = 0
    stale_results: int = 0
    discarded_tokens: int = 0
    ignored_aborts: int = 0
    finished: dict[FinishReason, int] = field(default_factory=lambda: dict.fromkeys(FinishReason, 0))
    rejected: dict[RejectReason, int] = field(default_factory=lambda: dict.fromkeys(RejectReason, 0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats:
    """One moment of the scheduler: gauges first, then the counters (see ``Counters``).

    ``step_tokens`` and ``step_sequences`` are of the last step planned. ``classes``: by the class asked for.
    ``policy``: what the policy knows and does, by name; empty for those that know nothing.
    ``kv_blocks_used`` are held by running requests; ``kv_blocks_cached`` are held by nobody and can be found again.
    """

    running: int
    waiting: int
    waiting_tokens: int
    kv_blocks_total: int
    kv_blocks_used: int
    kv_blocks_cached: int
    kv_blocks_free: int
    step_tokens: int
    step_sequences: int
    classes: Mapping[str, ClassCounters]
    policy: Mapping[str, float]
    steps: int
    prompt_tokens: int
    cached_tokens: int
    output_tokens: int
    preemptions: int
    displaced: int
    stale_results: int
    discarded_tokens: int
    ignored_aborts: int
    finished: Mapping[FinishReason, int]
    rejected: Mapping[RejectReason, int]
