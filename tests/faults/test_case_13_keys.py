"""Case 13: no key, a wrong key, another tenant's key, a huge key, on every route there is: 401 on all but liveness."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from headway.serve.auth import PUBLIC_PATHS, Keyring
from headway.serve.errors import ApiError
from headway.serve.lifecycle import ServeConfig
from headway.serve.routes import ROUTES
from tests.http_client import COMPLETIONS, completion, fetch
from tests.running_server import RunningServer, running_server

PATHS = [path.replace("{id}", "fake-model") for path in ROUTES] + ["/", "/nothing", "/v1", "/v1/models/"]
PRIVATE = [path for path in PATHS if path not in PUBLIC_PATHS]
WRONG = [
    *("", "Bearer", "Bearer ", "Bearer wrong", "bearer key-of-an", "Bearer key-of-ann2", "Basic key-of-ann"),
    *(
        "key-of-ann",
        "Bearer ann:key-of-ann",
        "Bearer key-of-ann key-of-bob",
        "Bearer \xff\xfe",
        "Bearer " + "k" * 10_000,
    ),
]


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with running_server(config=ServeConfig(api_keys=("ann:key-of-ann", "bob:key-of-bob", "bare-key"))) as server:
        yield server


def _bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "OPTIONS", "HEAD"])
@pytest.mark.parametrize("path", PRIVATE)
def test_case_13_every_route_needs_a_key(server: RunningServer, path: str, method: str) -> None:
    reply = fetch(server.port, method, path)
    assert reply.status == 401
    assert reply.headers["www-authenticate"] == "Bearer"
    assert method == "HEAD" or reply.error["code"] == "invalid_api_key"


@pytest.mark.parametrize("authorization", WRONG)
def test_case_13_a_wrong_key_is_401(server: RunningServer, authorization: str) -> None:
    reply = fetch(server.port, "GET", "/v1/models", headers={"Authorization": authorization})
    assert reply.status == 401
    assert reply.error["type"] == "authentication_error"


def test_case_13_a_key_of_a_megabyte_is_refused_as_a_header(server: RunningServer) -> None:
    assert fetch(server.port, "GET", "/v1/models", headers=_bearer("k" * 20_000)).status == 431


def test_case_13_liveness_needs_no_key(server: RunningServer) -> None:
    assert fetch(server.port, "GET", "/health/live").status == 200


@pytest.mark.parametrize("key", ["key-of-ann", "key-of-bob", "bare-key"])
def test_case_13_a_right_key_comes_in(server: RunningServer, key: str) -> None:
    assert fetch(server.port, "GET", "/v1/models", headers=_bearer(key)).status == 200
    assert fetch(server.port, "GET", "/v1/models", headers={"Authorization": f"bearer {key}"}).status == 200


def test_case_13_tenants_share_no_cached_prefix(server: RunningServer) -> None:
    """A cached prefix answers faster: it would tell one tenant what another has asked."""
    body = completion("the same long question " * 20)

    def cached(key: str) -> int:
        usage = fetch(server.port, "POST", COMPLETIONS, body, _bearer(key)).json()["usage"]
        return int(usage["prompt_tokens_details"]["cached_tokens"])

    assert cached("key-of-ann") == 0
    assert cached("key-of-ann") > 0
    assert cached("key-of-bob") == 0
    assert cached("bare-key") == 0


@pytest.mark.parametrize("key", ["one", "two", "three", "none of them"])
def test_case_13_every_key_is_compared_whichever_is_right(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    """Stopping at the right one would tell, by the time it takes, where in the list it is."""
    keyring = Keyring(("one", "two", "three"), salt_key=b"")
    compared = []

    def compare(first: bytes, second: bytes) -> bool:
        compared.append((first, second))
        return first == second

    monkeypatch.setattr("headway.serve.auth.hmac.compare_digest", compare)
    with contextlib.suppress(ApiError):
        keyring.tenant(b"Bearer " + key.encode())
    assert len(compared) == 3
    assert {len(each) for pair in compared for each in pair} == {32}, "digests, so lengths tell nothing either"
