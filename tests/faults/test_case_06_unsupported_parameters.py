"""Cases 6 and 10: known but unsupported parameters, unknown keys, templates and tensors in the body: never ignored."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.http_client import CHAT, COMPLETIONS, chat, completion, fetch
from tests.running_server import RunningServer, running_server

CASE_06: list[tuple[str, Any]] = [
    ("tools", [{"type": "function", "function": {"name": "f"}}]),
    ("response_format", {"type": "json_object"}),
    ("modalities", ["text", "audio"]),
    ("prediction", {"type": "content", "content": "x"}),
    ("best_effort", True),
    ("Temperature", 1),
    ("", 1),
    ("max_token", 3),
]
CASE_10: list[tuple[str, Any]] = [
    ("chat_template", "{{ messages }}"),
    ("chat_template_kwargs", {"tokenize": True}),
    ("prompt_embeds", "gASVKAAAAAAAAAB9"),
    ("documents", [{"text": "x"}]),
]


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with running_server() as server:
        yield server


@pytest.mark.parametrize(("name", "value"), CASE_06)
def test_case_06_an_unsupported_parameter_is_400(server: RunningServer, name: str, value: Any) -> None:
    reply = fetch(server.port, "POST", CHAT, chat(**{name: value}))
    assert reply.status == 400
    assert reply.error["code"] == "unsupported_parameter"
    assert str(reply.error["param"]).startswith(name)


@pytest.mark.parametrize(("name", "value"), [("best_of", 4), ("suffix", "x"), ("echo", True), ("unknown", 1)])
def test_case_06_the_same_holds_for_completions(server: RunningServer, name: str, value: Any) -> None:
    reply = fetch(server.port, "POST", COMPLETIONS, completion(**{name: value}))
    assert reply.status == 400
    assert reply.error["param"] == name


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
@pytest.mark.parametrize(("name", "value"), CASE_10)
def test_case_10_templates_and_tensors_are_400(server: RunningServer, path: str, name: str, value: Any) -> None:
    body = chat() if path == CHAT else completion()
    reply = fetch(server.port, "POST", path, {**body, name: value})
    assert reply.status == 400
    assert reply.error["param"] == name


def test_case_10_a_template_in_tokenize_is_400(server: RunningServer) -> None:
    reply = fetch(server.port, "POST", "/tokenize", {"messages": chat()["messages"], "chat_template": "x"})
    assert reply.status == 400
