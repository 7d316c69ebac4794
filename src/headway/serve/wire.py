"""Requests as they come over the wire: from bytes to checked, typed records, or an ``ApiError`` that says why not.

Nothing is ignored: a parameter is used, or harmless (see ``unsupported``), or refused by name. Token ids are checked
against the vocabulary later, when the model is known. Bodies may be large: parse big ones off the event loop.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from headway.serve.bounds import RequestLimits
from headway.serve.errors import ApiError, Reason
from headway.serve.fields import Fields, bad_value, integer, missing, text, wrong_type
from headway.serve.json_body import decode_object
from headway.serve.messages import Message, read_messages
from headway.serve.options import TOKENS_MAX, Options, read_options
from headway.serve.unsupported import CHAT, COMPLETION, TOKENIZE, read_hints, refuse_unsupported

COMPLETION_MAX_TOKENS = 16
"""What the completions API generates when the request doesn't say."""

Prompt = str | tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatRequest:
    """``POST /v1/chat/completions``."""

    options: Options
    messages: tuple[Message, ...]
    add_generation_prompt: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class CompletionRequest:
    """``POST /v1/completions``. Each prompt is text or token ids, and gets ``options.n`` choices."""

    options: Options
    prompts: tuple[Prompt, ...]
    add_special_tokens: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenizeRequest:
    """``POST /tokenize``: either a prompt or messages; the other is None."""

    model: str | None
    prompt: str | None
    messages: tuple[Message, ...] | None
    add_special_tokens: bool
    add_generation_prompt: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class DetokenizeRequest:
    """``POST /detokenize``."""

    model: str | None
    tokens: tuple[int, ...]


def parse_chat(body: bytes, limits: RequestLimits) -> ChatRequest:
    fields = Fields(decode_object(body, limits))
    messages = read_messages(fields, limits)
    refuse_unsupported(fields, CHAT)
    read_hints(fields, limits)
    options = read_options(
        fields, limits, max_tokens=_read_chat_max_tokens(fields), logprobs=_read_chat_logprobs(fields, limits)
    )
    request = ChatRequest(
        options=options,
        messages=messages,
        add_generation_prompt=fields.flag("add_generation_prompt", default=True),
    )
    fields.finish()
    return request


def parse_completion(body: bytes, limits: RequestLimits) -> CompletionRequest:
    fields = Fields(decode_object(body, limits))
    prompts = _read_prompts(fields, limits)
    refuse_unsupported(fields, COMPLETION)
    read_hints(fields, limits)
    max_tokens = fields.integer("max_tokens", 1, TOKENS_MAX)
    options = read_options(
        fields,
        limits,
        max_tokens=COMPLETION_MAX_TOKENS if max_tokens is None else max_tokens,
        logprobs=fields.integer("logprobs", 0, limits.top_logprobs),
    )
    if len(prompts) * options.n > limits.choices:
        rule = f"times the number of prompts must be at most {limits.choices}"
        raise bad_value("n", rule, len(prompts) * options.n)
    request = CompletionRequest(
        options=options, prompts=prompts, add_special_tokens=fields.flag("add_special_tokens", default=True)
    )
    fields.finish()
    return request


def parse_tokenize(body: bytes, limits: RequestLimits) -> TokenizeRequest:
    fields = Fields(decode_object(body, limits))
    prompt = fields.take("prompt")
    if prompt is not None:
        if fields.take("messages") is not None:
            raise ApiError(Reason.INVALID_VALUE, "Give either 'prompt' or 'messages', not both.", param="messages")
        prompt = text(prompt, "prompt")
    messages = read_messages(fields, limits) if prompt is None else None
    refuse_unsupported(fields, TOKENIZE)
    request = TokenizeRequest(
        model=fields.text("model", limits.name_length),
        prompt=prompt,
        messages=messages,
        add_special_tokens=fields.flag("add_special_tokens", default=messages is None),
        add_generation_prompt=fields.flag("add_generation_prompt", default=True),
    )
    fields.finish()
    return request


def parse_detokenize(body: bytes, limits: RequestLimits) -> DetokenizeRequest:
    fields = Fields(decode_object(body, limits))
    tokens = fields.take("tokens")
    if tokens is None:
        raise missing("tokens")
    if not isinstance(tokens, list):
        raise wrong_type("tokens", "a list of token ids", tokens)
    request = DetokenizeRequest(
        model=fields.text("model", limits.name_length),
        tokens=_read_token_ids(tokens, "tokens"),
    )
    fields.finish()
    return request


def _read_chat_max_tokens(fields: Fields) -> int | None:
    """``max_completion_tokens``, or the older ``max_tokens``: the same thing by two names."""
    new = fields.integer("max_completion_tokens", 1, TOKENS_MAX)
    old = fields.integer("max_tokens", 1, TOKENS_MAX)
    if new is not None and old is not None and new != old:
        raise bad_value("max_tokens", f"must equal 'max_completion_tokens' ({new}) if both are given", old)
    return old if new is None else new


def _read_chat_logprobs(fields: Fields, limits: RequestLimits) -> int | None:
    logprobs = fields.flag("logprobs")
    top = fields.integer("top_logprobs", 0, limits.top_logprobs)
    if top and not logprobs:
        raise bad_value("top_logprobs", "is only for requests with 'logprobs' set to true")
    return (top or 0) if logprobs else None


def _read_prompts(fields: Fields, limits: RequestLimits) -> tuple[Prompt, ...]:
    """A string, token ids, or a list of either."""
    value = fields.take("prompt")
    if value is None:
        raise missing("prompt")
    if isinstance(value, str):
        return (_read_prompt(value, "prompt"),)
    if not isinstance(value, list):
        raise wrong_type("prompt", "a string, a list of strings, token ids, or a list of those", value)
    if value and not isinstance(value[0], (str, list)):
        return (_read_prompt(value, "prompt"),)
    if not 1 <= len(value) <= limits.prompts:
        raise bad_value("prompt", f"must have between 1 and {limits.prompts} prompts, not {len(value)}")
    return tuple(_read_prompt(each, f"prompt[{index}]") for index, each in enumerate(value))


def _read_prompt(value: Any, path: str) -> Prompt:
    prompt = _read_token_ids(value, path) if isinstance(value, list) else text(value, path)
    if not prompt:
        raise bad_value(path, "must not be empty")
    return prompt


def _read_token_ids(values: list[Any], path: str) -> tuple[int, ...]:
    if not all(type(each) is int and 0 <= each <= TOKENS_MAX for each in values):
        for index, each in enumerate(values):
            integer(each, f"{path}[{index}]", 0, TOKENS_MAX)
    return tuple(values)
