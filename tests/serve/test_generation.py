"""Chat and text completions, whole and in streams, over a real socket and a fake engine."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.fakes import letters
from tests.http_client import CHAT, COMPLETIONS, Connection, chat, completion, fetch
from tests.running_server import RunningServer, running_server

PROMPT = len("user:hi\nassistant:")


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with running_server() as server:
        yield server


def test_a_chat_is_answered(server: RunningServer) -> None:
    reply = fetch(server.port, "POST", CHAT, chat(seed=3))
    assert reply.status == 200
    body = reply.json()
    assert body["object"] == "chat.completion"
    assert body["model"] == "fake-model"
    assert body["choices"] == [
        {
            "index": 0,
            "message": {"role": "assistant", "content": letters(PROMPT, 8, 3), "refusal": None},
            "logprobs": None,
            "finish_reason": "length",
        }
    ]
    assert body["usage"]["prompt_tokens"] == PROMPT
    assert body["usage"]["completion_tokens"] == 8
    assert body["usage"]["total_tokens"] == PROMPT + 8
    assert reply.headers["x-request-id"]


def test_a_chat_is_streamed(server: RunningServer) -> None:
    with Connection(server.port) as connection:
        connection.request("POST", CHAT, chat(seed=3, stream=True, stream_options={"include_usage": True}))
        status, headers = connection.read_head()
        events = list(connection.events())
    assert status == 200
    assert headers["content-type"].startswith("text/event-stream")
    assert events[-1] == "[DONE]"
    chunks = [json.loads(event) for event in events[:-1]]
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert len({chunk["id"] for chunk in chunks}) == 1
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    text = "".join(choice["delta"].get("content", "") for chunk in chunks for choice in chunk["choices"])
    assert text == letters(PROMPT, 8, 3)
    assert chunks[-2]["choices"][0]["finish_reason"] == "length"
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["completion_tokens"] == 8
    assert all(chunk["usage"] is None for chunk in chunks[:-1])


def test_a_completion_of_several_prompts_is_answered(server: RunningServer) -> None:
    reply = fetch(server.port, "POST", COMPLETIONS, completion(["a", "bcd"], n=2, seed=0, max_tokens=4))
    texts = [choice["text"] for choice in reply.json()["choices"]]
    assert texts == [letters(1, 4, 0), letters(1, 4, 1), letters(3, 4, 0), letters(3, 4, 1)]
    assert reply.json()["usage"]["prompt_tokens"] == 4
    assert reply.json()["usage"]["completion_tokens"] == 16
