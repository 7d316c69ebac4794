"""The messages of a chat: text only, every field checked, nothing opened or fetched."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from headway.serve.bounds import RequestLimits
from headway.serve.fields import Fields, bad_value, missing, text, unsupported, wrong_type

ROLES = ("system", "developer", "user", "assistant", "tool")

_NULL_ONLY = ("refusal", "audio", "function_call")
"""Fields of the assistant messages that this server sends, always null there, so that they can be sent back."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message. Its parts are joined by newlines. ``developer`` has become ``system``, which templates know."""

    role: str
    content: str
    name: str | None = None
    tool_call_id: str | None = None

    def for_template(self) -> dict[str, str]:
        """The message as chat templates expect it: absent fields are left out."""
        fields = {"role": self.role, "content": self.content}
        if self.name is not None:
            fields["name"] = self.name
        if self.tool_call_id is not None:
            fields["tool_call_id"] = self.tool_call_id
        return fields


def read_messages(fields: Fields, limits: RequestLimits) -> tuple[Message, ...]:
    """Read ``messages``. Raises ``ApiError`` (400) that names the message and the field."""
    value = fields.take("messages")
    path = fields.at("messages")
    if value is None:
        raise missing(path)
    if not isinstance(value, list):
        raise wrong_type(path, "a list of messages", value)
    if not 1 <= len(value) <= limits.messages:
        raise bad_value(path, f"must have between 1 and {limits.messages} messages, not {len(value)}")
    return tuple(_read_message(each, f"{path}[{index}]", limits) for index, each in enumerate(value))


def _read_message(value: Any, path: str, limits: RequestLimits) -> Message:
    if not isinstance(value, dict):
        raise wrong_type(path, "an object", value)
    fields = Fields(value, path)
    role = fields.take("role")
    if role is None:
        raise missing(fields.at("role"))
    if role not in ROLES:
        raise bad_value(fields.at("role"), f"must be one of {', '.join(ROLES)}", role)
    _refuse_calls(fields)
    content = _read_content(fields, limits)
    if not content and role == "user":
        raise bad_value(fields.at("content"), "must not be empty")
    tool_call_id = fields.text("tool_call_id", limits.name_length)
    if tool_call_id is not None and role != "tool":
        raise unsupported(fields.at("tool_call_id"), "is only for messages of the role 'tool'")
    message = Message(
        role="system" if role == "developer" else role,
        content=content,
        name=fields.text("name", limits.name_length),
        tool_call_id=tool_call_id,
    )
    fields.finish()
    return message


def _refuse_calls(fields: Fields) -> None:
    if fields.take("tool_calls") not in (None, []):
        raise unsupported(fields.at("tool_calls"))
    if fields.take("annotations") not in (None, []):
        raise unsupported(fields.at("annotations"))
    for name in _NULL_ONLY:
        if fields.take(name) is not None:
            raise unsupported(fields.at(name))


def _read_content(fields: Fields, limits: RequestLimits) -> str:
    value = fields.take("content")
    path = fields.at("content")
    if value is None:
        raise missing(path)
    if isinstance(value, str):
        return text(value, path)
    if not isinstance(value, list):
        raise wrong_type(path, "a string or a list of text parts", value)
    if not 1 <= len(value) <= limits.content_parts:
        raise bad_value(path, f"must have between 1 and {limits.content_parts} parts, not {len(value)}")
    return "\n".join(_read_part(part, f"{path}[{index}]") for index, part in enumerate(value))


def _read_part(value: Any, path: str) -> str:
    if not isinstance(value, dict):
        raise wrong_type(path, "an object", value)
    fields = Fields(value, path)
    kind = fields.take("type")
    if kind is None:
        raise missing(fields.at("type"))
    if kind != "text":
        raise unsupported(fields.at("type"), "must be 'text': this server reads nothing but text")
    part = fields.take("text")
    if part is None:
        raise missing(fields.at("text"))
    fields.finish()
    return text(part, fields.at("text"))
