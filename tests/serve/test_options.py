"""From checked options to the sampling rules of each choice, and to the number of tokens that may come."""

from __future__ import annotations

import json
from typing import Any

import pytest

from headway.policy.sampling import SamplingParams
from headway.serve.bounds import RequestLimits
from headway.serve.errors import ApiError, Reason
from headway.serve.options import Options, check_prompt, output_limit, sampling_params
from headway.serve.wire import parse_chat


def options(**fields: Any) -> Options:
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], **fields}
    return parse_chat(json.dumps(body).encode(), RequestLimits()).options


def params(choices: int = 1, **fields: Any) -> tuple[SamplingParams, ...]:
    return sampling_params(options(**fields), choices=choices, seed=5, eos_ids=(2, 0), vocab_size=100)


def test_every_option_reaches_the_engine() -> None:
    assert params(
        temperature=0.5,
        top_p=0.9,
        top_k=7,
        min_p=0.1,
        presence_penalty=1,
        frequency_penalty=-1,
        repetition_penalty=1.1,
        logit_bias={"3": 4},
        seed=9,
        logprobs=True,
        top_logprobs=2,
        min_tokens=3,
        stop_token_ids=[8, 2],
    ) == (
        SamplingParams(
            temperature=0.5,
            top_p=0.9,
            top_k=7,
            min_p=0.1,
            presence_penalty=1.0,
            frequency_penalty=-1.0,
            repetition_penalty=1.1,
            logit_bias=((3, 4.0),),
            seed=9,
            logprobs=2,
            min_tokens=3,
            stop_token_ids=(8, 2, 0),
        ),
    )


def test_the_end_of_sequence_stops_unless_ignored() -> None:
    assert params()[0].stop_token_ids == (2, 0)
    assert params(ignore_eos=True)[0].stop_token_ids == ()
    assert params(ignore_eos=True, stop_token_ids=[2])[0].stop_token_ids == (2,)


def test_each_choice_has_its_own_seed() -> None:
    assert [each.seed for each in params(choices=3)] == [5, 6, 7]
    assert [each.seed for each in params(choices=2, seed=0)] == [0, 1]


@pytest.mark.parametrize(("given", "first", "second"), [(-1, 2**64 - 1, 0), (-(2**63), 2**63, 2**63 + 1)])
def test_seeds_are_64_bits_and_wrap(given: int, first: int, second: int) -> None:
    result = sampling_params(options(seed=given), choices=2, seed=0, eos_ids=(), vocab_size=10)
    assert [each.seed for each in result] == [first, second]


@pytest.mark.parametrize("fields", [{"logit_bias": {"100": 1}}, {"stop_token_ids": [100]}])
def test_token_ids_must_be_in_the_vocabulary(fields: dict[str, Any]) -> None:
    with pytest.raises(ApiError, match="below the vocabulary size of 100, not 100") as caught:
        params(**fields)
    assert caught.value.param in fields


def test_prompts_must_be_in_the_vocabulary() -> None:
    check_prompt([0, 99], 100, "prompt")
    check_prompt([], 100, "prompt")
    with pytest.raises(ApiError, match="not 100"):
        check_prompt([0, 100, 5], 100, "prompt")


def test_without_a_limit_the_rest_of_the_context_is_used() -> None:
    assert output_limit(options(), prompt_tokens=10, context_tokens=64, cache_tokens=999, param="messages") == 54
    assert (
        output_limit(options(max_tokens=54), prompt_tokens=10, context_tokens=64, cache_tokens=999, param="messages")
        == 54
    )


@pytest.mark.parametrize(
    ("prompt_tokens", "fields", "total"), [(10, {"max_tokens": 55}, 65), (64, {}, 65), (90, {}, 91)]
)
def test_what_does_not_fit_is_refused_with_both_numbers(prompt_tokens: int, fields: dict[str, Any], total: int) -> None:
    with pytest.raises(ApiError) as caught:
        output_limit(
            options(**fields), prompt_tokens=prompt_tokens, context_tokens=64, cache_tokens=999, param="messages"
        )
    assert caught.value.reason is Reason.CONTEXT_LENGTH
    assert "maximum context length is 64 tokens" in caught.value.message
    assert f"{total} tokens ({prompt_tokens} in the prompt" in caught.value.message
