"""The official client against the server: chats, streams, completions, models, errors, retries."""

from __future__ import annotations

from collections.abc import Iterator

import openai
import pytest

from headway.policy.scheduler import SchedulerConfig
from headway.serve.lifecycle import ServeConfig
from tests.fakes import ScriptedExecutor, letters
from tests.http_client import CHAT, Connection, chat
from tests.running_server import MODEL, RunningServer, running_server

HELLO = [{"role": "user", "content": "hi"}]
PROMPT = len("user:hi\nassistant:")


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with running_server(config=ServeConfig(api_keys=("the-key",))) as server:
        yield server


@pytest.fixture
def client(server: RunningServer) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"http://127.0.0.1:{server.port}/v1", api_key="the-key", timeout=20) as client:
        yield client


def test_a_chat(client: openai.OpenAI) -> None:
    reply = client.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=8, seed=2)
    assert reply.choices[0].message.content == letters(PROMPT, 8, 2)
    assert reply.choices[0].finish_reason == "length"
    assert reply.usage.total_tokens == PROMPT + 8
    assert reply._request_id


def test_a_stream(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(
        model=MODEL,
        messages=HELLO,
        max_completion_tokens=8,
        seed=2,
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == letters(PROMPT, 8, 2)
    assert chunks[-1].usage.completion_tokens == 8


def test_leaving_a_stream_early_ends_it(client: openai.OpenAI, server: RunningServer) -> None:
    with client.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=1500, stream=True) as stream:
        next(iter(stream))
    server.wait_idle()


def test_a_completion(client: openai.OpenAI) -> None:
    reply = client.completions.create(model=MODEL, prompt=["a", "bc"], max_tokens=4, seed=0, logprobs=1)
    assert [choice.text for choice in reply.choices] == [letters(1, 4), letters(2, 4)]
    assert len(reply.choices[0].logprobs.tokens) == 4


def test_logprobs_of_a_chat(client: openai.OpenAI) -> None:
    reply = client.chat.completions.create(
        model=MODEL, messages=HELLO, max_tokens=3, logprobs=True, top_logprobs=2, n=2
    )
    assert [len(choice.logprobs.content) for choice in reply.choices] == [3, 3]
    assert len(reply.choices[0].logprobs.content[0].top_logprobs) == 2


def test_models(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == [MODEL]
    assert client.models.retrieve(MODEL).owned_by == "headway"


def test_errors_are_the_right_exceptions(client: openai.OpenAI, server: RunningServer) -> None:
    with pytest.raises(openai.BadRequestError) as bad:
        client.chat.completions.create(model=MODEL, messages=HELLO, temperature=3)
    assert bad.value.param == "temperature"
    assert bad.value.code == "invalid_value"
    with pytest.raises(openai.BadRequestError) as long:
        client.completions.create(model=MODEL, prompt="a" * 3000)
    assert long.value.code == "context_length_exceeded"
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="other", messages=HELLO)
    with pytest.raises(openai.AuthenticationError):
        client.with_options(api_key="wrong").models.list()
    with pytest.raises(openai.NotFoundError):
        client.post("/nothing", cast_to=object)


def test_an_error_in_a_stream_is_raised() -> None:
    with (
        running_server(ScriptedExecutor(step_s=0.01)) as server,
        openai.OpenAI(base_url=f"http://127.0.0.1:{server.port}/v1", api_key="none") as client,
    ):
        stream = client.chat.completions.create(
            model=MODEL, messages=HELLO, max_tokens=1500, stream=True, extra_headers={"X-Request-Timeout-Ms": "100"}
        )
        with pytest.raises(openai.APIError, match="deadline"):
            list(stream)


def test_a_missed_deadline_is_not_retried() -> None:
    with (
        running_server(ScriptedExecutor(step_s=0.01)) as server,
        openai.OpenAI(base_url=f"http://127.0.0.1:{server.port}/v1", api_key="none", max_retries=5) as client,
    ):
        with pytest.raises(openai.InternalServerError) as late:
            client.chat.completions.create(
                model=MODEL, messages=HELLO, max_tokens=1500, extra_headers={"X-Request-Timeout-Ms": "50"}
            )
        assert late.value.status_code == 504
        assert server.node.telemetry.responses[CHAT, 504] == 1


def test_a_shed_request_comes_back_when_there_is_room() -> None:
    executor = ScriptedExecutor()
    executor.hold()
    config = ServeConfig(scheduler=SchedulerConfig(max_running=1, max_queued_requests=1))
    with (
        running_server(executor, config) as server,
        openai.OpenAI(base_url=f"http://127.0.0.1:{server.port}/v1", api_key="none", max_retries=5) as client,
        Connection(server.port) as first,
        Connection(server.port) as second,
    ):
        first.request("POST", CHAT, chat())
        assert executor.in_step.wait(10)
        second.request("POST", CHAT, chat())
        server.wait_until(lambda: server.stats().waiting == 1)
        with pytest.raises(openai.RateLimitError):
            client.with_options(max_retries=0).chat.completions.create(model=MODEL, messages=HELLO, max_tokens=2)
        executor.free()
        reply = client.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=2)
        assert reply.choices[0].finish_reason == "length"
