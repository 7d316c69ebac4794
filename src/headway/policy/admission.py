"""Who may come in and wait, and who is refused: for good or for now, with the numbers behind the answer."""

from __future__ import annotations

import math
from collections.abc import Iterable

from headway.policy.config import SchedulerConfig
from headway.policy.events import Rejected, RejectReason
from headway.policy.plan import ExecutorInfo
from headway.policy.request import Request, RequestSpec
from headway.policy.waiting import Lane, WaitingQueue

RETRY_AFTER_MIN_S = 1.0
RETRY_AFTER_MAX_S = 60.0


def bounded_retry_s(seconds: float) -> float:
    """A time to come back that is worth telling."""
    return min(max(seconds, RETRY_AFTER_MIN_S), RETRY_AFTER_MAX_S)


class DrainRate:
    """How fast waiting tokens are worked off: prompt tokens computed a second, old steps counting less and less."""

    DECAY = 0.99

    def __init__(self) -> None:
        self._tokens = 0.0
        self._elapsed_s = 0.0

    def observe(self, prompt_tokens: int, elapsed_s: float) -> None:
        if math.isfinite(elapsed_s) and elapsed_s > 0.0:
            self._tokens = self._tokens * self.DECAY + prompt_tokens
            self._elapsed_s = self._elapsed_s * self.DECAY + elapsed_s

    def observe_decodes(self, elapsed_s: Iterable[float]) -> None:
        """The same of steps, one after the other, in which there were no prompts."""
        tokens, total_s, decay = self._tokens, self._elapsed_s, self.DECAY
        for each_s in elapsed_s:
            if 0.0 < each_s < math.inf:
                tokens *= decay
                total_s = total_s * decay + each_s
        self._tokens, self._elapsed_s = tokens, total_s

    def retry_after_s(self, tokens: int) -> float:
        """When that many tokens are likely to be gone; the lower bound while nothing is known."""
        if self._tokens <= 0.0:
            return RETRY_AFTER_MIN_S
        return bounded_retry_s(tokens * self._elapsed_s / self._tokens)


def refuse_for_good(spec: RequestSpec, info: ExecutorInfo) -> Rejected | None:
    """The reason why this request can never run here, on an idle machine even."""
    prompt, request_id = len(spec.prompt), spec.request_id
    if prompt < 1:
        return Rejected(request_id, RejectReason.INVALID, "the prompt is empty", limit=1, value=0)
    if spec.max_tokens < 1:
        message = f"max_tokens must be at least 1, not {spec.max_tokens}"
        return Rejected(request_id, RejectReason.INVALID, message, limit=1, value=spec.max_tokens)
    if not spec.in_vocabulary and (min(spec.prompt) < 0 or max(spec.prompt) >= info.vocab_size):
        value = max(spec.prompt) if min(spec.prompt) >= 0 else min(spec.prompt)
        message = f"token id {value} is not in the vocabulary of {info.vocab_size} tokens"
        return Rejected(request_id, RejectReason.INVALID, message, limit=info.vocab_size - 1, value=value)
    total = prompt + spec.max_tokens
    if total > info.context_tokens:
        message = (
            f"prompt and max_tokens together are {total} tokens ({prompt} and {spec.max_tokens}); "
            f"the context holds {info.context_tokens}"
        )
        return Rejected(request_id, RejectReason.CONTEXT_LENGTH, message, limit=info.context_tokens, value=total)
    capacity = info.kv_blocks * info.block_size
    if total - 1 > capacity:  # the last token drawn is never fed back
        message = f"the request may need {total - 1} tokens of KV cache; there are {capacity} in all"
        return Rejected(request_id, RejectReason.KV_CAPACITY, message, limit=capacity, value=total - 1)
    return None


def refuse_for_now(
    request: Request, waiting: WaitingQueue, config: SchedulerConfig, rate: DrainRate
) -> Rejected | None:
    """The reason why the queue can't take this request now. An empty queue takes any.

    What the others leave is for a queue of its own, so a backlog of that kind keeps nobody else out.
    """
    spec, deferrable = request.spec, request.lane == Lane.BATCH
    waiting_requests, waiting_tokens = waiting.length(deferrable=deferrable), waiting.tokens_of(deferrable=deferrable)
    if not waiting_requests:
        return None
    requests, tokens = waiting_requests + 1, waiting_tokens + len(spec.prompt)
    if requests > config.max_queued_requests:
        limit, value, unit = config.max_queued_requests, requests, "requests"
    elif tokens > config.max_queued_tokens:
        limit, value, unit = config.max_queued_tokens, tokens, "tokens"
    else:
        return None
    return Rejected(
        spec.request_id,
        RejectReason.QUEUE_FULL,
        f"the queue is full: with this request {value} {unit} would wait, {limit} may",
        limit=limit,
        value=value,
        retry_after_s=rate.retry_after_s(waiting_tokens),
    )
