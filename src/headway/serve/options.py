"""The options that chat and text completions share, read from a request; and the sampling rules made from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from headway.policy.sampling import SamplingParams
from headway.serve.bounds import RequestLimits
from headway.serve.errors import context_length_exceeded
from headway.serve.fields import Fields, bad_value, integer, missing, short_text, wrong_type

TOKENS_MAX = 2**31 - 1
"""Beyond every context; the model's own limit is applied once the prompt is tokenised."""

_SEED_MODULUS = 1 << 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Everything but the prompt. ``None`` means that the request didn't say.

    ``logprobs`` is as in ``SamplingParams``. ``service_tier`` is the value asked for, not yet checked to be one.
    """

    model: str
    max_tokens: int | None
    n: int
    temperature: float
    top_p: float
    top_k: int | None
    min_p: float
    presence_penalty: float
    frequency_penalty: float
    repetition_penalty: float
    logit_bias: tuple[tuple[int, float], ...]
    seed: int | None
    logprobs: int | None
    stop: tuple[str, ...]
    stop_token_ids: tuple[int, ...]
    min_tokens: int
    ignore_eos: bool
    stream: bool
    include_usage: bool
    continuous_usage: bool
    service_tier: str | None
    user: str | None


def read_options(fields: Fields, limits: RequestLimits, *, max_tokens: int | None, logprobs: int | None) -> Options:
    """Read the shared options; ``max_tokens`` and ``logprobs`` are read by the caller, whose rules differ."""
    stream = fields.flag("stream")
    include_usage, continuous_usage = _read_stream_options(fields, stream)
    min_tokens = fields.integer("min_tokens", 0, TOKENS_MAX) or 0
    if max_tokens is not None and min_tokens > max_tokens:
        raise bad_value(fields.at("min_tokens"), f"must be at most the token limit of {max_tokens}", min_tokens)
    top_k = fields.integer("top_k", -1, TOKENS_MAX)
    return Options(
        model=_read_model(fields, limits),
        max_tokens=max_tokens,
        n=fields.integer("n", 1, limits.n) or 1,
        temperature=fields.number("temperature", 1.0, 0, 2),
        top_p=fields.number("top_p", 1.0, 0, 1, above_low=True),
        top_k=top_k if top_k is not None and top_k > 0 else None,  # -1 and 0 are the usual words for "all"
        min_p=fields.number("min_p", 0.0, 0, 1),
        presence_penalty=fields.number("presence_penalty", 0.0, -2, 2),
        frequency_penalty=fields.number("frequency_penalty", 0.0, -2, 2),
        repetition_penalty=fields.number("repetition_penalty", 1.0, 0, 2, above_low=True),
        logit_bias=_read_logit_bias(fields, limits),
        seed=fields.integer("seed", -(2**63), 2**63 - 1),
        logprobs=logprobs,
        stop=_read_stop(fields, limits),
        stop_token_ids=_read_stop_token_ids(fields, limits),
        min_tokens=min_tokens,
        ignore_eos=fields.flag("ignore_eos"),
        stream=stream,
        include_usage=include_usage,
        continuous_usage=continuous_usage,
        service_tier=fields.text("service_tier", limits.name_length),
        user=fields.text("user", limits.name_length),
    )


def sampling_params(
    options: Options, *, choices: int, seed: int, eos_ids: Sequence[int], vocab_size: int
) -> tuple[SamplingParams, ...]:
    """The sampling rules of each choice. Choice ``i`` draws with the request's seed plus ``i``.

    ``seed`` is used when the request has none. Raises ``ApiError`` for token ids outside the vocabulary.
    """
    for token, _ in options.logit_bias:
        _check_token(token, "logit_bias", vocab_size)
    for token in options.stop_token_ids:
        _check_token(token, "stop_token_ids", vocab_size)
    first = seed if options.seed is None else options.seed
    stops = options.stop_token_ids if options.ignore_eos else (*options.stop_token_ids, *eos_ids)
    shared: dict[str, Any] = {
        "temperature": options.temperature,
        "top_p": options.top_p,
        "top_k": options.top_k,
        "min_p": options.min_p,
        "presence_penalty": options.presence_penalty,
        "frequency_penalty": options.frequency_penalty,
        "repetition_penalty": options.repetition_penalty,
        "logit_bias": options.logit_bias,
        "logprobs": options.logprobs,
        "min_tokens": options.min_tokens,
        "stop_token_ids": tuple(dict.fromkeys(stops)),
    }
    return tuple(SamplingParams(seed=(first + choice) % _SEED_MODULUS, **shared) for choice in range(choices))


def output_limit(options: Options, *, prompt_tokens: int, context_tokens: int, cache_tokens: int, param: str) -> int:
    """How many tokens may be generated: what was asked for, else all that the context and the KV cache have room for.

    Raises ``ApiError`` (``context_length_exceeded``) if the context is too short; ``param`` names the field with the
    prompt. What was asked for is not held against the cache here: the policy refuses that in its own words.
    """
    room = context_tokens - prompt_tokens
    if options.max_tokens is not None:
        wanted = options.max_tokens
    else:
        wanted = max(min(room, cache_tokens - prompt_tokens + 1), 1)  # the last token is never fed back
    if wanted > room:
        raise context_length_exceeded(prompt_tokens, wanted, context_tokens, param=param)
    return wanted


def check_prompt(tokens: Sequence[int], vocab_size: int, path: str) -> None:
    """Refuse token ids that the model doesn't have."""
    if tokens and max(tokens) >= vocab_size:
        _check_token(max(tokens), path, vocab_size)


def _check_token(token: int, path: str, vocab_size: int) -> None:
    if token >= vocab_size:
        raise bad_value(path, f"must hold token ids below the vocabulary size of {vocab_size}", token)


def _read_model(fields: Fields, limits: RequestLimits) -> str:
    model = fields.text("model", limits.name_length)
    if model is None:
        raise missing(fields.at("model"))
    return model


def _read_stream_options(fields: Fields, stream: bool) -> tuple[bool, bool]:
    options = fields.object("stream_options")
    if options is None:
        return False, False
    if not stream:
        raise bad_value(fields.at("stream_options"), "is only for requests with 'stream' set to true")
    include_usage = options.flag("include_usage")
    continuous_usage = options.flag("continuous_usage_stats")
    if options.flag("include_obfuscation"):
        raise bad_value(options.at("include_obfuscation"), "must be false: this server doesn't pad streams")
    options.finish()
    return include_usage, continuous_usage


def _read_stop(fields: Fields, limits: RequestLimits) -> tuple[str, ...]:
    value = fields.take("stop")
    path = fields.at("stop")
    if value is None:
        return ()
    if isinstance(value, str):
        return (short_text(value, path, limits.stop_length),)
    if not isinstance(value, list):
        raise wrong_type(path, "a string or a list of strings", value)
    _check_count(value, path, limits.stops)
    return tuple(short_text(each, f"{path}[{index}]", limits.stop_length) for index, each in enumerate(value))


def _read_stop_token_ids(fields: Fields, limits: RequestLimits) -> tuple[int, ...]:
    value = fields.take("stop_token_ids")
    path = fields.at("stop_token_ids")
    if value is None:
        return ()
    if not isinstance(value, list):
        raise wrong_type(path, "a list of token ids", value)
    _check_count(value, path, limits.stop_token_ids)
    return tuple(integer(each, f"{path}[{index}]", 0, TOKENS_MAX) for index, each in enumerate(value))


def _read_logit_bias(fields: Fields, limits: RequestLimits) -> tuple[tuple[int, float], ...]:
    bias = fields.object("logit_bias")
    if bias is None:
        return ()
    path = fields.at("logit_bias")
    _check_count(bias, path, limits.logit_bias)
    pairs: dict[int, float] = {}
    for key, _ in bias.items():
        if not (key.isascii() and key.isdigit() and len(key) <= 10 and int(key) <= TOKENS_MAX):
            raise bad_value(path, "must have token ids as its keys", key)
        if int(key) in pairs:
            raise bad_value(path, "names one token id twice", key)
        pairs[int(key)] = bias.number(key, 0.0, -100, 100)
    return tuple(pairs.items())


def _check_count(values: Sequence[Any] | Fields, path: str, limit: int) -> None:
    if len(values) > limit:
        raise bad_value(path, f"must have at most {limit} entries, not {len(values)}")
