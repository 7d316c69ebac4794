"""The public history of requests: what the policy tells the outside, in order.

The sequence of events is a pure function of the calls made and their times: the same calls give the same log, byte
for byte, in any process.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class FinishReason(StrEnum):
    """Why a request ended. STOP and LENGTH are successes."""

    STOP = "stop"  # a stop token, or a stop string seen by the edge
    LENGTH = "length"  # max_tokens reached
    ABORTED = "aborted"  # the client left, or the operator ended it
    EXPIRED = "expired"  # its deadline passed
    SHED = "shed"  # it could not have been on time, and was refused before anything was computed for it
    FAILED = "failed"  # the executor could not go on with it


class RejectReason(StrEnum):
    """Why a request was never admitted. The first four are permanent: the same request can never succeed here."""

    CONTEXT_LENGTH = "context_length_exceeded"
    KV_CAPACITY = "kv_capacity_exceeded"
    INVALID = "invalid_request"
    IMPOSSIBLE = "objective_impossible"  # too long for its promise on an idle machine even
    QUEUE_FULL = "queue_full"
    OVERLOADED = "overloaded"  # it could not be on time now
    DRAINING = "draining"
    NOT_READY = "not_ready"
    EXPIRED = "deadline_expired"


@dataclass(frozen=True, slots=True)
class Queued:
    """The request is in. It will end with exactly one ``Finished``."""

    request_id: str


@dataclass(frozen=True, slots=True)
class Rejected:
    """The request was refused at the door; nothing else will be heard of it.

    ``limit`` and ``value`` are the numbers behind the decision; ``retry_after_s`` is when trying again may help,
    None when it never will.
    """

    request_id: str
    reason: RejectReason
    message: str
    limit: int | None = None
    value: int | None = None
    retry_after_s: float | None = None


@dataclass(frozen=True, slots=True)
class Scheduled:
    """The request holds cache blocks and runs from the next step. ``cached_tokens`` of its tokens need no computing."""

    request_id: str
    cached_tokens: int
    resumed: bool


@dataclass(frozen=True, slots=True)
class Preempted:
    """The request gave its cache blocks back and waits to be resumed from its tokens. Nothing delivered is lost."""

    request_id: str
    output_tokens: int


@dataclass(frozen=True, slots=True)
class Demoted:
    """The request can't be on time and had allowed to be late: it is served in ``service_class`` from here on.

    Comes before its first token, or not at all.
    """

    request_id: str
    service_class: str


@dataclass(slots=True)  # not frozen: made by the thousand a second, and freezing takes three times as long
class TokenOut:
    """Output token number ``index`` (from 0). Every index comes exactly once, in order."""

    request_id: str
    index: int
    token: int
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Finished:
    """The end of a request, exactly one for each ``Queued``. ``cached_tokens``: prompt tokens found in the cache."""

    request_id: str
    reason: FinishReason
    prompt_tokens: int
    output_tokens: int
    cached_tokens: int
    detail: str = ""
    retry_after_s: float | None = None
    """When trying again may help, for one that was shed."""


Event = Queued | Rejected | Demoted | Scheduled | Preempted | TokenOut | Finished
