"""Streams in detail: what each event holds, choices side by side, stop strings, log-probabilities, pings, usage."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import pytest

from headway.policy.events import Finished, FinishReason, TokenOut
from headway.serve.auth import Tenant
from headway.serve.lifecycle import ServeConfig
from headway.serve.limits import EdgeLimits
from headway.serve.prepare import Call, prepare_completion
from tests.fakes import EOS, ScriptedExecutor, letters
from tests.http_client import CHAT, COMPLETIONS, Connection, Response, chat, completion, fetch
from tests.running_server import RunningServer, running_server


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with running_server() as server:
        yield server


def _stream(server: RunningServer, path: str, body: dict[str, Any]) -> list[dict[str, Any]]:
    with Connection(server.port) as connection:
        connection.request("POST", path, {**body, "stream": True})
        assert connection.read_head()[0] == 200
        *events, done = connection.events()
    assert done == "[DONE]"
    return [json.loads(event) for event in events]


def _texts(chunks: list[dict[str, Any]]) -> dict[int, str]:
    texts: dict[int, str] = {}
    for chunk in chunks:
        for choice in chunk["choices"]:
            piece = choice.get("text") or choice.get("delta", {}).get("content") or ""
            texts[choice["index"]] = texts.get(choice["index"], "") + piece
    return texts


def test_choices_are_interleaved_and_numbered(server: RunningServer) -> None:
    chunks = _stream(server, COMPLETIONS, completion(["a", "bcd"], n=2, seed=5, max_tokens=6))
    assert _texts(chunks) == {0: letters(1, 6, 5), 1: letters(1, 6, 6), 2: letters(3, 6, 5), 3: letters(3, 6, 6)}
    ends = [choice["index"] for chunk in chunks for choice in chunk["choices"] if choice["finish_reason"]]
    assert sorted(ends) == [0, 1, 2, 3]


def test_every_choice_of_a_chat_opens_with_its_role(server: RunningServer) -> None:
    chunks = _stream(server, CHAT, chat(n=3))
    roles = [choice["index"] for chunk in chunks for choice in chunk["choices"] if choice["delta"].get("role")]
    assert sorted(roles) == [0, 1, 2]


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
def test_streamed_text_is_the_whole_text(server: RunningServer, path: str) -> None:
    body = chat(seed=4, max_tokens=40) if path == CHAT else completion(seed=4, max_tokens=40)
    choice = fetch(server.port, "POST", path, body).json()["choices"][0]
    whole = choice["message"]["content"] if path == CHAT else choice["text"]
    assert _texts(_stream(server, path, body)) == {0: whole}


def _stop_body(**options: Any) -> tuple[dict[str, Any], str]:
    text = letters(2, 20, 1)
    return completion("hi", seed=1, max_tokens=20, stop=[text[7:10]], **options), text[:7]


def test_a_stop_string_ends_the_text_before_it(server: RunningServer) -> None:
    body, expected = _stop_body()
    reply = fetch(server.port, "POST", COMPLETIONS, body).json()
    assert reply["choices"][0]["text"] == expected
    assert reply["choices"][0]["finish_reason"] == "stop"
    assert reply["usage"]["completion_tokens"] == 10
    assert _texts(_stream(server, COMPLETIONS, body)) == {0: expected}


def test_what_was_held_back_for_a_stop_string_comes_at_the_end(server: RunningServer) -> None:
    text = letters(2, 8, 1)
    body = completion("hi", seed=1, max_tokens=8, stop=[text[-2:] + "!"])
    assert _texts(_stream(server, COMPLETIONS, body)) == {0: text}


def test_a_stop_token_ends_the_request_and_is_not_shown() -> None:
    executor = ScriptedExecutor(token=lambda position, draw: EOS if position == 5 else ord("x"))
    with running_server(executor) as server:
        reply = fetch(server.port, "POST", COMPLETIONS, completion("hi")).json()
        assert reply["choices"][0]["text"] == "xxx"
        assert reply["choices"][0]["finish_reason"] == "stop"
        assert reply["usage"]["completion_tokens"] == 4, "it was drawn, so it counts"
        ignoring = fetch(server.port, "POST", COMPLETIONS, completion("hi", ignore_eos=True)).json()
        assert ignoring["choices"][0]["text"] == "x" * 7
        assert ignoring["choices"][0]["finish_reason"] == "length"


def test_characters_are_never_cut() -> None:
    raw = "a\u20ac\U0001f600z".encode()
    executor = ScriptedExecutor(token=lambda position, draw: raw[position - 2])
    with running_server(executor) as server:
        chunks = _stream(server, COMPLETIONS, completion("hi", max_tokens=len(raw)))
        pieces = [choice["text"] for chunk in chunks for choice in chunk["choices"] if choice["text"]]
        assert pieces == ["a", "\u20ac", "\U0001f600", "z"]


def test_usage_comes_last_and_only_when_asked_for(server: RunningServer) -> None:
    assert all("usage" not in chunk for chunk in _stream(server, CHAT, chat()))
    chunks = _stream(server, CHAT, chat(n=2, stream_options={"include_usage": True}))
    assert [chunk["usage"] for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["completion_tokens"] == 16


def test_continuous_usage_counts_tokens_chunk_by_chunk(server: RunningServer) -> None:
    options = {"include_usage": True, "continuous_usage_stats": True}
    chunks = _stream(server, COMPLETIONS, completion(stream_options=options))
    counts = [chunk["usage"]["completion_tokens"] for chunk in chunks if chunk["choices"] and chunk["usage"]]
    assert counts == list(range(1, 9))


@pytest.mark.parametrize("stream", [False, True])
def test_chat_logprobs_name_every_token(server: RunningServer, stream: bool) -> None:
    body = chat(logprobs=True, top_logprobs=2, seed=1, max_tokens=4)
    if stream:
        chunks = _stream(server, CHAT, body)
        shown = [choice["logprobs"] for chunk in chunks for choice in chunk["choices"] if choice["logprobs"]]
        content = [token for each in shown for token in each["content"]]
    else:
        content = fetch(server.port, "POST", CHAT, body).json()["choices"][0]["logprobs"]["content"]
    assert "".join(token["token"] for token in content) == letters(18, 4, 1)
    assert all(token["bytes"] == list(token["token"].encode()) for token in content)
    assert all(len(token["top_logprobs"]) == 2 for token in content)
    assert all(token["logprob"] == -0.5 for token in content)


def test_completion_logprobs_have_offsets(server: RunningServer) -> None:
    reply = fetch(server.port, "POST", COMPLETIONS, completion(logprobs=1, max_tokens=3, seed=0)).json()
    logprobs = reply["choices"][0]["logprobs"]
    assert "".join(logprobs["tokens"]) == letters(2, 3, 0)
    assert logprobs["text_offset"] == [0, 1, 2]
    assert logprobs["token_logprobs"] == [-0.5] * 3
    assert [len(top) for top in logprobs["top_logprobs"]] == [1, 1, 1]


@pytest.mark.parametrize("stream", [False, True])
def test_log_probabilities_tell_parts_of_characters_and_special_tokens_apart(stream: bool) -> None:
    """They all had the text U+FFFD or none: only the last one of them was shown, and offsets counted each as one."""
    tokens = [*"a\u20ac".encode(), EOS - 1, ord("z")]
    executor = ScriptedExecutor(token=lambda position, draw: tokens[position - 2])
    with running_server(executor) as server:
        body = completion("hi", max_tokens=len(tokens), logprobs=3)
        if stream:
            shown = [c["logprobs"] for chunk in _stream(server, COMPLETIONS, body) for c in chunk["choices"]]
            logprobs = {key: [v for each in shown if each for v in each[key]] for key in shown[0]}
        else:
            [choice] = fetch(server.port, "POST", COMPLETIONS, body).json()["choices"]
            logprobs = choice["logprobs"]
            assert choice["text"] == "a\u20ac\ufffdz"
    assert logprobs["tokens"] == ["a", "bytes:\\xe2", "bytes:\\x82", "bytes:\\xac", "bytes:\\xff", "z"]
    assert logprobs["text_offset"] == [0, 1, 1, 1, 2, 3]
    assert list(logprobs["top_logprobs"][1]) == ["bytes:\\xe2", "bytes:\\xe3", "bytes:\\xe4"]
    assert list(logprobs["top_logprobs"][4]) == ["bytes:\\xff", "token_id:256", "token_id:257"]


def test_a_quiet_stream_is_pinged_and_starts_late_only_once() -> None:
    executor = ScriptedExecutor()
    executor.hold()
    with (
        running_server(executor, ServeConfig(edge=EdgeLimits(ping_s=0.05))) as server,
        Connection(server.port) as connection,
    ):
        connection.request("POST", CHAT, chat(stream=True))
        assert connection.read_head()[0] == 200  # the first ping was due before the first token
        events = connection.events()
        assert [next(events) for _ in range(3)] == [": ping"] * 3
        executor.free()
        rest = list(events)
        assert rest[-1] == "[DONE]"


def test_a_lively_stream_is_never_pinged(server: RunningServer) -> None:
    """One used to come when the first token was there before anyone waited for it."""
    for _ in range(30):
        with Connection(server.port) as connection:
            connection.request("POST", CHAT, chat(stream=True, max_tokens=2))
            assert connection.read_head()[0] == 200
            assert ": ping" not in list(connection.events())


def test_one_write_for_all_choices_of_a_step() -> None:
    executor = ScriptedExecutor()
    executor.hold()
    with running_server(executor) as server, Connection(server.port) as connection:
        connection.request("POST", CHAT, chat(n=4, stream=True, max_tokens=3))
        server.wait_until(lambda: server.stats().running + server.stats().waiting == 4)
        executor.release(2)
        assert connection.read_head()[0] == 200
        chunks = connection.chunks()
        server.wait_until(lambda: server.stats().output_tokens >= 4)
        executor.free()
        whole = list(chunks)
        assert len(whole) < 8, "three steps and a little, not twelve tokens"


def test_a_reply_that_cannot_be_built_fails_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    executor = ScriptedExecutor(token=lambda position, draw: -1 if draw.params.seed == 66 else ord("x"))
    with running_server(executor) as server, Connection(server.port) as good:
        good.request("POST", COMPLETIONS, completion(stream=True, max_tokens=100))
        bad: Response = fetch(server.port, "POST", COMPLETIONS, completion(seed=66))
        assert bad.status == 500
        assert bad.error["code"] == "internal_error"
        assert good.read_head()[0] == 200
        assert list(good.events())[-1] == "[DONE]"


@pytest.mark.parametrize("n", [1, 3])
def test_a_chat_whose_first_token_ends_it_still_opens_every_choice(n: int) -> None:
    """The stream began with its last chunk: clients that take the role from the first one had none."""
    executor = ScriptedExecutor(token=lambda position, draw: EOS)
    with running_server(executor) as server:
        chunks = _stream(server, CHAT, chat(n=n, stream_options={"include_usage": True}))
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    for index in range(n):
        first, last = (choice for choice in choices if choice["index"] == index)
        assert first["delta"] == {"role": "assistant", "content": ""}
        assert first["finish_reason"] is None
        assert last["finish_reason"] == "stop"
    assert chunks[-1]["usage"]["completion_tokens"] == n


def test_a_failed_text_thread_ends_the_server(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It died unseen: health was fine, and every stream hung until its deadline."""
    executor = ScriptedExecutor()
    with running_server(executor) as server, Connection(server.port) as connection:

        def broken(updates: object) -> None:
            raise RuntimeError("broken")

        monkeypatch.setattr(server.node.streams, "_hand_over", broken)
        with contextlib.suppress(EOFError, ConnectionError):
            connection.request("POST", CHAT, chat(stream=True))
            connection.read_response()
        assert server.ended.wait(20)
    assert server.exit_codes == [1]
    assert any("the text thread has failed: broken" in line for line in server.lines)
    assert "the text thread failed" in caplog.text


@pytest.mark.parametrize("reason", [FinishReason.EXPIRED, FinishReason.FAILED, FinishReason.ABORTED])
def test_a_stop_string_wins_over_another_end_of_the_same_moment(reason: FinishReason) -> None:
    """The text was complete and shown, and then the reply ended with an error."""
    with running_server() as server:
        service = server.node.service
        call = Call("x", Tenant("t", b""), 0.0, 600.0)
        prepared = prepare_completion(service, call, json.dumps(completion("hi", stop="b")).encode())
        [choice] = prepared.reply.build.choices

        def deliver() -> None:
            service.streams.open(prepared.reply)
            tokens = [TokenOut(choice.request_id, index, ord(letter)) for index, letter in enumerate("ab")]
            finished = Finished(choice.request_id, reason, 2, 2, 0)
            service.streams.deliver([*tokens, finished])

        server.on_loop(deliver)
        server.wait_until(lambda: prepared.reply.ended)
        assert prepared.reply.error is None
        [body] = json.loads(server.on_loop(prepared.reply.take))["choices"]
        assert (body["text"], body["finish_reason"]) == ("a", "stop")
