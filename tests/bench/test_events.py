"""What a reply says is read as it was meant, in any pieces, of any server."""

from __future__ import annotations

import json

import pytest

from headway.bench.events import EVENT_BYTES_MAX, Reading, read_error
from headway.bench.record import Outcome
from tests.bench.scripted_server import DONE, said, token, usage

SSE = {"content-type": "text/event-stream; charset=utf-8"}
JSON = {"content-type": "application/json"}


def read(*pieces: bytes, status: int = 200, headers: dict[str, str] | None = None, whole: bool = True) -> Reading:
    """Piece number i comes at i seconds."""
    reading = Reading()
    reading.begin(status, SSE if headers is None else headers)
    for at_s, piece in enumerate(pieces):
        reading.take(piece, float(at_s))
    if whole:
        reading.complete(float(len(pieces)))
    else:
        reading.lost(float(len(pieces)), None)
    return reading


def test_each_event_with_text_is_a_token_when_usage_says_the_same() -> None:
    reading = read(token("a"), token("b"), said(usage=usage(5, 2)), DONE)
    assert (reading.outcome, reading.error) == (Outcome.OK, None)
    assert (reading.chunk_s, reading.chunk_tokens, reading.is_counted) == ([0.0, 1.0], [1, 1], True)
    assert (reading.usage_prompt, reading.usage_completion, reading.ended_s) == (5, 2, 4.0)


@pytest.mark.parametrize("last", [said(usage=usage(5, 7)), b""])
def test_without_counts_each_chunk_is_one_and_says_that_it_may_not_be(last: bytes) -> None:
    reading = read(token("a b"), token("c d"), last, DONE)
    assert (reading.chunk_tokens, reading.is_counted) == ([1, 1], False)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 50, 10_000])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_events_may_come_in_any_pieces(size: int, end: bytes) -> None:
    data = b": ping\n\n" + token("a") + b"event: message\nid: 7\n" + token("b") + b"retry: 5\n\n" + token("c") + DONE
    data = data.replace(b"\n", end).replace(b"data: [DONE]", b"data:[DONE]")
    reading = read(*(data[at : at + size] for at in range(0, len(data), size)))
    assert (reading.outcome, len(reading.chunk_s)) == (Outcome.OK, 3)
    if size == 10_000:
        assert reading.chunk_s == [0.0] * 3  # all came with one read


def test_data_over_several_lines_is_one_event() -> None:
    event = json.dumps({"choices": [{"text": "a"}]}, indent=1).encode()
    data = b"".join(b"data: " + line + b"\n" for line in event.split(b"\n")) + b"\n"
    assert read(data, token("b"), DONE).chunk_s == [0.0, 1.0]


def test_the_first_event_of_a_chat_names_the_role_and_is_no_token() -> None:
    """Taken for one it makes any TTFT look like the time to accept a request."""
    reading = read(said({"role": "assistant", "content": ""}), said({"content": "a"}), said({}, finish_reason="stop"))
    assert (reading.chunk_s, reading.visible_s, reading.finish_reason) == ([1.0], 1.0, "stop")


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
def test_reasoning_is_tokens_that_nobody_sees(name: str) -> None:
    reading = read(said({name: "hm"}), said({name: "hm"}), said({"content": "a"}), DONE)
    assert (reading.chunk_s, reading.visible_s) == ([0.0, 1.0, 2.0], 2.0)


def test_tool_calls_are_tokens() -> None:
    call = {"index": 0, "id": "1", "type": "function", "function": {"name": "f", "arguments": ""}}
    reading = read(said({"role": "assistant", "content": None}), said({"tool_calls": [call]}), DONE)
    assert (reading.chunk_s, reading.visible_s) == ([1.0], 1.0)


def test_chunks_of_several_tokens_are_counted_by_the_growth_of_usage() -> None:
    """Counted as one each, three tokens a chunk make the gaps of 1 s look three times too long."""
    reading = read(
        said({"role": "assistant", "content": ""}, usage=usage(4, 0)),
        said({"content": "a b c"}, usage=usage(4, 3)),
        said({"content": "d e"}, usage=usage(4, 5)),
        said({}, finish_reason="length", usage=usage(4, 5)),
        said(usage=usage(4, 5)),
        DONE,
    )
    assert (reading.chunk_s, reading.chunk_tokens, reading.is_counted) == ([1.0, 2.0], [3, 2], True)


def test_tokens_that_a_parser_holds_back_show_in_usage() -> None:
    """Empty deltas whose usage grows: a tool call that is sent only when it is whole."""
    events = [said({"content": ""}, usage=usage(4, tokens)) for tokens in (1, 2, 4)]
    reading = read(*events, said({"content": "all of it"}, usage=usage(4, 4)), DONE)
    assert (reading.chunk_s, reading.chunk_tokens, reading.visible_s) == ([0.0, 1.0, 2.0], [1, 1, 2], 3.0)


def test_usage_that_stands_still_counts_nothing() -> None:
    reading = read(*(said({"content": "a"}, usage=usage(4, 0)) for _ in range(3)), said(usage=usage(4, 3)), DONE)
    assert (reading.chunk_tokens, reading.is_counted) == ([1, 1, 1], True)


def test_usage_with_the_last_piece_of_text_is_no_growth() -> None:
    """Of servers that don't tell it before: all tokens would seem to have come with the last chunk."""
    reading = read(token("a"), token("b"), token("c", usage=usage(4, 3)), DONE)
    assert (reading.chunk_tokens, reading.is_counted) == ([1, 1, 1], True)


def test_cached_tokens_and_tier() -> None:
    told = {**usage(9, 1), "prompt_tokens_details": {"cached_tokens": 8}}
    reading = read(token("a", service_tier="priority"), said(usage=told), DONE)
    assert (reading.usage_cached, reading.service_tier) == (8, "priority")


def test_the_timings_of_llama_cpp_stand_in_for_usage() -> None:
    timings = {"prompt_n": 3, "cache_n": 6, "predicted_n": 2, "prompt_ms": 5.5}
    reading = read(token("a"), token("b"), said({}, finish_reason="stop", timings=timings), DONE)
    assert (reading.usage_prompt, reading.usage_cached, reading.usage_completion) == (9, 6, 2)
    assert reading.is_counted


@pytest.mark.parametrize(
    ("pieces", "whole", "outcome", "words"),
    [
        ([token("a")], True, Outcome.BROKEN, "ended early"),
        ([token("a")], False, Outcome.BROKEN, "ended early"),
        ([DONE], True, Outcome.MALFORMED, "without a token"),
        ([token("a"), b"data: {\n\n"], True, Outcome.MALFORMED, "not an event"),
        ([token("a"), b'data: {"choices": 5}\n\n'], True, Outcome.MALFORMED, "not an event"),
        ([token("a"), b'data: {"error": {"message": "lost", "code": "engine"}}\n\n'], True, Outcome.ERROR, "lost"),
        ([token("a"), b'data: {"object": "error", "message": "lost", "code": 500}\n\n'], True, Outcome.ERROR, "lost"),
        ([token("a"), b'event: error\ndata: {"error": "lost"}\n\n'], True, Outcome.ERROR, "lost"),
        ([token("a"), b"data: " + b"x" * EVENT_BYTES_MAX], True, Outcome.MALFORMED, "more than"),
        ([token("a"), b"data: x\n" * (EVENT_BYTES_MAX // 2)], True, Outcome.MALFORMED, "more than"),
    ],
)
def test_what_is_broken_says_so_and_keeps_what_came(
    pieces: list[bytes], whole: bool, outcome: Outcome, words: str
) -> None:
    reading = read(*pieces, whole=whole)
    assert reading.outcome is outcome
    assert words in (reading.error or "")
    assert len(reading.chunk_s) == (token("a") in pieces)


def test_the_end_may_lack_its_empty_line_and_its_connection() -> None:
    assert read(token("a"), b"data: [DONE]").outcome is Outcome.OK
    assert read(token("a"), DONE, whole=False).outcome is Outcome.OK


def test_a_reply_that_is_not_streamed() -> None:
    choice = {"message": {"role": "assistant", "content": "a b"}, "finish_reason": "stop"}
    body = json.dumps({"object": "chat.completion", "choices": [choice], "usage": usage(3, 2)}).encode()
    reading = read(body[:9], body[9:], headers={**JSON, "x-queue-time": "250"})
    assert (reading.outcome, reading.finish_reason) == (Outcome.OK, "stop")
    assert (reading.chunk_s, reading.chunk_tokens, reading.is_counted) == ([2.0], [2], True)
    assert reading.queue_s == 0.25
    assert read(body, headers=JSON, whole=False).outcome is Outcome.OK  # closed in place of a length
    assert read(body, headers={**JSON, "content-length": "999"}, whole=False).outcome is Outcome.BROKEN
    assert read(b"<html>", headers=JSON).outcome is Outcome.MALFORMED
    assert read(b'{"choices": []}', headers=JSON).outcome is Outcome.MALFORMED
    assert read(b'{"object": "error", "message": "no"}', headers=JSON).outcome is Outcome.ERROR


NESTED = b'{"error": {"message": "busy", "type": "overloaded_error", "param": null, "code": "overloaded"}}'


@pytest.mark.parametrize(
    ("status", "headers", "body", "outcome", "code"),
    [
        (429, {}, NESTED, Outcome.REFUSED, "overloaded"),
        (503, {"retry-after": "1"}, NESTED, Outcome.REFUSED, "overloaded"),
        (503, {}, NESTED, Outcome.ERROR, "overloaded"),
        (400, {}, NESTED.replace(b'"overloaded"', b'"objective_impossible"'), Outcome.REFUSED, "objective_impossible"),
        (500, {}, b"busy", Outcome.ERROR, None),
        (404, {}, b'{"detail": "busy"}', Outcome.ERROR, None),
        (500, {}, b"", Outcome.ERROR, None),
        (204, {}, b"", Outcome.ERROR, None),
    ],
)
def test_another_status_than_200(
    status: int, headers: dict[str, str], body: bytes, outcome: Outcome, code: str | None
) -> None:
    reading = read(body, status=status, headers=headers)
    assert (reading.outcome, reading.code, reading.status) == (outcome, code, status)
    assert reading.error == (f"status {status}: busy" if b"busy" in body else f"status {status}")


@pytest.mark.parametrize(
    ("body", "message", "code"),
    [
        (NESTED, "busy", "overloaded"),
        (b'{"error": {"message": "no", "type": "BadRequestError", "code": 400}}', "no", "400"),
        (b'{"object": "error", "message": "no", "type": "BadRequest", "code": 400}', "no", "400"),
        (b'{"error": "no", "error_type": "validation"}', "no", "validation"),
        (b'{"error": "no"}', "no", None),
        (b'{"detail": [{"msg": "no"}]}', '[{"msg":"no"}]', None),
        (b"<h1>no</h1>", "<h1>no</h1>", None),
        (b'"no"', "no", None),
    ],
)
def test_errors_have_four_forms(body: bytes, message: str, code: str | None) -> None:
    assert read_error(body) == (message, code)


@pytest.mark.parametrize(
    "event",
    [
        b'{"choices": [{"delta": {"content": "\xff"}}]}',
        b'{"choices": [{"text": "a"}], "usage": {"completion_tokens": 4294967295}}',
        b'{"choices": [{"text": "a"}], "usage": {"prompt_tokens": 99999999999999999999}}',
        b'{"error": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ],
)
def test_what_no_decoder_takes_is_malformed(event: bytes) -> None:
    """Bytes that are no text, counts that have run below 0, endless nesting: the reply is a miss, and nothing else is
    harmed, neither its process nor the figures that would be made of billions of tokens."""
    for head, body in (("text/event-stream", b"data: " + event + b"\n\n"), ("application/json", event)):
        reading = Reading()
        reading.begin(200, {"content-type": head})
        reading.take(body, 1.0)
        reading.complete(1.0)
        assert reading.outcome is Outcome.MALFORMED


def test_an_error_that_is_no_text_is_an_error() -> None:
    reading = Reading()
    reading.begin(500, {})
    reading.take(b'{"error": {"message": "\xff"}}', 1.0)
    reading.complete(1.0)
    assert reading.outcome is Outcome.ERROR
