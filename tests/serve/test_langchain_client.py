"""LangChain's ChatOpenAI against the server: calls, streams, batches, tuning, errors."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import openai
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
def model(server: RunningServer) -> Any:
    return ChatOpenAI(
        model=MODEL,
        base_url=f"http://127.0.0.1:{server.port}/v1",
        api_key="none",
        max_tokens=8,
        seed=2,
        temperature=0.5,
        stream_usage=True,
        max_retries=0,
    )


def test_a_call(model: Any) -> None:
    reply = model.invoke("hi")
    assert reply.content == letters(PROMPT, 8, 2)
    assert reply.usage_metadata["input_tokens"] == PROMPT
    assert reply.usage_metadata["output_tokens"] == 8
    assert reply.response_metadata["finish_reason"] == "length"
    assert reply.response_metadata["model_name"] == MODEL


def test_a_conversation(model: Any) -> None:
    reply = model.invoke([("system", "be brief"), ("user", "hi"), ("assistant", "yes?"), ("user", "go on")])
    assert len(reply.content) == 8
    assert model.invoke([("user", "hi"), reply, ("user", "go on")]).content


def test_a_stream(model: Any) -> None:
    chunks = list(model.stream("hi"))
    assert "".join(chunk.content for chunk in chunks) == letters(PROMPT, 8, 2)
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole += chunk
    assert whole.usage_metadata["output_tokens"] == 8
    assert whole.response_metadata["finish_reason"] == "length"


def test_a_batch_at_once(model: Any) -> None:
    assert [reply.content for reply in model.batch(["hi"] * 8)] == [letters(PROMPT, 8, 2)] * 8


def test_without_blocking(model: Any) -> None:
    async def both() -> tuple[str, str]:
        whole = await model.ainvoke("hi")
        return whole.content, "".join([chunk.content async for chunk in model.astream("hi")])

    assert asyncio.run(both()) == (letters(PROMPT, 8, 2),) * 2


def test_a_stop_string_and_logprobs(model: Any) -> None:
    text = letters(PROMPT, 8, 2)
    assert model.invoke("hi", stop=[text[3:5]]).content == text[:3]
    reply = model.bind(logprobs=True, top_logprobs=2).invoke("hi")
    assert len(reply.response_metadata["logprobs"]["content"]) == 8


def test_parts_of_text(model: Any) -> None:
    message = {"role": "user", "content": [{"type": "text", "text": "hi"}]}
    assert model.invoke([message]).content == letters(PROMPT, 8, 2)


def test_what_is_not_supported_is_an_error(model: Any) -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
    with pytest.raises(openai.BadRequestError, match="'tools' is not supported"):
        model.bind_tools([tool]).invoke("hi")
    picture = {"type": "image_url", "image_url": {"url": "http://127.0.0.1:9/x.png"}}
    with pytest.raises(openai.BadRequestError, match="must be 'text'"):
        model.invoke([{"role": "user", "content": [picture]}])
    with pytest.raises(openai.BadRequestError, match="maximum context length is 2048 tokens"):
        model.invoke("a" * 3000)
