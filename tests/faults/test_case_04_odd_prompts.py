"""Case 4: missing or odd ``messages`` and ``prompt``: 400 that names the field."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.http_client import CHAT, COMPLETIONS, fetch
from tests.running_server import MODEL, RunningServer, running_server

MESSAGES: list[Any] = [
    None,
    "hello",
    [],
    [123],
    [None],
    [{}],
    [[]],
    {"role": "user", "content": "hi"},
    [{"role": "user"}],
    [{"content": "hi"}],
    [{"role": "wizard", "content": "hi"}],
    [{"role": 7, "content": "hi"}],
    [{"role": "user", "content": None}],
    [{"role": "user", "content": ""}],
    [{"role": "user", "content": 7}],
    [{"role": "user", "content": []}],
    [{"role": "user", "content": [{}]}],
    [{"role": "user", "content": [{"type": "text"}]}],
    [{"role": "user", "content": "hi", "extra": 1}],
]
PROMPTS: list[Any] = [
    *(None, "", 7, {}, [], [None], [[]], [""]),
    *([1, "a"], ["a", 1], [True], [1.5], [-1], [2**63], [[1], 2]),
]


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with running_server() as server:
        yield server


@pytest.mark.parametrize("messages", MESSAGES, ids=str)
def test_case_04_odd_messages_are_400(server: RunningServer, messages: Any) -> None:
    reply = fetch(server.port, "POST", CHAT, {"model": MODEL, "messages": messages})
    assert reply.status == 400
    assert str(reply.error["param"]).startswith("messages")


def test_case_04_no_messages_are_400(server: RunningServer) -> None:
    assert fetch(server.port, "POST", CHAT, {"model": MODEL}).error["param"] == "messages"


@pytest.mark.parametrize("prompt", PROMPTS, ids=str)
def test_case_04_odd_prompts_are_400(server: RunningServer, prompt: Any) -> None:
    reply = fetch(server.port, "POST", COMPLETIONS, {"model": MODEL, "prompt": prompt})
    assert reply.status == 400
    assert str(reply.error["param"]).startswith("prompt")


def test_case_04_no_prompt_is_400(server: RunningServer) -> None:
    assert fetch(server.port, "POST", COMPLETIONS, {"model": MODEL}).error["param"] == "prompt"


def test_case_04_a_token_outside_the_vocabulary_is_400(server: RunningServer) -> None:
    reply = fetch(server.port, "POST", COMPLETIONS, {"model": MODEL, "prompt": [1, 257]})
    assert reply.status == 400
    assert reply.error["param"] == "prompt"
