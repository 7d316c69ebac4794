"""Cases 7 and 8: requests that can never fit the context, or the KV pool: 400 with the numbers, never 429."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.fakes import INFO, ScriptedExecutor
from tests.http_client import CHAT, COMPLETIONS, chat, completion, fetch
from tests.running_server import running_server


def test_case_07_prompt_and_max_tokens_over_the_context_are_400() -> None:
    with running_server() as server:
        reply = fetch(server.port, "POST", COMPLETIONS, completion("a" * 2000, max_tokens=100))
        assert reply.status == 400
        error = reply.error
        assert error["code"] == "context_length_exceeded"
        assert error["param"] == "prompt"
        assert "maximum context length is 2048 tokens" in error["message"]
        assert "2100" in error["message"]
        assert fetch(server.port, "POST", CHAT, chat("a" * 3000)).error["code"] == "context_length_exceeded"
        assert fetch(server.port, "POST", COMPLETIONS, completion("a" * 2000, max_tokens=48)).status == 200


def test_case_07_a_chat_without_a_limit_gets_what_is_left() -> None:
    with running_server(ScriptedExecutor(info=replace(INFO, context_tokens=64))) as server:
        body = chat()
        del body["max_tokens"]
        usage = fetch(server.port, "POST", CHAT, body).json()["usage"]
        assert usage["total_tokens"] == 64


@pytest.mark.parametrize("stream", [False, True])
def test_case_08_what_can_never_fit_the_cache_is_400(stream: bool) -> None:
    executor = ScriptedExecutor(info=replace(INFO, kv_blocks=8))  # 128 tokens, of a context of 2048
    with running_server(executor) as server:
        reply = fetch(server.port, "POST", COMPLETIONS, completion("a" * 100, max_tokens=100, stream=stream))
        assert reply.status == 400
        assert reply.error["code"] == "kv_capacity_exceeded"
        assert reply.headers["x-should-retry"] == "false"
        assert not executor.plans


def test_case_08_a_chat_without_a_limit_gets_what_the_cache_has_room_for() -> None:
    """A model with a long context on a small machine: every chat that named no limit was answered 400, since the
    context alone decided how much it might need."""
    with running_server(ScriptedExecutor(info=replace(INFO, kv_blocks=4))) as server:  # 64 tokens
        body = chat()
        del body["max_tokens"]
        reply = fetch(server.port, "POST", CHAT, body)
        assert reply.status == 200
        assert reply.json()["usage"]["total_tokens"] == 65
