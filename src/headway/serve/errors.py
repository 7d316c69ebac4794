"""Errors as clients see them: one exception, and one table from reason to status, type and retry advice.

    ApiError    everything that is answered with an error body or, in a stream, an error event

The body is always ``{"error": {"message", "type", "param", "code"}}``; ``code`` is the reason's own value. 400 is the
caller's mistake, 429 means we chose not to admit the request, 503 that this server can't serve now, 504 that the
request's deadline passed. The official client retries 408, 409, 429 and 5xx unless ``x-should-retry`` says otherwise,
so every reason says whether trying again can help.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

import msgspec

from headway.policy.events import Finished, FinishReason, Rejected

MESSAGE_CHARACTERS_MAX = 2_000
"""Longest error message sent: messages may quote what the client sent."""


class Reason(StrEnum):
    """Why a request got an error. Those that the policy knows have the value of its ``RejectReason``."""

    INVALID_REQUEST = "invalid_request"
    INVALID_JSON = "invalid_json"
    INVALID_TYPE = "invalid_type"
    INVALID_VALUE = "invalid_value"
    INVALID_HEADER = "invalid_header"
    MISSING_PARAMETER = "missing_required_parameter"
    UNSUPPORTED_PARAMETER = "unsupported_parameter"
    CONTEXT_LENGTH = "context_length_exceeded"
    KV_CAPACITY = "kv_capacity_exceeded"
    IMPOSSIBLE = "objective_impossible"
    INVALID_API_KEY = "invalid_api_key"
    HOST_NOT_ALLOWED = "host_not_allowed"
    MODEL_NOT_FOUND = "model_not_found"
    NOT_FOUND = "not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    REQUEST_TIMEOUT = "request_timeout"
    BODY_TOO_LARGE = "request_too_large"
    UNSUPPORTED_MEDIA_TYPE = "unsupported_media_type"
    HEADERS_TOO_LARGE = "headers_too_large"
    QUEUE_FULL = "queue_full"
    OVERLOADED = "overloaded"
    CLIENT_CLOSED = "client_closed_request"
    ENGINE_FAILED = "engine_failed"
    INTERNAL = "internal_error"
    NOT_READY = "not_ready"
    TOO_MANY_CONNECTIONS = "too_many_connections"
    DRAINING = "draining"
    STOPPED = "stopped"
    DEADLINE = "deadline_expired"


@dataclass(frozen=True, slots=True)
class Answer:
    """How a reason is answered. ``retry_after_s`` is the advice when the error brings none; None: then don't retry."""

    status: int
    type: str
    retry_after_s: float | None = None


_CALLER = "invalid_request_error"
_BUSY = "rate_limit_error"

RETRIED = frozenset({429, 503})
"""The statuses of what may pass by itself. Errors with any other never advise to try again."""

ANSWERS: dict[Reason, Answer] = {
    Reason.INVALID_REQUEST: Answer(400, _CALLER),
    Reason.INVALID_JSON: Answer(400, _CALLER),
    Reason.INVALID_TYPE: Answer(400, _CALLER),
    Reason.INVALID_VALUE: Answer(400, _CALLER),
    Reason.INVALID_HEADER: Answer(400, _CALLER),
    Reason.MISSING_PARAMETER: Answer(400, _CALLER),
    Reason.UNSUPPORTED_PARAMETER: Answer(400, _CALLER),
    Reason.CONTEXT_LENGTH: Answer(400, _CALLER),
    Reason.KV_CAPACITY: Answer(400, _CALLER),
    Reason.IMPOSSIBLE: Answer(400, _CALLER),
    Reason.INVALID_API_KEY: Answer(401, "authentication_error"),
    Reason.HOST_NOT_ALLOWED: Answer(403, "permission_error"),
    Reason.MODEL_NOT_FOUND: Answer(404, _CALLER),
    Reason.NOT_FOUND: Answer(404, _CALLER),
    Reason.METHOD_NOT_ALLOWED: Answer(405, _CALLER),
    Reason.REQUEST_TIMEOUT: Answer(408, _CALLER),
    Reason.BODY_TOO_LARGE: Answer(413, _CALLER),
    Reason.UNSUPPORTED_MEDIA_TYPE: Answer(415, _CALLER),
    Reason.QUEUE_FULL: Answer(429, _BUSY, retry_after_s=1.0),
    Reason.OVERLOADED: Answer(429, _BUSY),
    Reason.HEADERS_TOO_LARGE: Answer(431, _CALLER),
    Reason.CLIENT_CLOSED: Answer(499, _CALLER),
    Reason.ENGINE_FAILED: Answer(500, "server_error"),
    Reason.INTERNAL: Answer(500, "server_error"),
    Reason.NOT_READY: Answer(503, "service_unavailable_error", retry_after_s=2.0),
    Reason.TOO_MANY_CONNECTIONS: Answer(503, "service_unavailable_error", retry_after_s=1.0),
    Reason.DRAINING: Answer(503, "service_unavailable_error", retry_after_s=5.0),
    Reason.STOPPED: Answer(503, "service_unavailable_error", retry_after_s=5.0),
    Reason.DEADLINE: Answer(504, "timeout_error"),
}

FAILURES: dict[FinishReason, tuple[Reason, str]] = {
    FinishReason.ABORTED: (Reason.STOPPED, "The request was ended by the server before it was complete."),
    FinishReason.SHED: (Reason.OVERLOADED, "The server is too busy to answer in the time that was promised."),
    FinishReason.EXPIRED: (Reason.DEADLINE, "The request's deadline passed before it was complete."),
    FinishReason.FAILED: (Reason.ENGINE_FAILED, "The engine could not go on with this request."),
}
"""What the ends that are not successes mean to a client that is still there."""


class ApiError(Exception):
    """An error for the client. ``param`` is the path of the field at fault, such as ``messages[2].content``."""

    def __init__(
        self, reason: Reason, message: str, *, param: str | None = None, retry_after_s: float | None = None
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = _printable(message)[:MESSAGE_CHARACTERS_MAX]
        self.param = None if param is None else _printable(param)[:MESSAGE_CHARACTERS_MAX]
        self._retry_after_s = retry_after_s

    @classmethod
    def from_rejected(cls, event: Rejected) -> ApiError:
        """The answer to a request that the policy refused."""
        return cls(Reason(event.reason.value), event.message, retry_after_s=event.retry_after_s)

    @classmethod
    def from_finished(cls, event: Finished) -> ApiError:
        """The answer to a request that ended without success."""
        reason, message = FAILURES[event.reason]
        message = f"{message} ({event.detail})" if event.detail else message
        return cls(reason, message, retry_after_s=event.retry_after_s)

    @property
    def status(self) -> int:
        return ANSWERS[self.reason].status

    @property
    def retry_after_s(self) -> float | None:
        """When trying again may help, in seconds from now; None: the same request will not succeed."""
        answer = ANSWERS[self.reason]
        if answer.status not in RETRIED:
            return None
        return answer.retry_after_s if self._retry_after_s is None else self._retry_after_s

    def headers(self) -> dict[str, str]:
        """Retry advice in the forms that clients read. Names are in lower case."""
        wait_s = self.retry_after_s
        if wait_s is None:
            return {"x-should-retry": "false"}
        return {
            "retry-after": str(max(1, math.ceil(wait_s))),
            "retry-after-ms": str(max(1, math.ceil(wait_s * 1000))),
            "x-should-retry": "true",
        }

    def body(self) -> bytes:
        """The JSON body, all four keys always there."""
        error = {
            "message": self.message,
            "type": ANSWERS[self.reason].type,
            "param": self.param,
            "code": self.reason.value,
        }
        return msgspec.json.encode({"error": error})

    def event(self) -> bytes:
        """The same as a server-sent event, for streams that have begun."""
        return b"data: " + self.body() + b"\n\n"


def context_length_exceeded(prompt_tokens: int, max_tokens: int, context_tokens: int, *, param: str) -> ApiError:
    """The error for a prompt that doesn't fit, in the words by which gateways know it ("maximum context length")."""
    return ApiError(
        Reason.CONTEXT_LENGTH,
        f"This model's maximum context length is {context_tokens} tokens. However, you requested "
        f"{prompt_tokens + max_tokens} tokens ({prompt_tokens} in the prompt, {max_tokens} in the completion). "
        "Shorten the prompt or ask for fewer tokens.",
        param=param,
    )


def _printable(text: str) -> str:
    """The text with lone surrogates, which UTF-8 can't carry, written as escapes."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
