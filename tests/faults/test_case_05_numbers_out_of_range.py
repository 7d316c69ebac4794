"""Case 5: every number has a named maximum; beyond it 400 with the limit and the value, before any allocation."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.http_client import CHAT, COMPLETIONS, Connection, Response, chat, completion, fetch
from tests.running_server import MODEL, RunningServer, running_server

BIG = "9223372036854775808"
VALUES: dict[str, list[str]] = {
    "n": ["-1", "0", "true", "1.5", BIG, "1e308", '"1"', "17"],
    "max_tokens": ["-1", "0", "true", "1.5", BIG, "1e308", '"8"'],
    "max_completion_tokens": ["-1", "0", BIG, "1e308"],
    "top_logprobs": ["-1", "true", "1.5", BIG, "21"],
    "logprobs": ["1", '"yes"', "-1"],
    "temperature": ["-0.1", "2.1", "true", '"1"', "1e308", BIG],
    "top_p": ["-0.1", "0", "1.1", "true", "1e308"],
    "min_p": ["-0.1", "1.1", "true"],
    "top_k": ["-2", "1.5", "true", BIG],
    "presence_penalty": ["-2.1", "2.1", "1e308"],
    "frequency_penalty": ["-2.1", "2.1", "1e308"],
    "repetition_penalty": ["0", "-1", "1e308"],
    "seed": [BIG, "1.5", "true", "1e308", "-9223372036854775809"],
    "stop": ["7", "[7]", '""', '[""]', "{}", "[" + ",".join(['"a"'] * 10_000) + "]"],
    "stop_token_ids": ["7", "[-1]", "[1.5]", '["a"]', f"[{BIG}]", "[257]", "[" + ",".join(["1"] * 10_000) + "]"],
    "logit_bias": [
        "7",
        "[]",
        '{"a": 1}',
        '{"1": 101}',
        '{"1": "a"}',
        '{"-1": 1}',
        '{"257": 1}',
        "{" + ",".join(f'"{n}": 1' for n in range(10_000)) + "}",
    ],
    "min_tokens": ["-1", "1.5", "9"],
    "stream": ["1", '"true"'],
    "stream_options": ["7", '{"include_usage": true}'],
    "service_tier": ["7", '"turbo"'],
    "user": ["7", '"' + "u" * 1000 + '"'],
}


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with running_server() as server:
        yield server


def _ask(server: RunningServer, name: str, value: str) -> Response:
    tokens = "" if name in ("max_tokens", "max_completion_tokens") else '"max_tokens": 8, '
    logprobs = '"logprobs": true, ' if name == "top_logprobs" else ""
    messages = '[{"role": "user", "content": "hi"}]'
    body = f'{{"model": "{MODEL}", "messages": {messages}, {tokens}{logprobs}"{name}": {value}}}'
    return fetch(server.port, "POST", CHAT, body.encode())


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in VALUES.items() for value in values])
def test_case_05_a_value_out_of_range_is_400(server: RunningServer, name: str, value: str) -> None:
    reply = _ask(server, name, value)
    assert reply.status == 400, reply.body
    assert str(reply.error["param"]).startswith(name)
    assert len(reply.body) < 4096, "a message quotes no more than it needs"


MESSAGES = {
    ("n", "17"): "between 1 and 16, not 17",
    ("max_tokens", "0"): "between 1 and 2147483647, not 0",
    ("max_tokens", "2040"): "2048 tokens. However, you requested 2058 tokens",
    ("top_logprobs", "21"): "between 0 and 20, not 21",
    ("temperature", "2.1"): "between 0 and 2, not 2.1",
    ("top_p", "0"): "above 0 and at most 1, not 0",
    ("min_p", "1.1"): "between 0 and 1, not 1.1",
    ("top_k", BIG): f"between -1 and 2147483647, not {BIG}",
    ("presence_penalty", "-2.1"): "between -2 and 2, not -2.1",
    ("frequency_penalty", "2.1"): "between -2 and 2, not 2.1",
    ("repetition_penalty", "1e308"): "above 0 and at most 2, not 1e+308",
    ("seed", BIG): f"9223372036854775807, not {BIG}",
    ("stop", "[" + ",".join(['"a"'] * 17) + "]"): "at most 16 entries, not 17",
    ("stop", '"' + "a" * 513 + '"'): "between 1 and 512 characters, not 513",
    ("stop_token_ids", "[257]"): "below the vocabulary size of 257, not 257",
    ("stop_token_ids", "[" + ",".join(["1"] * 65) + "]"): "at most 64 entries, not 65",
    ("logit_bias", '{"1": 101}'): "between -100 and 100, not 101",
    ("logit_bias", "{" + ",".join(f'"{n}": 1' for n in range(1025)) + "}"): "at most 1024 entries, not 1025",
    ("min_tokens", "9"): "at most the token limit of 8, not 9",
    ("user", '"' + "u" * 513 + '"'): "between 1 and 512 characters, not 513",
}


@pytest.mark.parametrize(("name", "value"), MESSAGES, ids=lambda each: each[:20])
def test_case_05_the_message_names_the_limit_and_the_value(server: RunningServer, name: str, value: str) -> None:
    reply = _ask(server, name, value)
    assert reply.status == 400
    assert MESSAGES[name, value] in reply.error["message"]


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
def test_case_05_a_whole_reply_has_a_bound_on_log_probabilities(server: RunningServer, path: str) -> None:
    """They are the one thing that makes a reply a hundred times its text: 16 choices took the text thread seconds."""
    if path == CHAT:
        body = chat(max_tokens=1900, n=16, logprobs=True, top_logprobs=20)
    else:
        body = completion(max_tokens=1900, n=16, logprobs=20)
    reply = fetch(server.port, "POST", path, body)
    assert reply.status == 400
    assert reply.error["param"] == "logprobs"
    assert "500000" in reply.error["message"]
    assert str(1900 * 16 * 21) in reply.error["message"]
    with Connection(server.port) as connection:
        connection.request("POST", path, {**body, "stream": True})
        assert connection.read_head()[0] == 200, "a stream is sent as it comes"
