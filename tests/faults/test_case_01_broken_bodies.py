"""Case 1: broken JSON, non-objects, NaN, duplicate keys, deep nesting, wrong content type: 400 (415) at once."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator

import pytest

from tests.http_client import CHAT, COMPLETIONS, fetch
from tests.running_server import RunningServer, running_server

ANSWER_S = 0.1
"""The promise, for the usual answer."""
ANSWER_MAX_S = 2.0
"""For the slowest one: test machines are busy."""

BODIES = {
    "empty": b"",
    "cut off": b'{"model": "fake-model", "messages": [',
    "a list": b"[1, 2]",
    "a string": b'"hello"',
    "null": b"null",
    "NaN": b'{"model": "fake-model", "prompt": "a", "temperature": NaN}',
    "Infinity": b'{"model": "fake-model", "prompt": "a", "temperature": Infinity}',
    "1e999": b'{"model": "fake-model", "prompt": "a", "temperature": 1e999}',
    "duplicate keys": b'{"model": "fake-model", "prompt": "a", "prompt": "b"}',
    "nested lists": b"[" * 100_000,
    "nested objects": b'{"a":' * 100_000,
    "nested and closed": b'{"prompt": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "not UTF-8": b'{"model": "\xff\xfe"}',
    "a huge integer": b'{"model": "fake-model", "prompt": "a", "seed": ' + b"9" * 10_000 + b"}",
    "two objects": b"{}{}",
    "a NUL": b"{\x00}",
}


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with running_server() as server:
        yield server


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS, "/tokenize", "/detokenize"])
@pytest.mark.parametrize("name", BODIES)
def test_case_01_a_broken_body_is_400(server: RunningServer, name: str, path: str) -> None:
    start_s = time.monotonic()
    reply = fetch(server.port, "POST", path, BODIES[name])
    assert reply.status == 400
    assert reply.error["type"] == "invalid_request_error"
    assert reply.headers["x-should-retry"] == "false"
    assert time.monotonic() - start_s < ANSWER_MAX_S


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "application/json5", ""])
def test_case_01_another_content_type_is_415(server: RunningServer, content_type: str) -> None:
    reply = fetch(server.port, "POST", CHAT, b"{}", {"Content-Type": content_type})
    assert reply.status == 415
    assert reply.error["code"] == "unsupported_media_type"


@pytest.mark.parametrize("name", BODIES)
def test_case_01_the_usual_answer_is_at_once(server: RunningServer, name: str) -> None:
    took_s = []
    for _ in range(7):
        start_s = time.monotonic()
        fetch(server.port, "POST", CHAT, BODIES[name])
        took_s.append(time.monotonic() - start_s)
    assert statistics.median(took_s) < ANSWER_S
