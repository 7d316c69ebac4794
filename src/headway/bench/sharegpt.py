"""Conversations in the format of ShareGPT: a JSON array, or JSONL, of ``{"conversations": [{"from", "value"}, ...]}``;
``messages`` with ``role`` and ``content`` are taken as well.

A request is the first message of the user, and as long an answer as the one in the file.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from random import Random

import msgspec

from headway.bench.call import Call, Turn
from headway.bench.drawn import TURNS_MAX
from headway.bench.files import LINE_BYTES_MAX, ROWS_MAX, json_rows, read_file, reason
from headway.bench.listed import FRESH_TOKENS, FRESH_TOKENS_MAX, Listed, check_any, fits
from headway.bench.target import Api
from headway.bench.tokens import Tokens
from headway.bench.workload_interface import TOKENS_MAX, WorkloadError
from headway.bench.workload_options import Options

ROWS = 1000
"""Conversations that are drawn from the file unless it is said."""
SPEAKERS = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "assistant": "assistant",
    "model": "assistant",
    "system": "system",
}
KEYS = {
    "rows": f"conversations drawn from the file, {ROWS} unless given",
    "turns": "messages of the user that are sent, where there are so many; 1 unless given",
    "fresh": f"tokens put before each text so that no prefix cache knows it, {FRESH_TOKENS} unless given",
    "exact": "yes: answers of just the length in the file; no: they may end earlier",
    "class": "service class",
    "tier": "service_tier that is sent",
}
_HELP = 'it should hold [{"conversations": [{"from": "human", "value": "..."}, {"from": "gpt", "value": "..."}]}, ...]'


class Message(msgspec.Struct):
    speaker: str | None = msgspec.field(default=None, name="from")
    value: str | None = None
    role: str | None = None
    content: str | None = None


class Conversation(msgspec.Struct):
    conversations: list[Message] = []
    messages: list[Message] = []


def build_sharegpt(spec: str, options: Options, tokens: Tokens, *, api: Api, context: int | None) -> Listed:
    path = options.path()
    rows = options.integer("rows", ROWS, least=1, most=ROWS_MAX)
    turns = options.integer("turns", 1, least=1, most=TURNS_MAX)
    fresh = options.integer("fresh", FRESH_TOKENS, least=0, most=FRESH_TOKENS_MAX)
    exact = options.flag("exact", True)
    service_class = options.service_class()
    tier = options.tier(service_class)
    options.finish(takes_file=True)
    if turns > 1 and api != "chat":
        raise WorkloadError(f"{options.name}: conversations of several turns need the chat API; turns=1 doesn't")
    found = _read(path)
    Random(0).shuffle(found)
    calls: list[Call] = []
    left_out = 0
    for conversation in found:
        if len(calls) == rows:
            break
        call = _call(conversation, tokens, turns, is_chat=api == "chat")
        if call is None or not fits(call, context, fresh):
            left_out += 1
            continue
        _check_size(path, call)
        calls.append(replace(call, exact_output=exact, service_class=service_class, tier=tier))
    check_any(str(path), calls, left_out, context, _HELP)
    return Listed(
        name=spec,
        tokens=tokens,
        items=tuple(calls),
        fresh=fresh,
        is_shuffled=True,
        notes={"requests_left_out": left_out, "conversations_in_file": len(found), "turns_max": turns},
    )


def _read(path: Path) -> list[Conversation]:
    data = read_file(path)
    if data.lstrip()[:1] != b"[":
        del data
        return [row for _, row in json_rows(path, ROWS_MAX, Conversation, _HELP)]
    try:
        found = msgspec.json.decode(data, type=list[Conversation])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise WorkloadError(f"{path}: {reason(error)}; {_HELP}") from None
    if len(found) > ROWS_MAX:
        raise WorkloadError(f"{path}: {len(found):,} conversations; {ROWS_MAX:,} can be read, cut a part of it")
    return found


def _call(conversation: Conversation, tokens: Tokens, turns: int, *, is_chat: bool) -> Call | None:
    """None: it has no question with an answer."""
    messages = list(_messages(conversation))
    system = [{"role": role, "content": text} for role, text in messages[:1] if role == "system" and is_chat]
    pairs = [
        (text, answer)
        for (role, text), (next_role, answer) in pairwise(messages)
        if role == "user" and next_role == "assistant" and text and answer
    ][:turns]
    if not pairs:
        return None
    sizes = [(tokens.count(text), min(max(1, tokens.count(answer)), TOKENS_MAX)) for text, answer in pairs]
    (question, _), (asked, answered) = pairs[0], sizes[0]
    later = tuple(
        Turn(text=text, tokens=size, max_tokens=most)
        for (text, _), (size, most) in zip(pairs[1:], sizes[1:], strict=True)
    )
    is_plain = not system and not later
    return Call(
        prompt=question if is_plain else "",
        messages=() if is_plain else (*system, {"role": "user", "content": question}),
        prompt_tokens=asked + sum(tokens.count(each["content"]) for each in system),
        max_tokens=answered,
        turns=later,
    )


def _check_size(path: Path, call: Call) -> None:
    """A line of JSONL has a limit when it is read; here all conversations may be one."""
    size = len(msgspec.msgpack.encode(call))
    if size > LINE_BYTES_MAX:
        raise WorkloadError(f"{path}: a conversation of {size:,} bytes; {LINE_BYTES_MAX:,} can be sent")


def _messages(conversation: Conversation) -> Iterator[tuple[str, str]]:
    for message in conversation.conversations or conversation.messages:
        speaker = message.speaker or message.role or ""
        yield SPEAKERS.get(speaker, speaker), message.value or message.content or ""
