"""Case 12: nothing in a request makes the server open a socket or a file."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.http_client import CHAT, chat, fetch
from tests.running_server import RunningServer, running_server

URLS = [
    "http://127.0.0.1:1/x.png",
    "https://example.com/x.png",
    "file:///etc/passwd",
    "http://169.254.169.254/latest/meta-data",
    "http://good.example\\@127.0.0.1/",
    "data:image/png;base64,AAAA",
]
WATCHED = ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "open", "subprocess.Popen", "os.exec")

_seen: list[str] = []
_watching = threading.Event()


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if event in WATCHED and _watching.is_set() and threading.current_thread() is not threading.main_thread():
        _seen.append(f"{event} {arguments}")


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    sys.addaudithook(_hook)  # stays for the life of the process, and is silent outside this module
    with running_server() as server:
        fetch(server.port, "POST", CHAT, chat())
        _seen.clear()
        _watching.set()
        yield server
        _watching.clear()
    assert _seen == []


@pytest.mark.parametrize("url", URLS)
def test_case_12_an_image_url_is_400_and_not_fetched(server: RunningServer, url: str) -> None:
    content = [{"type": "text", "text": "look"}, {"type": "image_url", "image_url": {"url": url}}]
    reply = fetch(server.port, "POST", CHAT, chat(messages=[{"role": "user", "content": content}]))
    assert reply.status == 400
    assert reply.error["param"] == "messages[0].content[1].type"


@pytest.mark.parametrize("name", ["api_base", "base_url", "api_key", "headers", "extra_body"])
def test_case_12_where_to_send_it_is_not_the_clients_to_say(server: RunningServer, name: str) -> None:
    assert fetch(server.port, "POST", CHAT, chat(**{name: "http://127.0.0.1:1"})).status == 400


def test_case_12_hop_headers_change_nothing(server: RunningServer) -> None:
    headers = {"X-Forwarded-For": "8.8.8.8", "X-Forwarded-Host": "evil.example", "Forwarded": "for=1.2.3.4"}
    reply = fetch(server.port, "POST", CHAT, chat(), headers)
    assert reply.status == 200
    assert b"evil" not in reply.body


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "localhost.evil.example", "[::2]", ""])
def test_case_12_a_foreign_host_name_is_403_on_loopback(server: RunningServer, host: str) -> None:
    reply = fetch(server.port, "GET", "/v1/models", headers={"Host": host})
    assert reply.status == 403
    assert reply.error["code"] == "host_not_allowed"


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8000", "127.0.0.1:1", "[::1]:8000"])
def test_case_12_loopback_names_are_fine(server: RunningServer, host: str) -> None:
    assert fetch(server.port, "GET", "/v1/models", headers={"Host": host}).status == 200
