"""What a server is: its engine, version and models, asked before anything is measured."""

from __future__ import annotations

import http.client
import socket
import ssl
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from headway.bench.ask import ask
from headway.bench.events import UNREADABLE
from headway.bench.scrape import engine_of
from headway.bench.target import Target, TargetError
from headway.bench.tokens_server import FORMS

TIMEOUT_S = 5.0
MODELS_SHOWN = 8
SAID_MAX = 200

_OWNERS = {"headway": "headway", "vllm": "vllm", "sglang": "sglang", "llamacpp": "llama.cpp", "llama.cpp": "llama.cpp"}
"""What engines write as ``owned_by`` of a model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerInfo:
    """``engine``: headway, vllm, sglang, tgi, llama.cpp or unknown. ``model``: the one asked for, else the first.

    ``max_model_len``: tokens of prompt and reply together. ``has_metrics``: of a kind that can be read here.
    """

    engine: str
    version: str | None
    model: str
    models: tuple[str, ...]
    max_model_len: int | None = None
    has_tokenize: bool = False
    has_metrics: bool = False

    def target(self, target: Target) -> Target:
        """The same server with its model named."""
        return replace(target, model=self.model)


class _Card(msgspec.Struct):
    id: str
    owned_by: str | None = None
    max_model_len: int | None = None
    meta: dict[str, Any] | None = None


class _Cards(msgspec.Struct):
    data: list[_Card]


def discover(target: Target, *, timeout_s: float = TIMEOUT_S) -> ServerInfo:
    """Blocks, for a few times ``timeout_s`` at most. Raises ``TargetError`` of one line: unreachable, no key or a wrong
    one, not ready, no such model, or not an OpenAI-compatible API."""
    cards = _models(target, timeout_s)
    names = tuple(each.id for each in cards)
    if target.model and target.model not in names:
        raise TargetError(f"{target.url} has no model {target.model!r}; it has {_listed(names)}")
    card = next(each for each in cards if not target.model or each.id == target.model)
    named = replace(target, model=card.id)
    metrics = _text(target, "/metrics", timeout_s)
    metrics_engine = engine_of(metrics or "")
    engine = _OWNERS.get((card.owned_by or "").lower()) or metrics_engine
    if engine is None and "max_total_tokens" in _object(target, "/info", timeout_s):
        engine = "tgi"
    version, longest = _details(target, engine, timeout_s)
    return ServerInfo(
        engine=engine or "unknown",
        version=version,
        model=card.id,
        models=names,
        max_model_len=card.max_model_len or longest or _whole((card.meta or {}).get("n_ctx_train")),
        has_tokenize=any(_tokenizes(named, form.body(card.id, "a"), timeout_s) for form in FORMS),
        has_metrics=metrics_engine is not None,
    )


def _models(target: Target, timeout_s: float) -> list[_Card]:
    """There is at least one."""
    path = f"{target.base}/models"
    try:
        status, body = ask(target, path, timeout_s=timeout_s)
    except (OSError, http.client.HTTPException) as error:
        raise TargetError(_unreachable(target, error, timeout_s)) from None
    if status in (http.client.UNAUTHORIZED, http.client.FORBIDDEN):
        said = "refuses the API key" if target.key else "wants an API key: set OPENAI_API_KEY or give --key-file"
        raise TargetError(f"{target.url} {said} (status {status}{_said(body)})")
    if status == http.client.SERVICE_UNAVAILABLE:
        raise TargetError(f"{target.url} is not ready (status 503{_said(body)}); try again when it is")
    if status != http.client.OK:
        raise TargetError(
            f"{target.url} is not an OpenAI-compatible API: GET {path} answers {status}{_said(body)}; the address "
            "usually ends in /v1"
        )
    try:
        cards = msgspec.json.decode(body, type=_Cards).data
    except UNREADABLE:
        raise TargetError(f"{target.url} is not an OpenAI-compatible API: GET {path} is no list of models") from None
    if not cards:
        raise TargetError(f"{target.url} has no model")
    return cards


def _unreachable(target: Target, error: OSError | http.client.HTTPException, timeout_s: float) -> str:
    match error:
        case ssl.SSLCertVerificationError():
            why = f"its certificate is not trusted ({error.verify_message})"
        case ssl.SSLError():
            why = "it does not speak TLS there; is it http:// rather than https://?"
        case TimeoutError():
            why = f"no answer within {timeout_s:g} s"
        case ConnectionRefusedError():
            why = "connection refused; is the server running, and is that its port?"
        case socket.gaierror():
            why = f"there is no host {target.host}"
        case ConnectionError() | http.client.HTTPException():
            why = "it does not answer in HTTP; is it https:// rather than http://?"
        case _:
            why = error.strerror or str(error)
    return f"{target.url} can't be reached: {why}"


def _listed(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - MODELS_SHOWN} more" if len(names) > MODELS_SHOWN else ""
    return ", ".join(names[:MODELS_SHOWN]) + more


def _said(body: bytes) -> str:
    """The message of an error as OpenAI's API has it, in one line."""
    try:
        message = msgspec.json.decode(body)["error"]["message"]
    except (*UNREADABLE, KeyError, TypeError):
        return ""
    return f": {' '.join(str(message).split())[:SAID_MAX].rstrip('.')}"


def _text(target: Target, path: str, timeout_s: float) -> str | None:
    """The body, if the answer is 200."""
    try:
        status, body = ask(target, target.root + path, timeout_s=timeout_s)
    except (OSError, http.client.HTTPException):
        return None
    return body.decode("utf-8", "replace") if status == http.client.OK else None


def _object(target: Target, path: str, timeout_s: float) -> dict[str, Any]:
    """The JSON object there; empty if there is none."""
    try:
        found = msgspec.json.decode(_text(target, path, timeout_s) or "")
    except UNREADABLE:
        return {}
    return found if isinstance(found, dict) else {}


def _tokenizes(target: Target, body: dict[str, object], timeout_s: float) -> bool:
    """Whether a form of asking has tokens in its answer. (llama.cpp answers a form that it doesn't know with none.)"""
    try:
        status, answer = ask(target, f"{target.root}/tokenize", timeout_s=timeout_s, body=body)
        found = msgspec.json.decode(answer)
    except (OSError, http.client.HTTPException, *UNREADABLE):
        return False
    return status == http.client.OK and bool(found.get("tokens") if isinstance(found, dict) else found)


def _details(target: Target, engine: str | None, timeout_s: float) -> tuple[str | None, int | None]:
    """Version, and the longest context, where the engine says them elsewhere than all others do."""
    if engine == "tgi":
        info = _object(target, "/info", timeout_s)
        return _word(info.get("version")), _whole(info.get("max_total_tokens"))
    if engine == "llama.cpp":
        props = _object(target, "/props", timeout_s)
        settings = props.get("default_generation_settings")
        longest = settings.get("n_ctx") if isinstance(settings, dict) else None
        return _word(props.get("build_info")), _whole(longest)
    if engine == "sglang":
        for path in ("/server_info", "/get_server_info"):
            info = _object(target, path, timeout_s)
            if info:
                return _word(info.get("version")), _whole(info.get("context_length"))
    return _word(_object(target, "/version", timeout_s).get("version")), None


def _word(value: object) -> str | None:
    return value[:SAID_MAX] if isinstance(value, str) and value else None


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None
