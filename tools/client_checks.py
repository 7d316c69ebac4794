"""Checks that clients of the OpenAI API work against a running server: ``client_checks.py http://127.0.0.1:8000/v1``.

Needs openai and LiteLLM, and nothing of headway. Prints a line for each check; ends with status 1 if any failed.
"""

from __future__ import annotations

import asyncio
import os
import sys
import traceback
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from typing import Any

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # else LiteLLM fetches its price list when it is imported

import litellm
import openai

CHAT: Any = [{"role": "user", "content": "hello"}]
SETTINGS = {"max_tokens": 12, "temperature": 0}
LONG = "hello " * 20_000

Check = Callable[[str, str], None]


def openai_models(url: str, model: str) -> None:
    client = connect(url)
    assert model in [each.id for each in client.models.list()]
    assert client.models.retrieve(model).id == model


def openai_chat(url: str, model: str) -> None:
    reply = connect(url).chat.completions.create(model=model, messages=CHAT, **SETTINGS)
    assert reply.choices[0].message.role == "assistant"
    assert reply.choices[0].message.content
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + reply.usage.completion_tokens
    assert reply._request_id


def openai_stream(url: str, model: str) -> None:
    client = connect(url)
    whole = client.chat.completions.create(model=model, messages=CHAT, **SETTINGS).choices[0].message.content
    stream = client.chat.completions.create(
        model=model, messages=CHAT, stream=True, stream_options={"include_usage": True}, **SETTINGS
    )
    chunks = list(stream)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == whole
    assert chunks[-1].usage.completion_tokens > 0


def openai_completion(url: str, model: str) -> None:
    client = connect(url)
    reply = client.completions.create(model=model, prompt=["hello", "the cat"], logprobs=1, **SETTINGS)
    assert len(reply.choices) == 2
    assert reply.choices[0].logprobs.tokens
    stream = client.completions.create(model=model, prompt="hello", stream=True, **SETTINGS)
    assert "".join(chunk.choices[0].text for chunk in stream) == reply.choices[0].text


def openai_errors(url: str, model: str) -> None:
    client = connect(url)
    error = raised(openai.BadRequestError, lambda: client.chat.completions.create(model=model, messages=CHAT, n=99))
    assert (error.code, error.param) == ("invalid_value", "n")
    error = raised(openai.BadRequestError, lambda: client.completions.create(model=model, prompt=LONG))
    assert error.code == "context_length_exceeded"
    error = raised(openai.NotFoundError, lambda: client.chat.completions.create(model="other", messages=CHAT))
    assert error.code == "model_not_found"


def openai_deadline(url: str, model: str) -> None:
    """A deadline that passes is not retried."""
    client = connect(url).with_options(max_retries=5)
    settings: dict[str, Any] = {"max_tokens": 900, "extra_body": {"ignore_eos": True}}
    error = raised(
        openai.InternalServerError,
        lambda: client.chat.completions.create(
            model=model, messages=CHAT, extra_headers={"X-Request-Timeout-Ms": "50"}, **settings
        ),
    )
    assert error.status_code == 504
    assert error.response.headers["x-should-retry"] == "false"


def openai_retries(url: str, model: str) -> None:
    """More at once than the server admits: without retries some are turned away, with them all get their answer."""

    async def all_at_once(retries: int) -> list[Any]:
        async with openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=retries) as client:
            calls = [
                client.chat.completions.create(
                    model=model, messages=CHAT, max_tokens=64, temperature=0, extra_body={"ignore_eos": True}
                )
                for _ in range(24)
            ]
            return await asyncio.gather(*calls, return_exceptions=True)

    assert any(isinstance(reply, openai.RateLimitError) for reply in asyncio.run(all_at_once(0)))
    answers = {reply.choices[0].message.content for reply in asyncio.run(all_at_once(20))}
    assert len(answers) == 1


def litellm_chat(provider: str, url: str, model: str) -> None:
    reply = litellm.completion(f"{provider}/{model}", messages=CHAT, **litellm_options(url))
    assert reply.choices[0].message.content
    assert reply.usage.completion_tokens > 0


def litellm_stream(provider: str, url: str, model: str) -> None:
    name, options = f"{provider}/{model}", litellm_options(url)
    whole = litellm.completion(name, messages=CHAT, **options).choices[0].message.content
    stream = litellm.completion(name, messages=CHAT, stream=True, stream_options={"include_usage": True}, **options)
    chunks = list(stream)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == whole
    assert any(getattr(chunk, "usage", None) for chunk in chunks)


def litellm_errors(provider: str, url: str, model: str) -> None:
    name, options = f"{provider}/{model}", litellm_options(url)
    long = [{"role": "user", "content": LONG}]
    raised(litellm.ContextWindowExceededError, lambda: litellm.completion(name, messages=long, **options))
    raised(litellm.BadRequestError, lambda: litellm.completion(name, messages=CHAT, **{**options, "temperature": 5}))
    raised(litellm.NotFoundError, lambda: litellm.completion(f"{provider}/other", messages=CHAT, **options))


def litellm_async(provider: str, url: str, model: str) -> None:
    async def both() -> tuple[str, str]:
        name, options = f"{provider}/{model}", litellm_options(url)
        whole = await litellm.acompletion(name, messages=CHAT, **options)
        stream = await litellm.acompletion(name, messages=CHAT, stream=True, **options)
        return whole.choices[0].message.content, "".join([each.choices[0].delta.content or "" async for each in stream])

    whole, streamed = asyncio.run(both())
    assert whole == streamed


def litellm_text_completion(url: str, model: str) -> None:
    name = f"text-completion-openai/{model}"
    reply = litellm.text_completion(model=name, prompt="hello", **litellm_options(url))
    assert reply.choices[0].text


def litellm_checks() -> dict[str, Check]:
    """Every check with both ways of LiteLLM to speak to a server like ours."""
    return {
        f"{check.__name__} {provider}": partial(check, provider)
        for provider in ("openai", "hosted_vllm")
        for check in (litellm_chat, litellm_stream, litellm_errors, litellm_async)
    }


CHECKS: tuple[Check, ...] = (
    openai_models,
    openai_chat,
    openai_stream,
    openai_completion,
    openai_errors,
    openai_deadline,
    openai_retries,
    litellm_text_completion,
)


def connect(url: str) -> Any:
    return openai.OpenAI(base_url=url, api_key="none", timeout=60)


def litellm_options(url: str) -> dict[str, Any]:
    return {"api_base": url, "api_key": "none", **SETTINGS}


def raised(kind: type[Exception], call: Callable[[], object]) -> Any:
    """The error of this kind that the call raises."""
    try:
        call()
    except kind as error:
        return error
    raise AssertionError(f"no {kind.__name__}")


def main() -> int:
    litellm.suppress_debug_info = True
    url = sys.argv[1]
    model = next(iter(connect(url).models.list())).id
    print(f"openai {version('openai')}, litellm {version('litellm')} against {model} at {url}")
    failed = 0
    checks = {check.__name__: check for check in CHECKS} | litellm_checks()
    for name, check in checks.items():
        try:
            check(url, model)
            print(f"  passed  {name}")
        except Exception:
            failed += 1
            print(f"  FAILED  {name}")
            traceback.print_exc(file=sys.stdout)
    print(f"{len(checks) - failed} of {len(checks)} checks passed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
