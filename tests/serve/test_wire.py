"""Requests, from bytes to records: what clients really send is read, and nothing is ever ignored."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.serve.bounds import RequestLimits
from headway.serve.errors import ApiError, Reason
from headway.serve.json_body import decode_object
from headway.serve.messages import Message
from headway.serve.wire import (
    ChatRequest,
    CompletionRequest,
    parse_chat,
    parse_completion,
    parse_detokenize,
    parse_tokenize,
)

LIMITS = RequestLimits()
FIELD_NAMES = (
    *("model", "messages", "prompt", "tokens", "stop", "n", "seed", "logit_bias", "stream", "stream_options", "tools"),
    *("metadata", "top_k", "user", "max_tokens", "logprobs", "top_logprobs", "response_format", "service_tier"),
)
HELLO = [{"role": "user", "content": "hi"}]


def read_chat(**fields: Any) -> ChatRequest:
    return parse_chat(json.dumps({"model": "m", "messages": HELLO, **fields}).encode(), LIMITS)


def read_completion(**fields: Any) -> CompletionRequest:
    return parse_completion(json.dumps({"model": "m", "prompt": "hi", **fields}).encode(), LIMITS)


def refusal(**fields: Any) -> ApiError:
    with pytest.raises(ApiError) as caught:
        read_chat(**fields)
    assert caught.value.status == 400
    return caught.value


def completion_refusal(**fields: Any) -> ApiError:
    with pytest.raises(ApiError) as caught:
        read_completion(**fields)
    assert caught.value.status == 400
    return caught.value


class TestBodies:
    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"{",
            b"[]",
            b"null",
            b'"text"',
            b"\xff",
            b'{"a": NaN}',
            b'{"a": -Infinity}',
            b'{"a": 1e999}',
            b'{"a": ' + b"9" * 5000 + b"}",
            b'{"a": 1, "a": 1}',
            b'{"a": {"b": 1, "b": 2}}',
            b"\xef\xbb\xbf{}",
            b'{"a": "\xed\xa0\x80"}',
            b'{"a": "\x00"}',
            b"[" * 100_000 + b"]" * 100_000,
            b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
            b"[{" * 1_000_000,
            b'"' * 1_000_000,
            b'"\\' * 1_000_000,
            b'{"a": [' + b"[]," * 500_000 + b"[]]}",
        ],
    )
    def test_what_is_not_one_plain_object_is_refused(self, body: bytes) -> None:
        with pytest.raises(ApiError) as caught:
            decode_object(body, LIMITS)
        assert caught.value.reason is Reason.INVALID_JSON

    @pytest.mark.parametrize("opening", ["[", '{"a":'])
    def test_nesting_is_counted_exactly(self, opening: str) -> None:
        closing = "]" if opening == "[" else "}"
        core = "[]" if opening == "[" else "{}"

        def nested(levels: int) -> bytes:
            inner = opening * (levels - 2) + core + closing * (levels - 2)
            return f'{{"key": {inner}}}'.encode()

        assert decode_object(nested(LIMITS.nesting), LIMITS)
        with pytest.raises(ApiError, match="nested deeper than 64"):
            decode_object(nested(LIMITS.nesting + 1), LIMITS)

    def test_brackets_and_quotes_inside_strings_do_not_count(self) -> None:
        text = '[{"\\' * 1000 + '\\"'
        assert decode_object(json.dumps({"a": text}).encode(), LIMITS) == {"a": text}

    @given(
        st.dictionaries(
            st.text(max_size=4),
            st.recursive(
                st.none()
                | st.booleans()
                | st.integers()
                | st.floats(allow_nan=False, allow_infinity=False)
                | st.text(max_size=8),
                lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
                max_leaves=8,
            ),
            max_size=4,
        ),
        st.booleans(),
    )
    def test_every_json_object_is_read_as_it_is(self, value: dict[str, Any], ascii_only: bool) -> None:
        body = json.dumps(value, ensure_ascii=ascii_only).encode()
        assert decode_object(body, LIMITS) == value

    @given(st.binary() | st.text(alphabet='{}[]",:\\0a').map(str.encode))
    def test_no_bytes_raise_anything_else(self, body: bytes) -> None:
        for parse in (parse_chat, parse_completion, parse_tokenize, parse_detokenize):
            with pytest.raises(ApiError):
                parse(body, LIMITS)

    @given(
        st.dictionaries(
            st.sampled_from(FIELD_NAMES),
            st.recursive(
                st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
                lambda inner: (
                    st.lists(inner, max_size=3)
                    | st.dictionaries(st.sampled_from(["role", "content", "type", "text", "0", "7"]), inner, max_size=3)
                ),
                max_leaves=5,
            ),
        )
    )
    def test_no_values_raise_anything_else(self, value: dict[str, Any]) -> None:
        body = json.dumps(value).encode()
        for parse in (parse_chat, parse_completion, parse_tokenize, parse_detokenize):
            try:
                parse(body, LIMITS)
            except ApiError:
                continue


class TestClients:
    """What popular clients send when they are used in the ordinary way."""

    @pytest.mark.parametrize(
        "fields",
        [
            {"temperature": 0.7, "top_p": 1, "n": 1, "stream": False, "stop": None, "user": None},  # openai, LangChain
            {"stream": True, "stream_options": {"include_usage": True}, "tools": [], "parallel_tool_calls": True},
            {"stream": True, "stream_options": {"include_usage": True, "continuous_usage_stats": True}},  # vLLM's bench
            {"max_tokens": 9, "max_completion_tokens": 9, "ignore_eos": True, "stop": None},  # GuideLLM
            {"repetition_penalty": 1.0, "top_k": -1, "min_p": 0, "min_tokens": 0, "skip_special_tokens": True},
            {"top_k": 0, "stop_token_ids": [], "logit_bias": {}, "logprobs": False, "top_logprobs": 0},
            {"response_format": {"type": "text"}, "modalities": ["text"], "store": False, "tool_choice": "none"},
            {"metadata": {"a": "b"}, "safety_identifier": "x", "prompt_cache_key": "y", "service_tier": "auto"},
            {"reasoning_effort": None, "audio": None, "prediction": None, "functions": None, "seed": -(2**63)},
        ],
    )
    def test_chat(self, fields: dict[str, Any]) -> None:
        assert read_chat(**fields).messages == (Message("user", "hi"),)

    @pytest.mark.parametrize(
        "fields",
        [
            {"max_tokens": 128, "temperature": 0.0, "repetition_penalty": 1.0, "logprobs": None, "stream": True},
            {"best_of": 1, "echo": False, "suffix": None, "presence_penalty": 0, "frequency_penalty": 0},
            {"logprobs": 5, "add_special_tokens": False, "min_tokens": 16, "ignore_eos": True},
        ],
    )
    def test_completion(self, fields: dict[str, Any]) -> None:
        assert read_completion(**fields).prompts == ("hi",)

    def test_a_reply_of_ours_can_be_sent_back(self) -> None:
        answer = {
            "role": "assistant",
            "content": "hello",
            "refusal": None,
            "annotations": None,
            "audio": None,
            "function_call": None,
            "tool_calls": None,
        }
        assert read_chat(messages=[*HELLO, answer, *HELLO]).messages[1] == Message("assistant", "hello")

    def test_defaults(self) -> None:
        chat, completion = read_chat().options, read_completion().options
        assert (chat.max_tokens, completion.max_tokens) == (None, 16)
        assert (chat.temperature, chat.top_p, chat.top_k, chat.n, chat.seed) == (1.0, 1.0, None, 1, None)
        assert (chat.logprobs, chat.stop, chat.stream, chat.service_tier) == (None, (), False, None)


class TestMessages:
    def test_roles_and_parts(self) -> None:
        parts = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
        messages = read_chat(
            messages=[
                {"role": "developer", "content": ""},
                {"role": "user", "content": parts, "name": "kim"},
                {"role": "tool", "content": "42", "tool_call_id": "c1"},
            ]
        ).messages
        assert messages == (
            Message("system", ""),
            Message("user", "one\ntwo", name="kim"),
            Message("tool", "42", tool_call_id="c1"),
        )
        assert messages[0].for_template() == {"role": "system", "content": ""}
        assert messages[2].for_template() == {"role": "tool", "content": "42", "tool_call_id": "c1"}

    @pytest.mark.parametrize(
        ("messages", "param", "reason"),
        [
            (None, "messages", Reason.MISSING_PARAMETER),
            ([], "messages", Reason.INVALID_VALUE),
            ("hi", "messages", Reason.INVALID_TYPE),
            ({}, "messages", Reason.INVALID_TYPE),
            ([123], "messages[0]", Reason.INVALID_TYPE),
            ([{}], "messages[0].role", Reason.MISSING_PARAMETER),
            ([{"role": ["user"], "content": "a"}], "messages[0].role", Reason.INVALID_VALUE),
            ([{"role": "function", "content": "a"}], "messages[0].role", Reason.INVALID_VALUE),
            ([{"role": "user"}], "messages[0].content", Reason.MISSING_PARAMETER),
            ([{"role": "assistant", "content": None}], "messages[0].content", Reason.MISSING_PARAMETER),
            ([{"role": "user", "content": ""}], "messages[0].content", Reason.INVALID_VALUE),
            ([{"role": "user", "content": 5}], "messages[0].content", Reason.INVALID_TYPE),
            ([{"role": "user", "content": []}], "messages[0].content", Reason.INVALID_VALUE),
            ([{"role": "user", "content": ["a"]}], "messages[0].content[0]", Reason.INVALID_TYPE),
            ([{"role": "user", "content": [{"text": "a"}]}], "messages[0].content[0].type", Reason.MISSING_PARAMETER),
            (
                [{"role": "user", "content": [{"type": "text"}]}],
                "messages[0].content[0].text",
                Reason.MISSING_PARAMETER,
            ),
            (
                [*HELLO, {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "file:///x"}}]}],
                "messages[1].content[0].type",
                Reason.UNSUPPORTED_PARAMETER,
            ),
            ([{**HELLO[0], "tool_calls": [{}]}], "messages[0].tool_calls", Reason.UNSUPPORTED_PARAMETER),
            ([{**HELLO[0], "tool_call_id": "c"}], "messages[0].tool_call_id", Reason.UNSUPPORTED_PARAMETER),
            ([{**HELLO[0], "weight": 1}], "messages[0].weight", Reason.UNSUPPORTED_PARAMETER),
            ([{**HELLO[0], "name": ""}], "messages[0].name", Reason.INVALID_VALUE),
        ],
    )
    def test_odd_ones_are_refused_by_path(self, messages: Any, param: str, reason: Reason) -> None:
        error = refusal(messages=messages)
        assert (error.param, error.reason) == (param, reason)
        assert f"'{param}'" in error.message

    def test_their_number_is_bounded(self) -> None:
        assert "between 1 and 4096" in refusal(messages=HELLO * 4097).message

    def test_lone_surrogates_become_replacement_characters(self) -> None:
        body = b'{"model": "m", "messages": [{"role": "user", "content": "\\ud83d\\ude00\\udc00x\\ud800"}]}'
        assert parse_chat(body, LIMITS).messages[0].content == "\U0001f600\ufffdx\ufffd"


class TestOptions:
    @pytest.mark.parametrize(
        ("fields", "limit"),
        [
            ({"temperature": 2.1}, "between 0 and 2"),
            ({"temperature": -1}, "between 0 and 2"),
            ({"temperature": 1e308}, "between 0 and 2"),
            ({"top_p": 0}, "above 0 and at most 1"),
            ({"top_p": 1.5}, "above 0 and at most 1"),
            ({"top_k": -2}, "between -1 and"),
            ({"min_p": 2}, "between 0 and 1"),
            ({"presence_penalty": 3}, "between -2 and 2"),
            ({"frequency_penalty": -3}, "between -2 and 2"),
            ({"repetition_penalty": 0}, "above 0 and at most 2"),
            ({"n": 0}, "between 1 and 16"),
            ({"n": 17}, "between 1 and 16"),
            ({"seed": 2**63}, "between -9223372036854775808"),
            ({"max_tokens": 0}, "between 1 and"),
            ({"max_completion_tokens": 2**63}, "between 1 and"),
            ({"logprobs": True, "top_logprobs": 21}, "between 0 and 20"),
            ({"stop": ["a"] * 17}, "at most 16"),
            ({"stop": ""}, "between 1 and 512"),
            ({"stop": "a" * 513}, "between 1 and 512"),
            ({"stop_token_ids": [1] * 65}, "at most 64"),
            ({"logit_bias": {str(token): 1 for token in range(10_000)}}, "at most 1024"),
            ({"logit_bias": {"1": 101}}, "between -100 and 100"),
            ({"min_tokens": 5, "max_tokens": 4}, "at most the token limit of 4"),
            ({"metadata": {str(key): "x" for key in range(17)}}, "at most 16"),
            ({"user": "u" * 513}, "between 1 and 512"),
        ],
    )
    def test_out_of_range_names_limit_and_value(self, fields: dict[str, Any], limit: str) -> None:
        error = refusal(**fields)
        assert error.reason is Reason.INVALID_VALUE
        assert limit in error.message
        assert ", not " in error.message
        assert (error.param or "").split(".")[0].split("[")[0] in fields

    @pytest.mark.parametrize("value", [True, "1", [1], {"a": 1}])
    @pytest.mark.parametrize(
        "name", ["temperature", "top_p", "top_k", "n", "seed", "max_tokens", "min_p", "min_tokens"]
    )
    def test_numbers_are_numbers(self, name: str, value: Any) -> None:
        error = refusal(**{name: value})
        assert (error.reason, error.param) == (Reason.INVALID_TYPE, name)

    @pytest.mark.parametrize("name", ["n", "seed", "max_tokens", "top_k", "top_logprobs"])
    def test_whole_numbers_are_whole(self, name: str) -> None:
        assert refusal(**{name: 1.0}).reason is Reason.INVALID_TYPE

    @pytest.mark.parametrize("name", ["stream", "logprobs", "ignore_eos", "add_generation_prompt"])
    def test_flags_are_flags(self, name: str) -> None:
        assert refusal(**{name: 1}).reason is Reason.INVALID_TYPE

    @pytest.mark.parametrize("key", ["", "a", "-1", "1.0", "٣", " 1", "9" * 20])
    def test_logit_bias_keys_are_token_ids(self, key: str) -> None:
        assert refusal(logit_bias={key: 1}).param == "logit_bias"

    def test_logit_bias_names_a_token_once(self) -> None:
        assert refusal(logit_bias={"1": 1, "01": 2}).param == "logit_bias"
        assert read_chat(logit_bias={"7": -100, "8": 0.5}).options.logit_bias == ((7, -100.0), (8, 0.5))

    @pytest.mark.parametrize(("given", "meant"), [(-1, None), (0, None), (1, 1), (50, 50)])
    def test_top_k_has_words_for_all(self, given: int, meant: int | None) -> None:
        assert read_chat(top_k=given).options.top_k == meant

    def test_the_two_names_of_the_token_limit_must_agree(self) -> None:
        assert read_chat(max_tokens=4).options.max_tokens == 4
        assert read_chat(max_completion_tokens=4).options.max_tokens == 4
        assert refusal(max_tokens=4, max_completion_tokens=5).param == "max_tokens"

    def test_logprobs_in_both_styles(self) -> None:
        assert read_chat(logprobs=True).options.logprobs == 0
        assert read_chat(logprobs=True, top_logprobs=3).options.logprobs == 3
        assert refusal(top_logprobs=3).param == "top_logprobs"
        assert read_completion(logprobs=0).options.logprobs == 0
        assert completion_refusal(logprobs=True).reason is Reason.INVALID_TYPE

    def test_stream_options_are_for_streams(self) -> None:
        assert refusal(stream_options={"include_usage": True}).param == "stream_options"
        assert refusal(stream=True, stream_options={"other": 1}).param == "stream_options.other"
        assert refusal(stream=True, stream_options={"include_obfuscation": True}).status == 400
        options = read_chat(stream=True, stream_options={"continuous_usage_stats": True}).options
        assert (options.stream, options.include_usage, options.continuous_usage) == (True, False, True)


class TestUnsupported:
    @pytest.mark.parametrize(
        "fields",
        [
            {"unknown": 1},
            {"unknown": None},
            {"Temperature": 1},
            {"tools": [{"type": "function"}]},
            {"tool_choice": "required"},
            {"functions": [{}]},
            {"response_format": {"type": "json_object"}},
            {"response_format": {"type": "text", "strict": True}},
            {"modalities": ["text", "audio"]},
            {"store": True},
            {"store": 0},
            {"reasoning_effort": "high"},
            {"guided_json": {}},
            {"skip_special_tokens": False},
            {"echo": True},
            {"chat_template": ""},
            {"chat_template_kwargs": {}},
            {"continue_final_message": True},
            {"priority": 1},
        ],
    )
    def test_chat(self, fields: dict[str, Any]) -> None:
        error = refusal(**fields)
        assert error.reason is Reason.UNSUPPORTED_PARAMETER
        assert error.param in fields

    @pytest.mark.parametrize("fields", [{"best_of": 2}, {"echo": True}, {"suffix": "x"}, {"messages": HELLO}])
    def test_completion(self, fields: dict[str, Any]) -> None:
        assert completion_refusal(**fields).reason is Reason.UNSUPPORTED_PARAMETER

    def test_service_tier(self) -> None:
        assert read_chat(service_tier="flex").options.service_tier == "flex"
        assert refusal(service_tier=7).param == "service_tier"


class TestPrompts:
    @pytest.mark.parametrize(
        ("prompt", "prompts"),
        [
            ("a", ("a",)),
            (["a", "b"], ("a", "b")),
            ([1, 2], ((1, 2),)),
            ([[1], [2, 3]], ((1,), (2, 3))),
            (["a", [1]], ("a", (1,))),
        ],
    )
    def test_forms(self, prompt: Any, prompts: Any) -> None:
        assert read_completion(prompt=prompt).prompts == prompts

    @pytest.mark.parametrize(
        ("prompt", "param"),
        [
            (None, "prompt"),
            ("", "prompt"),
            ([], "prompt"),
            ([""], "prompt[0]"),
            ([[]], "prompt[0]"),
            ([1, "a"], "prompt[1]"),
            (["a", 1], "prompt[1]"),
            ([True], "prompt[0]"),
            ([-1], "prompt[0]"),
            ([1.5], "prompt[0]"),
            ([2**31], "prompt[0]"),
            (5, "prompt"),
            ({}, "prompt"),
            (["a"] * 129, "prompt"),
        ],
    )
    def test_odd_ones_are_refused_by_path(self, prompt: Any, param: str) -> None:
        assert completion_refusal(prompt=prompt).param == param

    def test_the_number_of_choices_is_bounded(self) -> None:
        assert len(read_completion(prompt=["a"] * 8, n=16).prompts) == 8
        assert "at most 128, not 144" in completion_refusal(prompt=["a"] * 9, n=16).message


class TestTokenize:
    def test_prompt_or_messages(self) -> None:
        prompt = parse_tokenize(b'{"prompt": ""}', LIMITS)
        assert (prompt.prompt, prompt.messages, prompt.model, prompt.add_special_tokens) == ("", None, None, True)
        chat = parse_tokenize(json.dumps({"messages": HELLO, "model": "m"}).encode(), LIMITS)
        assert (chat.prompt, chat.messages) == (None, (Message("user", "hi"),))
        assert (chat.add_special_tokens, chat.add_generation_prompt) == (False, True)

    @pytest.mark.parametrize(
        "fields", [{}, {"prompt": "a", "messages": HELLO}, {"prompt": [1]}, {"prompt": "a", "x": 1}]
    )
    def test_refusals(self, fields: dict[str, Any]) -> None:
        with pytest.raises(ApiError):
            parse_tokenize(json.dumps(fields).encode(), LIMITS)

    def test_detokenize(self) -> None:
        assert parse_detokenize(b'{"tokens": [1, 2]}', LIMITS).tokens == (1, 2)
        for body in (b"{}", b'{"tokens": "a"}', b'{"tokens": [true]}', b'{"tokens": [], "x": 1}'):
            with pytest.raises(ApiError):
                parse_detokenize(body, LIMITS)
