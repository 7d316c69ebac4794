"""Chat templates: from messages to the text that a model was trained on.

A template is part of the checkpoint and never comes from a request. It runs in jinja2's immutable sandbox, in the
environment that checkpoints expect (the one of transformers' ``apply_chat_template``), and its output is bounded.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from headway.models.errors import ModelError
from headway.serve.errors import ApiError, Reason

OUTPUT_CHARACTERS_MAX = 32 * 1024 * 1024
"""The longest rendered chat: several times the longest request body, as what is cut apart grows."""


_RENDERING_ERRORS = (
    jinja2.TemplateError,
    ArithmeticError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
)
"""What a template can raise over a request's messages: the request is at fault then, not the server."""


class ChatTemplate:
    """One checkpoint's template. ``special`` are its named special tokens, such as ``bos_token``."""

    def __init__(self, source: str, special: Mapping[str, str], *, now: Callable[[], datetime] = datetime.now) -> None:
        """Raises ``ModelError`` if the template can't be compiled."""
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[_GenerationTag, "jinja2.ext.loopcontrols"]
        )
        environment.filters["tojson"] = _to_json
        environment.globals["raise_exception"] = _raise
        environment.globals["strftime_now"] = lambda form: now().strftime(form)
        try:
            self._template = environment.from_string(source)
        except jinja2.TemplateError as error:
            raise ModelError(f"the chat template is broken: {error}") from error
        self._special = dict(special)

    def render(self, messages: Sequence[Mapping[str, str]], *, add_generation_prompt: bool = True) -> str:
        """The chat as text. Raises ``ApiError`` (400) for messages that the template refuses."""
        variables = {**self._special, "tools": None, "documents": None, "add_generation_prompt": add_generation_prompt}
        parts: list[str] = []
        length = 0
        try:
            for part in self._template.generate(messages=[dict(each) for each in messages], **variables):
                parts.append(part)
                length += len(part)
                if length > OUTPUT_CHARACTERS_MAX:
                    raise jinja2.TemplateRuntimeError(f"the chat is longer than {OUTPUT_CHARACTERS_MAX} characters")
        except _RENDERING_ERRORS as error:
            message = f"The model's chat template can't render these messages: {error}"
            raise ApiError(Reason.INVALID_VALUE, message, param="messages") from error
        return "".join(parts)


def read_template(directory: Path, config: Mapping[str, Any]) -> str | None:
    """The checkpoint's template: chat_template.jinja, else what tokenizer_config.json has. Raises ``ModelError``.

    Of several templates by name it is the one named "default". None: the model can't chat.
    """
    path = directory / "chat_template.jinja"
    if path.is_file():
        try:
            return path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ModelError(f"{path}: {error}") from error
    found = config.get("chat_template")
    if isinstance(found, list):
        named = {each.get("name"): each.get("template") for each in found if isinstance(each, dict)}
        found = named.get("default")
    if found is not None and not isinstance(found, str):
        raise ModelError("tokenizer_config.json: chat_template must be a string, or a list of named ones")
    return found


class _GenerationTag(Extension):
    """``{% generation %}`` marks what the assistant says, for training; here its content is just content."""

    tags = {"generation"}  # noqa: RUF012 (jinja2's own declaration)

    def parse(self, parser: Parser) -> nodes.Node | list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _raise(message: str) -> None:
    raise jinja2.TemplateError(message)


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Plain JSON: jinja2's own filter would escape it for HTML."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
