"""What a server is, told from the little that each engine says; and one clear line where it can't be used."""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from typing import Any

import pytest

from headway.bench.discover import ServerInfo, discover
from headway.bench.target import Target, TargetError
from tests.bench.plain_server import Answer, plain_server


def answers(pages: Mapping[str, Any], *, status: int = 200) -> Answer:
    """Pages by path: text, or an object as JSON; ``/tokenize`` is a function of the body."""

    def answer(path: str, headers: dict[str, str], body: bytes) -> tuple[int, str]:
        page = pages.get(path)
        if callable(page):
            page = page(json.loads(body))
        if page is None:
            return 404, json.dumps({"error": {"message": "Not Found"}})
        return status, page if isinstance(page, str) else json.dumps(page)

    return answer


def found(answer: Answer, **fields: Any) -> ServerInfo:
    with plain_server(answer) as port:
        return discover(Target(host="127.0.0.1", port=port, **fields), timeout_s=10.0)


def models(*names: str, **fields: Any) -> dict[str, Any]:
    return {"object": "list", "data": [{"id": name, "object": "model", **fields} for name in names]}


def by_prompt(body: dict[str, Any]) -> Any:
    return {"tokens": [7], "count": 1} if set(body) == {"model", "prompt", "add_special_tokens"} else None


HEADWAY = {
    "/v1/models": models("smol", owned_by="headway", max_model_len=2048),
    "/version": {"version": "0.1.0"},
    "/metrics": "headway_requests_running 0.0\nvllm:num_requests_running 0.0\n",
    "/tokenize": by_prompt,
}
VLLM = {
    "/v1/models": models("base", "adapter", owned_by="vllm", max_model_len=8192),
    "/version": {"version": "0.33.0"},
    "/metrics": 'vllm:num_requests_running{engine="0"} 0.0\n',
    "/tokenize": by_prompt,
}
SGLANG = {
    "/v1/models": models("m", owned_by="sglang", max_model_len=4096),
    "/get_server_info": {"version": "0.5.23", "context_length": 4096},
}
TGI = {
    "/v1/models": models("m", owned_by="m"),
    "/info": {"model_id": "m", "version": "3.3.6", "max_total_tokens": 4096},
    "/metrics": "tgi_queue_size 0\n",
    "/tokenize": lambda body: [{"id": 5, "text": "a", "start": 0, "stop": 1}] if "inputs" in body else None,
}
LLAMA = {
    "/v1/models": models("m.gguf", owned_by="llamacpp", meta={"n_ctx_train": 131072}),
    "/props": {"build_info": "b6000-abc", "default_generation_settings": {"n_ctx": 4096}},
    "/tokenize": lambda body: {"tokens": [3] if "content" in body else []},
}


@pytest.mark.parametrize(
    ("pages", "engine", "version", "longest", "has_tokenize", "has_metrics"),
    [
        (HEADWAY, "headway", "0.1.0", 2048, True, True),
        (VLLM, "vllm", "0.33.0", 8192, True, True),
        (SGLANG, "sglang", "0.5.23", 4096, False, False),
        (TGI, "tgi", "3.3.6", 4096, True, True),
        (LLAMA, "llama.cpp", "b6000-abc", 4096, True, False),
        ({"/v1/models": models("m", owned_by="somebody")}, "unknown", None, None, False, False),
        ({"/v1/models": {"data": [{"id": "m"}]}, "/metrics": VLLM["/metrics"]}, "vllm", None, None, False, True),
        (
            {"/v1/models": models("m"), "/info": "[]", "/version": '"1"', "/tokenize": "no"},
            *("unknown", None, None, False, False),
        ),
    ],
)
def test_an_engine(
    pages: Mapping[str, Any],
    engine: str,
    version: str | None,
    longest: int | None,
    has_tokenize: bool,
    has_metrics: bool,
) -> None:
    info = found(answers(pages))
    assert (info.engine, info.version, info.max_model_len) == (engine, version, longest)
    assert (info.has_tokenize, info.has_metrics) == (has_tokenize, has_metrics)


def test_the_model_asked_for_or_the_first() -> None:
    target = Target(host="127.0.0.1", port=1)
    assert found(answers(VLLM)).target(target).model == "base"
    assert found(answers(VLLM), model="adapter").model == "adapter"
    with pytest.raises(TargetError, match=r"has no model 'other'; it has base, adapter$"):
        found(answers(VLLM), model="other")
    many = {"/v1/models": models(*(f"m{number}" for number in range(12)))}
    with pytest.raises(TargetError, match=r"m6, m7 and 4 more$"):
        found(answers(many), model="other")


def test_an_api_below_another_path() -> None:
    pages = {"/llm/v1/models": models("m", owned_by="vllm"), "/llm/version": {"version": "1"}}
    assert found(answers(pages), base="/llm/v1").version == "1"


@pytest.mark.parametrize(
    ("status", "body", "key", "line"),
    [
        (
            401,
            {"error": {"message": "no\nkey"}},
            None,
            "wants an API key: set OPENAI_API_KEY or give --key-file (status 401: no key)",
        ),
        (401, "plain", "secret", "refuses the API key (status 401)"),
        (403, {}, "secret", "refuses the API key (status 403)"),
        (503, {"error": {"message": "Loading model"}}, None, "is not ready (status 503: Loading model)"),
        (404, "<html>", None, "is not an OpenAI-compatible API: GET /v1/models answers 404; the address usually ends"),
        (200, "<html>", None, "GET /v1/models is no list of models"),
        (200, {"models": []}, None, "GET /v1/models is no list of models"),
        (200, {"data": []}, None, "has no model"),
    ],
)
def test_a_server_that_can_not_be_used(status: int, body: object, key: str | None, line: str) -> None:
    with pytest.raises(TargetError) as error:
        found(answers({"/v1/models": body}, status=status), key=key)
    assert line in str(error.value)
    assert "\n" not in str(error.value)
    assert "secret" not in str(error.value)


def test_a_server_that_can_not_be_reached() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(TargetError, match=r"can't be reached: no answer within 0.05 s"):
            discover(Target(host="127.0.0.1", port=port), timeout_s=0.05)
    with pytest.raises(TargetError, match="can't be reached: connection refused; is the server running"):
        discover(Target(host="127.0.0.1", port=port))


def test_a_host_that_there_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_such_host(*args: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", no_such_host)
    with pytest.raises(TargetError, match=r"can't be reached: there is no host nowhere\.invalid"):
        discover(Target(host="nowhere.invalid", port=80))


def test_a_server_that_speaks_something_else() -> None:
    with plain_server(answers(VLLM)) as port, pytest.raises(TargetError, match="does not speak TLS there"):
        discover(Target(host="127.0.0.1", port=port, is_tls=True))


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://user:sesame@127.0.0.1:8000", "OPENAI_API_KEY"),
        ("http://127.0.0.1:8000/v1?key=sesame", "nothing after its path"),
        ("http://127.0.0.1:0", "address"),
        ("http://127.0.0.1:99999", "65535"),
        ("http://[::1", "::1"),
        ("ftp://127.0.0.1", "http://127.0.0.1:8000"),
        ("http://127.0.0.1/v 1", "%XX"),
    ],
)
def test_an_address_that_can_not_be_meant_is_refused(url: str, words: str) -> None:
    """None of it is dropped in silence, and what may be a key is not said again."""
    with pytest.raises(TargetError) as error:
        Target.at(url)
    assert words in str(error.value)
    assert "sesame" not in str(error.value)


def test_answers_that_no_decoder_takes_are_no_answers() -> None:
    """What is asked for beside the models may be anything; of the models it is one line that it is no list."""
    nested = "[" * 100_000 + "]" * 100_000
    info = found(answers({"/v1/models": models("m", owned_by=None), "/tokenize": nested, "/version": nested}))
    assert (info.engine, info.version, info.has_tokenize) == ("unknown", None, False)
    with pytest.raises(TargetError, match="no list of models"):
        found(answers({"/v1/models": nested}))
