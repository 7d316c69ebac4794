"""Who may talk to the server: API keys, one tenant each, and the Host names that a loopback server answers to."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass

from headway.serve.errors import ApiError, Reason

KEYS_MAX = 1_000
PUBLIC_PATHS = frozenset({"/health/live"})
"""What is answered without a key. Everything else, unknown paths too, needs one when there are keys."""

LOOPBACK_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True, slots=True)
class Tenant:
    """One key's owner. ``salt`` keeps its share of the prefix cache apart from all others'."""

    name: str
    salt: bytes


ANONYMOUS = Tenant("anonymous", b"")


class Keyring:
    """The API keys. Only digests are kept; a comparison always looks at all of them, in constant time.

    A key is written ``name:key`` or ``key`` alone, whose name is then the start of its digest. Keys with one name are
    one tenant. Without any key everyone is ``ANONYMOUS``.
    """

    def __init__(self, keys: Iterable[str], *, salt_key: bytes) -> None:
        self._tenants: list[tuple[bytes, Tenant]] = []
        for entry in keys:
            name, separator, key = entry.strip().rpartition(":")
            if not key or (separator and not name) or not entry.isprintable():
                raise ValueError("an API key is written KEY or NAME:KEY, in printable characters without line breaks")
            digest = _digest(key.encode())
            name = name or f"key-{digest.hex()[:8]}"
            salt = hashlib.blake2b(name.encode(), key=salt_key[:64], digest_size=16).digest()
            self._tenants.append((digest, Tenant(name, salt)))
        if len(self._tenants) > KEYS_MAX:
            raise ValueError(f"at most {KEYS_MAX} API keys are supported, not {len(self._tenants)}")

    def __len__(self) -> int:
        return len(self._tenants)

    def tenant(self, authorization: bytes | None) -> Tenant:
        """The owner of the key in an Authorization header. Raises ``ApiError`` (401)."""
        if not self._tenants:
            return ANONYMOUS
        scheme, _, key = (authorization or b"").partition(b" ")
        found = self._owner(key.strip())
        if found is None or scheme.lower() != b"bearer":
            what = "Incorrect API key provided." if authorization else "No API key was provided."
            raise ApiError(Reason.INVALID_API_KEY, f"{what} Send it as the header 'Authorization: Bearer KEY'.")
        return found

    def knows(self, key: str) -> bool:
        return self._owner(key.encode()) is not None

    def _owner(self, key: bytes) -> Tenant | None:
        presented = _digest(key)
        found: Tenant | None = None
        for digest, tenant in self._tenants:
            if hmac.compare_digest(digest, presented):
                found = tenant
        return found


class HostCheck:
    """Against DNS rebinding: a server on loopback answers only to loopback names and to those it was told of.

    On any other address every name is fine, unless ``allowed`` lists some.
    """

    def __init__(self, bind_host: str, allowed: Iterable[str] = ()) -> None:
        names = frozenset(name.lower() for name in allowed)
        self._names = names | LOOPBACK_HOSTS | {bind_host.lower()} if names or is_loopback(bind_host) else None

    def check(self, host: bytes | None) -> None:
        """Raises ``ApiError`` (403) for a name that isn't ours."""
        if self._names is None:
            return
        name = _host_name((host or b"").decode("latin-1"))
        if name not in self._names:
            raise ApiError(
                Reason.HOST_NOT_ALLOWED,
                f"This server does not answer to the host name {name[:100]!r}; its operator can allow it.",
            )


@dataclass(frozen=True, slots=True)
class Access:
    """Who may come in at one listener, under which names, and from pages of which origins."""

    keyring: Keyring
    host_check: HostCheck
    cors_origins: frozenset[str] = frozenset()


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _host_name(host: str) -> str:
    """The name in a Host header, without port and brackets."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].lower()


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()
