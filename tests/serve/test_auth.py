"""Keys, tenants and host names, apart from any socket."""

from __future__ import annotations

import pytest

from headway.serve.auth import ANONYMOUS, KEYS_MAX, HostCheck, Keyring
from headway.serve.errors import ApiError


def test_without_keys_everyone_is_anonymous_and_shares_the_cache() -> None:
    ring = Keyring((), salt_key=b"k")
    assert ring.tenant(None) is ANONYMOUS
    assert ring.tenant(b"Bearer whatever").salt == b""


def test_a_tenant_keeps_its_salt_over_several_keys_and_apart_from_others() -> None:
    ring = Keyring(("ann:one", "ann:two", "bob:three", "four"), salt_key=b"k")
    one, two, three, four = (ring.tenant(b"Bearer " + key) for key in (b"one", b"two", b"three", b"four"))
    assert one.name == two.name == "ann"
    assert one.salt == two.salt
    assert len({one.salt, three.salt, four.salt, b""}) == 4
    assert four.name.startswith("key-")


def test_salts_cannot_be_guessed_from_names() -> None:
    salts = {Keyring(("ann:one",), salt_key=key).tenant(b"Bearer one").salt for key in (b"k", b"l")}
    assert len(salts) == 2


@pytest.mark.parametrize("keys", [("",), ("a\n",), (":x",), ("name:",), ("\x00",)])
def test_what_cannot_be_a_key_is_refused(keys: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="API key"):
        Keyring(keys, salt_key=b"k")


def test_the_number_of_keys_is_bounded() -> None:
    with pytest.raises(ValueError, match=str(KEYS_MAX)):
        Keyring((f"key{number}" for number in range(KEYS_MAX + 1)), salt_key=b"k")


def _allowed(check: HostCheck, host: bytes | None) -> bool:
    try:
        check.check(host)
    except ApiError:
        return False
    return True


@pytest.mark.parametrize(
    ("bind", "allowed", "host", "expected"),
    [
        ("127.0.0.1", (), b"localhost:8000", True),
        ("127.0.0.1", (), b"evil.example", False),
        ("127.0.0.1", (), None, False),
        ("::1", (), b"[::1]:8000", True),
        ("localhost", (), b"evil.example", False),
        ("127.0.0.1", ("my.box",), b"MY.BOX:1", True),
        ("0.0.0.0", (), b"anything.example", True),
        ("0.0.0.0", (), None, True),
        ("0.0.0.0", ("my.box",), b"anything.example", False),
        ("0.0.0.0", ("my.box",), b"my.box", True),
        ("192.168.1.5", ("my.box",), b"192.168.1.5:80", True),
    ],
)
def test_host_names(bind: str, allowed: tuple[str, ...], host: bytes | None, expected: bool) -> None:
    assert _allowed(HostCheck(bind, allowed), host) is expected
