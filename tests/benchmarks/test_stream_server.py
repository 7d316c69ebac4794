"""The server that load generators are measured against, over real sockets."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from benchmarks.stream_server import HOST
from headway.bench.launch import end


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    command = [sys.executable, "-m", "benchmarks.stream_server", "--gap", "0.001", "--first", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield int(process.stdout.readline())
    finally:
        end(process)
        process.stdout.close()


def ask(port: int, path: str, body: object | None = None) -> tuple[int, str]:
    connection = http.client.HTTPConnection(HOST, port, timeout=10.0)
    try:
        connection.request("GET" if body is None else "POST", path, None if body is None else json.dumps(body))
        reply = connection.getresponse()
        return reply.status, reply.read().decode()
    finally:
        connection.close()


def events(port: int, path: str, **fields: object) -> list[Any]:
    status, text = ask(port, path, {"stream": True, **fields})
    assert status == 200
    *before, last = [each.removeprefix("data: ") for each in text.strip().split("\n\n")]
    assert last == "[DONE]"
    return [json.loads(each) for each in before]


def test_chat_gets_as_many_tokens_as_asked_for(port: int) -> None:
    got = events(port, "/v1/chat/completions", max_tokens=5, stream_options={"include_usage": True})
    assert [each["choices"][0]["delta"].get("content") for each in got[:-1]] == [" the"] * 5 + [None]
    assert got[-2]["choices"][0]["finish_reason"] == "length"
    assert got[-1]["choices"] == []
    assert got[-1]["usage"]["completion_tokens"] == 5


def test_completions_may_have_usage_in_every_token(port: int) -> None:
    got = events(port, "/v1/completions", max_tokens=3, stream_options={"continuous_usage_stats": True})
    assert [each["usage"]["completion_tokens"] for each in got[:-1]] == [1, 2, 3]
    assert all(each["choices"][0]["text"] == " the" for each in got[:-1])


def test_it_says_what_it_has_sent(port: int) -> None:
    before = json.loads(ask(port, "/sent")[1])["tokens"]
    events(port, "/v1/completions", max_tokens=7)
    assert json.loads(ask(port, "/sent")[1])["tokens"] == before + 7


@pytest.mark.parametrize(
    "body", [[], {"max_tokens": 4}, {"stream": True, "max_tokens": "x"}, {"stream": True, "max_tokens": -1}]
)
def test_what_it_does_not_serve_is_an_error(port: int, body: object) -> None:
    status, text = ask(port, "/v1/chat/completions", body)
    assert status == 400
    assert json.loads(text)["error"]["message"]


def test_other_paths_are_not_there(port: int) -> None:
    assert ask(port, "/metrics")[0] == 404
    assert json.loads(ask(port, "/v1/models")[1])["data"][0]["id"] == "paced"
