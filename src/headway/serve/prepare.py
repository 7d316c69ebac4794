"""From a request's bytes to what the engine gets: parsed, rendered, tokenised. Runs in the thread pool."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict

from headway.policy.plan import ExecutorInfo
from headway.policy.request import RequestSpec
from headway.serve.auth import Tenant
from headway.serve.bounds import RequestLimits
from headway.serve.choices import Choice
from headway.serve.errors import ApiError, Reason
from headway.serve.options import Options, check_prompt, output_limit, sampling_params
from headway.serve.promise import NO_WISHES, Promise, Wishes, promise
from headway.serve.replies import ChatFormat, CompletionFormat, Format
from headway.serve.reply import Build, Reply
from headway.serve.service import Service, TextModel
from headway.serve.wire import parse_chat, parse_completion


@dataclass(frozen=True, slots=True)
class Call:
    """What is known about a request besides its body. ``received_s``: when its last byte came; ``deadline_s``: when it
    has to be over. Both by the clock that the driver reads too.
    """

    unique_id: str
    tenant: Tenant
    received_s: float
    deadline_s: float
    wishes: Wishes = NO_WISHES


@dataclass(frozen=True, slots=True)
class Prepared:
    reply: Reply
    specs: tuple[RequestSpec, ...]
    stream: bool


def prepare_chat(service: Service, call: Call, body: bytes) -> Prepared:
    """Raises ``ApiError``."""
    text, info = service.require()
    request = parse_chat(body, service.request_limits)
    service.check_model(request.options.model)
    promised = promise(service.classes, request.options.service_tier, call.wishes)
    prompt = text.encode_chat(request.messages, add_generation_prompt=request.add_generation_prompt)
    form = ChatFormat(**_form(service, call, "chatcmpl", request.options, promised))
    return _prepare(service, call, form, request.options, promised, [tuple(prompt)], text, info, param="messages")


def prepare_completion(service: Service, call: Call, body: bytes) -> Prepared:
    """Raises ``ApiError``."""
    text, info = service.require()
    request = parse_completion(body, service.request_limits)
    service.check_model(request.options.model)
    promised = promise(service.classes, request.options.service_tier, call.wishes)
    prompts = []
    for prompt in request.prompts:
        if isinstance(prompt, str):
            prompts.append(tuple(text.encode(prompt, add_special_tokens=request.add_special_tokens)))
        else:
            check_prompt(prompt, text.vocab_size, "prompt")
            prompts.append(prompt)
    form = CompletionFormat(**_form(service, call, "cmpl", request.options, promised))
    return _prepare(service, call, form, request.options, promised, prompts, text, info, param="prompt")


def _prepare(
    service: Service,
    call: Call,
    form: Format,
    options: Options,
    promised: Promise,
    prompts: Sequence[tuple[int, ...]],
    text: TextModel,
    info: ExecutorInfo,
    *,
    param: str,
) -> Prepared:
    specs: list[RequestSpec] = []
    choices: list[Choice] = []
    for prompt in prompts:
        max_tokens = output_limit(
            options,
            prompt_tokens=len(prompt),
            context_tokens=info.context_tokens,
            cache_tokens=info.kv_blocks * info.block_size,
            param=param,
        )
        samplings = sampling_params(
            options, choices=options.n, seed=service.seeds(), eos_ids=text.eos_ids, vocab_size=text.vocab_size
        )
        for number, sampling in enumerate(samplings):
            index = len(choices)
            request_id = f"{call.unique_id}-{index}"
            choices.append(
                Choice(
                    request_id,
                    index,
                    sampling,
                    text.detokenizer(options.stop, continues=param == "prompt", min_tokens=options.min_tokens),
                    text,
                    stream=options.stream,
                    counts_prompt=number == 0,
                )
            )
            specs.append(
                RequestSpec(
                    request_id=request_id,
                    prompt=prompt,
                    max_tokens=max_tokens,
                    sampling=sampling,
                    deadline_s=call.deadline_s,
                    salt=call.tenant.salt,
                    service_class=promised.service_class.name,
                    objective=promised.objective,
                    weight=promised.service_class.weight,
                    may_demote=promised.may_demote,
                    arrived_s=call.received_s,
                    tenant=call.tenant.name,
                )
            )
    if options.logprobs is not None and not options.stream:
        _check_logprobs(sum(spec.max_tokens for spec in specs) * (1 + options.logprobs), service.request_limits)
    build = Build(
        form,
        choices,
        stream=options.stream,
        include_usage=options.include_usage,
        continuous_usage=options.continuous_usage,
        prompt_tokens=sum(map(len, prompts)),
        service_class=promised.service_class.name,
    )
    return Prepared(Reply(build, promised, received_s=call.received_s), tuple(specs), options.stream)


def _check_logprobs(count: int, limits: RequestLimits) -> None:
    if count > limits.reply_logprobs:
        message = (
            f"A reply that isn't streamed can have at most {limits.reply_logprobs} log-probabilities, and this one may "
            f"have {count}. Stream it, or ask for fewer tokens, choices or likeliest tokens."
        )
        raise ApiError(Reason.INVALID_VALUE, message, param="logprobs")


class _FormFields(TypedDict):
    reply_id: str
    created: int
    model: str
    service_tier: str | None
    usage_in_chunks: bool


def _form(service: Service, call: Call, prefix: str, options: Options, promised: Promise) -> _FormFields:
    return {
        "reply_id": f"{prefix}-{call.unique_id}",
        "created": int(time.time()),
        "model": service.card.name,
        "service_tier": None if promised.tier is None else promised.classes.tier_of(promised.service_class.name),
        "usage_in_chunks": options.include_usage or options.continuous_usage,
    }
