"""Tokens as the server counts them: ``/tokenize`` of Headway, vLLM and SGLang, of llama.cpp, of TGI."""

from __future__ import annotations

import http.client
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from headway.bench.events import UNREADABLE
from headway.bench.target import Target
from headway.bench.tokens import TokensError, WordTokens, word_tokens
from headway.bench.tokens_local import bundled_words

TIMEOUT_S = 10.0
REPLY_BYTES_MAX = 64 << 20
HELP = "give a tokenizer.json, or let the bundled tokenizer count"


@dataclass(frozen=True, slots=True)
class Form:
    """One way to ask, and where in the answer the token ids are."""

    name: str
    body: Callable[[str, str], dict[str, object]]
    ids: Callable[[Any], list[int]]


FORMS = (
    Form(
        "prompt",
        lambda model, text: {"model": model, "prompt": text, "add_special_tokens": False},
        lambda answer: list(answer["tokens"]),
    ),
    Form(
        "content",
        lambda model, text: {"content": text, "add_special": False},
        lambda answer: list(answer["tokens"]),
    ),
    Form(
        "inputs",
        lambda model, text: {"inputs": text, "add_special_tokens": False},
        lambda answer: [token["id"] for token in answer],
    ),
)
_PROBE = "a"
"""One token in every vocabulary."""


def from_server(target: Target, *, timeout_s: float = TIMEOUT_S) -> WordTokens:
    """Asks the server some thirty times for which words are one token. Blocks. Raises ``TokensError`` where it has no
    ``/tokenize``."""
    asker = _Asker(target, timeout_s)
    asker.find_form()
    return word_tokens(asker.encode, bundled_words(), source=f"/tokenize of {target.url}", corrects=False)


class _Unreachable(TokensError):
    """No answer at all: another form of the question would get none either."""


@dataclass(slots=True)
class _Asker:
    target: Target
    timeout_s: float
    form: Form = FORMS[0]
    special: int = 0
    """Tokens that the server puts in front of any text, asked or not."""
    connection: http.client.HTTPConnection | None = field(default=None, repr=False)

    def __del__(self) -> None:
        self._close()

    def find_form(self) -> None:
        problems = []
        for form in FORMS:
            self.form = form
            try:
                ids = self._ask(_PROBE)
            except _Unreachable:
                raise
            except TokensError as error:
                problems.append(str(error))
                continue
            if ids:  # llama.cpp answers a body without "content" with no tokens
                self.special = len(ids) - 1
                return
            problems.append(f"{self._where}: no tokens in the answer; {HELP}")
        raise TokensError(problems[0])

    def encode(self, text: str) -> list[int]:
        return self._ask(text)[self.special :] if text else []

    @property
    def _where(self) -> str:
        return f"{self.target.url.removesuffix(self.target.base)}{self.target.root}/tokenize"

    def _ask(self, text: str) -> list[int]:
        body = msgspec.json.encode(self.form.body(self.target.model, text))
        try:
            status, answer = self._post(body)
        except (OSError, http.client.HTTPException) as error:
            raise _Unreachable(f"{self._where}: {error or type(error).__name__}; {HELP}") from None
        if status != 200:
            raise TokensError(f"{self._where} answers {status}; {HELP}")
        try:
            ids = self.form.ids(msgspec.json.decode(answer))
        except (*UNREADABLE, KeyError, TypeError, IndexError):
            raise TokensError(f"{self._where} answers in no known form; {HELP}") from None
        return ids

    def _post(self, body: bytes) -> tuple[int, bytes]:
        """Once more on a new connection where a kept one turns out to be closed."""
        is_kept = self.connection is not None
        try:
            return self._exchange(body)
        except (ConnectionError, http.client.BadStatusLine):
            self._close()
            if not is_kept:
                raise
        except (OSError, http.client.HTTPException):
            self._close()
            raise
        return self._exchange(body)

    def _exchange(self, body: bytes) -> tuple[int, bytes]:
        if self.connection is None:
            tls = self.target.tls()
            if tls is None:
                self.connection = http.client.HTTPConnection(self.target.host, self.target.port, timeout=self.timeout_s)
            else:
                self.connection = http.client.HTTPSConnection(
                    self.target.host, self.target.port, timeout=self.timeout_s, context=tls
                )
        headers = {**self.target.headers(), "content-type": "application/json"}
        self.connection.request("POST", f"{self.target.root}/tokenize", body, headers)
        reply = self.connection.getresponse()
        answer = reply.read(REPLY_BYTES_MAX)
        if reply.will_close or not reply.isclosed():
            self._close()
        return reply.status, answer

    def _close(self) -> None:
        if self.connection is not None:
            self.connection.close()
            self.connection = None
