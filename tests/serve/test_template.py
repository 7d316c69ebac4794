"""Chat templates: rendered as transformers renders them, in a sandbox, with bounds."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerFast

from headway.models.errors import ModelError
from headway.serve import template as module
from headway.serve.errors import ApiError
from headway.serve.template import ChatTemplate, read_template
from tests.serve.chat_templates import CHATML, DATA, HEADERS, INSTRUCTIONS
from tests.serve.small_tokenizers import byte_level

SPECIAL = {"bos_token": "<s>", "eos_token": "</s>"}
NAMES = ["<s>", "</s>"]
USER = {"role": "user", "content": " What is <b>this</b>?\n"}
ANSWER = {"role": "assistant", "content": "It's  a\ttest. "}
SYSTEM = {"role": "system", "content": "Be brief."}
CHATS = [[USER], [SYSTEM, USER], [USER, ANSWER, USER], [SYSTEM, USER, ANSWER, USER]]


def noon() -> datetime:
    return datetime(2026, 11, 24, 12)


def render(source: str, chat: list[dict[str, str]] | None = None) -> str:
    return ChatTemplate(source, SPECIAL, now=noon).render(chat or [USER])


@pytest.mark.parametrize("add_generation_prompt", [True, False])
@pytest.mark.parametrize("chat", CHATS, ids=lambda chat: "-".join(each["role"][0] for each in chat))
@pytest.mark.parametrize("source", [CHATML, HEADERS, INSTRUCTIONS, DATA], ids=["chatml", "headers", "inst", "data"])
def test_rendered_as_transformers_does(source: str, chat: list[dict[str, str]], add_generation_prompt: bool) -> None:
    reference = PreTrainedTokenizerFast(tokenizer_object=byte_level(NAMES), **SPECIAL)
    expected = reference.apply_chat_template(
        chat, chat_template=source, add_generation_prompt=add_generation_prompt, tokenize=False
    )
    ours = ChatTemplate(source, SPECIAL).render(chat, add_generation_prompt=add_generation_prompt)
    assert ours == expected


def test_the_date_is_that_of_the_clock() -> None:
    assert "Today Date: 24 Nov 2026" in render(HEADERS)


def test_what_a_template_refuses_is_the_requests_fault() -> None:
    with pytest.raises(ApiError, match="roles must alternate") as caught:
        render(INSTRUCTIONS, [USER, USER])
    assert (caught.value.status, caught.value.param) == (400, "messages")


@pytest.mark.parametrize(
    "source",
    [
        "{{ messages.append(1) }}",
        "{{ messages[0].update({'a': 1}) }}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ raise_exception.__globals__ }}",
        "{{ namespace.__init__.__globals__ }}",
        "{{ '{0.__class__}'.format(1) }}",
        "{{ messages[0]['content'] + 1 }}",
        "{{ 1 / 0 }}",
        "{{ messages[5]['role'] }}",
        "{% include 'other' %}",
        "{{ none() }}",
        "{{ range(10 ** 9) | list }}",
        "{% macro again() %}{{ again() }}{% endmacro %}{{ again() }}",
        "{{ strftime_now(5) }}",
    ],
)
def test_a_template_cannot_leave_its_sandbox_or_break_the_server(source: str) -> None:
    try:
        rendered = render(source)
    except ApiError as error:
        assert error.status == 400  # noqa: PT017 (an error is one of two good outcomes)
    else:
        assert "class" not in rendered
        assert USER == {"role": "user", "content": " What is <b>this</b>?\n"}


def test_the_output_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "OUTPUT_CHARACTERS_MAX", 1000)
    assert len(render("{% for _ in range(100) %}{{ 'x' * 10 }}{% endfor %}")) == 1000
    with pytest.raises(ApiError, match="longer than 1000 characters"):
        render("{% for _ in range(100000) %}{% for _ in range(100000) %}x{% endfor %}{% endfor %}")


def test_a_broken_template_is_found_when_it_is_loaded() -> None:
    with pytest.raises(ModelError, match="chat template is broken"):
        ChatTemplate("{% for %}", {})


def test_special_tokens_without_a_value_are_undefined() -> None:
    assert ChatTemplate("{{ bos_token is defined }}", {}).render([USER]) == "False"


class TestReading:
    def test_one_template(self, tmp_path: Path) -> None:
        assert read_template(tmp_path, {"chat_template": "one"}) == "one"
        assert read_template(tmp_path, {}) is None

    def test_several_templates(self, tmp_path: Path) -> None:
        named = [{"name": "tool_use", "template": "two"}, {"name": "default", "template": "one"}]
        assert read_template(tmp_path, {"chat_template": named}) == "one"
        assert read_template(tmp_path, {"chat_template": named[:1]}) is None

    def test_a_file_comes_first(self, tmp_path: Path) -> None:
        (tmp_path / "chat_template.jinja").write_text("filed é", encoding="utf-8")
        assert read_template(tmp_path, {"chat_template": "one"}) == "filed é"

    def test_anything_else_is_an_error(self, tmp_path: Path) -> None:
        with pytest.raises(ModelError):
            read_template(tmp_path, {"chat_template": 5})
        (tmp_path / "chat_template.jinja").write_bytes(b"\xff")
        with pytest.raises(ModelError):
            read_template(tmp_path, {})


def test_plain_json_options() -> None:
    source = "{{ {'b': 1, 'a': [1]} | tojson(separators=(',', ':'), sort_keys=true) }}"
    assert render(source) == json.dumps({"b": 1, "a": [1]}, separators=(",", ":"), sort_keys=True)
