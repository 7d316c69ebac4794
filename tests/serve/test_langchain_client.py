"""LangChain's ChatOpenAI against the server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from langchain_openai import ChatOpenAI

from tests.fakes import letters
from tests.running_server import MODEL, RunningServer, running_server

PROMPT = len("user:hi\nassistant:")


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with running_server() as server:
        yield server


@pytest.fixture
def model(server: RunningServer) -> ChatOpenAI:
    return ChatOpenAI(
        model=MODEL,
        base_url=f"http://127.0.0.1:{server.port}/v1",
        api_key="none",
        max_tokens=8,
        seed=2,
        stream_usage=True,
        timeout=20,
    )


def test_a_chat(model: ChatOpenAI) -> None:
    reply = model.invoke("hi")
    assert reply.content == letters(PROMPT, 8, 2)
    assert reply.usage_metadata["total_tokens"] == PROMPT + 8


def test_a_stream(model: ChatOpenAI) -> None:
    chunks = list(model.stream("hi"))
    assert "".join(chunk.content for chunk in chunks) == letters(PROMPT, 8, 2)
    assert sum(chunk.usage_metadata["output_tokens"] for chunk in chunks if chunk.usage_metadata) == 8


def test_several_at_once(model: ChatOpenAI) -> None:
    assert [reply.content for reply in model.batch(["hi"] * 4)] == [letters(PROMPT, 8, 2)] * 4
