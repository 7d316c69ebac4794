"""The scheduler's limits, parsed once and never written to again."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulerConfig:
    """Every bound of the scheduler.

    ``max_step_tokens``: tokens a step computes at most, decodes and prefill chunks together.
    ``max_running``: requests that hold KV blocks at once.
    ``max_queued_requests``, ``max_queued_tokens``: what may wait; an empty queue takes any one request.
    ``kv_watermark``: share of the KV blocks that admission leaves alone, in [0, 1).
    ``kv_deferrable_watermark``: the same where those start that were promised nothing.
    ``kv_lookahead_tokens``: admission counts on every running request to go on for this many tokens, or until its
    ``max_tokens`` where that is nearer. Less admits more, and preempts more.
    ``kv_foresight``: without it a request starts once the tokens it has fit the blocks that nobody holds now, whatever
    the others will need next, as in vLLM; the look-ahead means nothing then.
    ``max_preemptions``: how often one request is preempted at most. After that it waits until it can be given all the
    blocks it may ever need, and keeps them.
    """

    max_step_tokens: int = 8192
    max_running: int = 1024
    max_queued_requests: int = 2048
    max_queued_tokens: int = 1 << 20
    kv_watermark: float = 0.02
    kv_deferrable_watermark: float = 0.15
    kv_lookahead_tokens: int = 256
    kv_foresight: bool = True
    max_preemptions: int = 3

    def protects(self, preemptions: int) -> bool:
        """Whether a request that was preempted so often is not to be preempted again."""
        return preemptions >= self.max_preemptions

    def __post_init__(self) -> None:
        for name in ("max_step_tokens", "max_running", "max_queued_requests", "max_queued_tokens"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        for name in ("kv_lookahead_tokens", "max_preemptions"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be at least 0, not {getattr(self, name)}")
        for name in ("kv_watermark", "kv_deferrable_watermark"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise ValueError(f"{name} must be at least 0 and below 1, not {getattr(self, name)}")
