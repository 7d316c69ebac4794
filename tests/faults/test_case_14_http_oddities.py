"""Case 14: conflicting lengths, pipelining, HEAD, bad methods, unknown paths, path traversal."""

from __future__ import annotations

import contextlib
import itertools
import json
import socket
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


@pytest.mark.parametrize("segments", [1, 2, 40])
@pytest.mark.parametrize("protocol", ["h2c", "websocket"])
def test_case_14_a_declined_upgrade_keeps_its_body(server: RunningServer, protocol: str, segments: int) -> None:
    """Common clients ask for HTTP/2 with their first POST. The parser used to stop at the end of the head: a body in
    the same segment was lost, and one in the next was read as a request of its own."""
    body = json.dumps(chat(seed=3)).encode()
    head = (
        f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: Upgrade, "
        f"HTTP2-Settings\r\nUpgrade: {protocol}\r\nHTTP2-Settings: AAEAAEAA\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode()
    whole = head + body + b"GET /version HTTP/1.1\r\nHost: localhost\r\n\r\n"
    cuts = {1: [], 2: [len(head)], 40: list(range(20, len(whole), 20))}[segments]
    with Connection(server.port) as connection:
        connection.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for start, end in itertools.pairwise([0, *cuts, len(whole)]):
            connection.send(whole[start:end])
        reply = connection.read_response()
        assert reply.json()["choices"][0]["message"]["content"] == letters(18, 8, 3)
        assert connection.read_response().json().keys() == {"version"}


def test_case_14_a_request_hidden_in_an_upgrade_s_body_is_not_answered(server: RunningServer) -> None:
    """Whoever shares a connection to us behind a proxy must not get answers to another's bytes."""
    hidden = b"GET /version HTTP/1.1\r\nHost: localhost\r\n\r\n"
    head = f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nConnection: upgrade\r\nUpgrade: h2c\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(hidden)}\r\n\r\n"
    with Connection(server.port) as connection:
        connection.send(head.encode())
        connection.send(hidden)
        assert connection.read_response().error["code"] == "invalid_json"
        connection.request("GET", "/health/live")
        assert connection.read_response().json() == {"status": "live"}


@pytest.mark.parametrize("target", ["localhost:80", "/version"])
def test_case_14_connect_is_refused_and_closed(server: RunningServer, target: str) -> None:
    """What follows a CONNECT is for the other end of a tunnel: there is none, and it is not for us."""
    with Connection(server.port) as connection:
        connection.send(f"CONNECT {target} HTTP/1.1\r\nHost: localhost\r\n\r\nGET /version HTTP/1.1\r\n\r\n".encode())
        assert connection.read_response().status == 400
        assert connection.at_end()


def _chunked(body: bytes) -> bytes:
    head = f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n"
    return head.encode() + b"Content-Type: application/json\r\n\r\n%x\r\n%b\r\n0\r\n" % (len(body), body)


def test_case_14_a_trailer_is_refused(server: RunningServer) -> None:
    """Trailers used to become headers of the request, such as a key or an id that a proxy had taken out."""
    with Connection(server.port) as connection:
        connection.send(_chunked(json.dumps(chat()).encode()) + b"X-Request-Id: from-the-trailer\r\n\r\n")
        reply = connection.read_response()
        assert reply.status == 400
        assert "railers" in reply.error["message"]
        assert reply.headers["x-request-id"] != "from-the-trailer"
        assert connection.at_end()


@pytest.mark.parametrize("start", [b"X: ", b"", b"1;"], ids=["a value", "a name", "an extension"])
def test_case_14_an_endless_trailer_is_cut_off(server: RunningServer, start: bytes) -> None:
    """The parser used to keep 150 MB of one, and to copy all of it for every piece that came."""
    with Connection(server.port) as connection, contextlib.suppress(ConnectionError, EOFError):
        sent = 0
        with contextlib.suppress(ConnectionError):
            connection.send(_chunked(json.dumps(chat()).encode()).removesuffix(b"0\r\n" if start == b"1;" else b""))
            connection.send(start)
            for _ in range(1024):
                connection.send(b"a" * 65536)
                sent += 65536
        assert sent < 32 << 20, "the kernel's buffers, and no more"
        assert connection.read_response().status == 431


@pytest.mark.parametrize(
    ("size", "end"), [(16_000, b"\r\n\r\n"), (17_000, b"\r\n\r\n"), (60_000, b"\r\n\r\n"), (60_000, b"")]
)
def test_case_14_a_pipelined_request_has_the_same_header_limit(server: RunningServer, size: int, end: bytes) -> None:
    """Only what arrived after the end of the request before used to be counted."""
    first = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"
    second = b"GET /version HTTP/1.1\r\nHost: localhost\r\nx-long: " + b"v" * size + end
    with Connection(server.port) as connection:
        with contextlib.suppress(ConnectionError):
            connection.send(first + second)
        with contextlib.suppress(ConnectionError):  # closing on unread bytes is a reset, which may overtake the reply
            assert connection.read_response().json() == {"status": "live"}
        if size == 16_000:
            assert connection.read_response().json().keys() == {"version"}
        else:
            assert b"version" not in connection.rest(), "the reply in progress was the last"


def test_case_14_http_1_0_is_answered_and_closed(server: RunningServer) -> None:
    with Connection(server.port) as connection:
        connection.send(b"GET /version HTTP/1.0\r\nHost: localhost\r\n\r\n")
        assert connection.read_response().status == 200
        assert connection.at_end()


def test_case_14_completions_do_not_answer_to_chats(server: RunningServer) -> None:
    assert fetch(server.port, "POST", CHAT, completion()).status == 400
