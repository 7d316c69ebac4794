"""The table of errors: complete, and in the forms that clients read."""

from __future__ import annotations

import json

import pytest

from headway.policy.events import Finished, FinishReason, Rejected, RejectReason
from headway.serve.errors import ANSWERS, ApiError, Reason, context_length_exceeded


def error_of(body: bytes) -> dict[str, object]:
    error: dict[str, object] = json.loads(body)["error"]
    return error


def test_every_reason_has_an_answer() -> None:
    assert set(ANSWERS) == set(Reason)


@pytest.mark.parametrize("reason", list(Reason))
def test_body_has_all_four_keys(reason: Reason) -> None:
    error = error_of(ApiError(reason, "words").body())
    assert list(error) == ["message", "type", "param", "code"]
    assert error["code"] == reason.value
    assert error["param"] is None


@pytest.mark.parametrize("reason", list(Reason))
def test_overload_and_deadline_say_whether_to_retry(reason: Reason) -> None:
    error = ApiError(reason, "words", retry_after_s=1.25)
    headers = error.headers()
    assert headers["x-should-retry"] in ("true", "false")
    assert ("retry-after" in headers) == (headers["x-should-retry"] == "true") == (error.status in (429, 503))


def test_retry_advice_is_rounded_up() -> None:
    headers = ApiError(Reason.QUEUE_FULL, "full", retry_after_s=1.2501).headers()
    assert headers == {"retry-after": "2", "retry-after-ms": "1251", "x-should-retry": "true"}


@pytest.mark.parametrize(("wait_s", "should_retry"), [(0.25, "true"), (None, "false")])
def test_who_was_refused_for_overload_tries_again_only_when_told_when(wait_s: float | None, should_retry: str) -> None:
    """None means that it can't be on time even if it were alone from now on: trying again only adds load."""
    door = ApiError.from_rejected(Rejected("r", RejectReason.OVERLOADED, "busy", retry_after_s=wait_s))
    queue = ApiError.from_finished(Finished("r", FinishReason.SHED, 1, 0, 0, retry_after_s=wait_s))
    for error in (door, queue):
        assert (error.status, error_of(error.body())["type"]) == (429, "rate_limit_error")
        assert error_of(error.body())["code"] == "overloaded"
        assert error.headers()["x-should-retry"] == should_retry
        assert error.headers().get("retry-after-ms") == (None if wait_s is None else "250")


@pytest.mark.parametrize("reason", list(RejectReason))
def test_every_rejection_has_an_answer(reason: RejectReason) -> None:
    error = ApiError.from_rejected(Rejected("r", reason, "because", limit=1, value=2, retry_after_s=3.0))
    expected = {
        RejectReason.QUEUE_FULL: 429,
        RejectReason.OVERLOADED: 429,
        RejectReason.NOT_READY: 503,
        RejectReason.DRAINING: 503,
        RejectReason.EXPIRED: 504,
    }
    assert error.status == expected.get(reason, 400)
    assert error_of(error.body())["code"] == reason.value


@pytest.mark.parametrize(
    ("reason", "status"),
    [
        (FinishReason.ABORTED, 503),
        (FinishReason.SHED, 429),
        (FinishReason.EXPIRED, 504),
        (FinishReason.FAILED, 500),
    ],
)
def test_every_failed_end_has_an_answer(reason: FinishReason, status: int) -> None:
    error = ApiError.from_finished(Finished("r", reason, 1, 2, 0, detail="what happened"))
    assert error.status == status
    assert "what happened" in error.message


def test_context_length_has_both_numbers_and_the_known_words() -> None:
    message = context_length_exceeded(5000, 200, 4096, param="messages").message
    assert "maximum context length is 4096 tokens" in message
    assert "5200 tokens (5000 in the prompt, 200 in the completion)" in message


def test_messages_are_bounded_and_always_encodable() -> None:
    error = ApiError(Reason.INVALID_VALUE, "\ud800" + "x" * 100_000, param="\udfff")
    decoded = error_of(error.body())
    assert len(str(decoded["message"])) <= 2_000
    assert decoded["param"] == "\\udfff"


def test_event_is_one_server_sent_event() -> None:
    event = ApiError(Reason.INTERNAL, "two\nlines").event()
    assert event.startswith(b"data: {")
    assert event.endswith(b"}\n\n")
    assert event.count(b"\n") == 2
