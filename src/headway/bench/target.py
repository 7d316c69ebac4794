"""Where a server is and how it is spoken to."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urlsplit

Api = Literal["chat", "completions"]

PATHS: dict[Api, str] = {"chat": "/chat/completions", "completions": "/completions"}


class TargetError(ValueError):
    """What was said about the server can't be meant, or isn't so. One line, and what would work."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """An OpenAI-compatible API: ``base`` is what comes before ``/chat/completions``, usually ``/v1``.

    ``key`` is sent as a bearer token. ``model``: as the server knows it.
    """

    host: str
    port: int
    base: str = "/v1"
    is_tls: bool = False
    api: Api = "chat"
    model: str = ""
    key: str | None = field(default=None, repr=False)

    @classmethod
    def at(cls, url: str, *, api: Api = "chat", model: str = "", key: str | None = None) -> Target:
        """From ``http://host:port`` with or without a path. Raises ``TargetError``."""
        try:
            parts = urlsplit(url if "://" in url else f"http://{url}")
            port = parts.port
        except ValueError:
            raise TargetError(f"{url}: after the host there may be a port, a number from 1 to 65535") from None
        if parts.username is not None:  # and not said again: it would be kept with the run
            raise TargetError("an address can't have a user and a password; set OPENAI_API_KEY or give --api-key-file")
        if parts.query or parts.fragment:
            raise TargetError(f"an address has nothing after its path; {parts.hostname}{parts.path} would be taken")
        if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
            raise TargetError(f"{url} is not an address of a server; http://127.0.0.1:8000 is one")
        if not parts.path.isascii() or " " in parts.path:
            raise TargetError(f"{url}: write its path with %XX for other than plain letters")
        is_tls = parts.scheme == "https"
        base = parts.path.rstrip("/") or "/v1"
        return cls(
            host=parts.hostname,
            port=port or (443 if is_tls else 80),
            base=base.removesuffix("/chat/completions").removesuffix("/completions"),
            is_tls=is_tls,
            api=api,
            model=model,
            key=key,
        )

    @property
    def path(self) -> str:
        return self.base + PATHS[self.api]

    @property
    def root(self) -> str:
        """Before ``base``: where ``/metrics``, ``/tokenize`` and ``/health`` are."""
        return self.base.removesuffix("/v1")

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.is_tls else 'http'}://{host}:{self.port}{self.base}"

    def tls(self) -> ssl.SSLContext | None:
        return ssl.create_default_context() if self.is_tls else None

    def headers(self) -> dict[str, str]:
        host = f"[{self.host}]" if ":" in self.host else self.host
        fields = {"host": f"{host}:{self.port}"}
        if self.key is not None:
            fields["authorization"] = f"Bearer {self.key}"
        return fields
