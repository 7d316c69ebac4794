"""Case 14: conflicting lengths, pipelining, HEAD, bad methods, unknown paths, path traversal."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from headway.serve.lifecycle import ServeConfig
from headway.serve.limits import EdgeLimits
from tests.fakes import ScriptedExecutor, letters
from tests.http_client import CHAT, Connection, chat, completion, fetch
from tests.running_server import RunningServer, running_server


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with running_server() as server:
        yield server


SMUGGLED = {
    "both lengths": "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "both lengths, the other way round": "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
    "two lengths": "Content-Length: 4\r\nContent-Length: 5\r\n\r\nabcde",
    "a negative length": "Content-Length: -1\r\n\r\n",
    "a length with a sign": "Content-Length: +4\r\n\r\nabcd",
    "an unknown coding": "Transfer-Encoding: gzip\r\n\r\n0\r\n\r\n",
    "chunked, then another": "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "a bad chunk size": "Transfer-Encoding: chunked\r\n\r\nzz\r\n\r\n",
    "a huge length": "Content-Length: 99999999999999999999999999\r\n\r\n",
    "a folded header": "X-A: b\r\n c\r\nContent-Length: 0\r\n\r\n",
    "a space before the colon": "Content-Length : 0\r\n\r\n",
}


@pytest.mark.parametrize("name", SMUGGLED)
def test_case_14_ambiguous_lengths_are_400_and_closed(server: RunningServer, name: str) -> None:
    with Connection(server.port) as connection:
        head = f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        connection.send((head + SMUGGLED[name]).encode())
        reply = connection.read_response()
        assert reply.status in (400, 413)
        assert reply.error["type"] == "invalid_request_error"
        assert reply.headers["connection"] == "close"
        assert connection.at_end()


@pytest.mark.parametrize("garbage", [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"hello\r\n\r\n", b"GET\r\n\r\n"])
def test_case_14_what_is_not_http_is_400_and_closed(server: RunningServer, garbage: bytes) -> None:
    with Connection(server.port) as connection:
        connection.send(garbage)
        assert connection.read_response().status == 400
        assert connection.at_end()


def test_case_14_pipelined_requests_are_answered_in_order(server: RunningServer) -> None:
    with Connection(server.port) as connection:
        bodies = [json.dumps(chat(seed=seed)).encode() for seed in range(3)]
        head = f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        connection.send(b"".join(f"{head}Content-Length: {len(b)}\r\n\r\n".encode() + b for b in bodies))
        for seed in range(3):
            reply = connection.read_response()
            assert reply.json()["choices"][0]["message"]["content"] == letters(18, 8, seed)


def test_case_14_pipelined_behind_a_stream_waits_for_its_end(server: RunningServer) -> None:
    with Connection(server.port) as connection:
        connection.request("POST", CHAT, chat(stream=True))
        connection.request("GET", "/version")
        assert connection.read_head()[0] == 200
        assert list(connection.events())[-1] == "[DONE]"
        assert connection.read_response().json().keys() == {"version"}


def test_case_14_garbage_behind_a_stream_does_not_harm_it() -> None:
    executor = ScriptedExecutor()
    executor.hold()
    with running_server(executor) as server, Connection(server.port) as connection:
        connection.request("POST", CHAT, chat(stream=True))
        assert executor.in_step.wait(10)
        connection.send(b"\x00 garbage\r\n\r\n")
        server.wait_until(lambda: server.node.http.state.bad_requests == 1)
        executor.free()
        assert connection.read_head()[0] == 200
        assert list(connection.events())[-1] == "[DONE]"
        assert connection.at_end()


def test_case_14_a_flood_of_pipelined_requests_is_cut_off() -> None:
    executor = ScriptedExecutor()
    executor.hold()
    with (
        running_server(executor, ServeConfig(edge=EdgeLimits(pipelined=4))) as server,
        Connection(server.port) as connection,
    ):
        connection.request("POST", CHAT, chat())
        assert executor.in_step.wait(10)
        connection.send(b"GET /version HTTP/1.1\r\nHost: localhost\r\n\r\n" * 500)
        server.wait_until(lambda: server.node.http.state.bad_requests == 1)
        executor.free()
        assert connection.read_response().status == 200
        assert connection.at_end()


def test_case_14_leaving_with_pipelined_requests_ends_them_all() -> None:
    """Only the newest request of a connection used to be told that the client had left."""
    executor = ScriptedExecutor()
    executor.hold()
    with running_server(executor) as server:
        with Connection(server.port) as connection:
            connection.request("POST", CHAT, chat(stream=True, max_tokens=1000))
            assert executor.in_step.wait(10)
            connection.request("POST", CHAT, chat(stream=True, max_tokens=1000))
            connection.request("GET", "/version")
        server.wait_until(lambda: server.stats().running == 0)
        executor.free()
        server.wait_idle()
        assert len(executor.plans) == 1


@pytest.mark.parametrize("path", ["/health/live", "/v1/models", "/metrics", "/version"])
def test_case_14_head_is_get_without_a_body(server: RunningServer, path: str) -> None:
    with Connection(server.port) as connection:
        connection.request("HEAD", path)
        assert connection.read_response(head=True).status == 200
        connection.request("GET", "/version")
        assert connection.read_response().status == 200


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND"])
def test_case_14_a_bad_method_is_405(server: RunningServer, method: str) -> None:
    reply = fetch(server.port, method, CHAT)
    assert reply.status == 405
    assert reply.error["code"] == "method_not_allowed"
    assert reply.headers["allow"] == "POST"


def test_case_14_an_invented_method_is_400(server: RunningServer) -> None:
    assert fetch(server.port, "FLY", CHAT).status == 400


@pytest.mark.parametrize("path", ["/", "/v1", "/v1/chat", CHAT + "/", "/V1/models", "//v1/models", "/v1/models/{id}/x"])
def test_case_14_an_unknown_path_is_404(server: RunningServer, path: str) -> None:
    reply = fetch(server.port, "GET", path)
    assert reply.status == 404
    assert reply.error["type"] == "invalid_request_error"


@pytest.mark.parametrize("name", ["../../etc/passwd", "..%2f..%2fetc%2fpasswd", "%00", "a/b", "fake-model/..", "%ff"])
def test_case_14_a_model_name_is_only_compared(server: RunningServer, name: str) -> None:
    reply = fetch(server.port, "GET", f"/v1/models/{name}")
    assert reply.status == 404
    assert reply.error["code"] == "model_not_found"
    assert fetch(server.port, "POST", CHAT, chat(model=f"{name}")).error["code"] == "model_not_found"


@pytest.mark.parametrize("target", ["/a b", "http://[", "/\xe9", "*"])
def test_case_14_an_odd_target_is_an_error_not_a_crash(server: RunningServer, target: str) -> None:
    reply = fetch(server.port, "GET", target)
    assert reply.status in (400, 404)
    assert reply.error["type"] == "invalid_request_error"


def test_case_14_an_upgrade_is_declined_by_answering_as_usual(server: RunningServer) -> None:
    headers = {"Connection": "Upgrade", "Upgrade": "h2c"}
    assert fetch(server.port, "GET", "/version", headers=headers).status == 200


def test_case_14_http_1_0_is_answered_and_closed(server: RunningServer) -> None:
    with Connection(server.port) as connection:
        connection.send(b"GET /version HTTP/1.0\r\nHost: localhost\r\n\r\n")
        assert connection.read_response().status == 200
        assert connection.at_end()


def test_case_14_completions_do_not_answer_to_chats(server: RunningServer) -> None:
    assert fetch(server.port, "POST", CHAT, completion()).status == 400
