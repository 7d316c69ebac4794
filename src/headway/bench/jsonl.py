"""Workloads in JSONL: one request a line, with the fields of ``FIELDS``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from random import Random

import msgspec

from headway.bench.call import Call
from headway.bench.files import json_rows, seconds_of
from headway.bench.lengths import Distribution, draw_tokens, parse_distribution
from headway.bench.listed import FRESH_TOKENS, FRESH_TOKENS_MAX, Listed, check_any, fits
from headway.bench.target import Api
from headway.bench.tokens import Tokens
from headway.bench.workload_interface import TOKENS_MAX, WorkloadError
from headway.bench.workload_options import NO_TIER, Options, tier_of

ROWS_MAX = 100_000
"""More texts than this are not kept."""
FIELDS = {
    "prompt": "text, or a list of token ids (completions only)",
    "messages": "instead, for chat: the messages as the API takes them",
    "output_tokens": "the answer is to have just so many tokens",
    "max_tokens": "the answer may have so many (max_completion_tokens is the same)",
    "prompt_tokens": "of the prompt; counted if it is not there",
    "service_class": "which objective it is held against",
    "service_tier": "sent to the server; that of the class if it is not there",
    "at_s": "when it is sent, in seconds; all lines or none",
    "timestamp": "instead: milliseconds, or a date and time in ISO 8601",
    "extra": "further fields of the body",
}
KEYS = {
    "out": "tokens of an answer where the line doesn't say; a distribution",
    "rows": f"the first so many lines; {ROWS_MAX:,} at most",
    "fresh": f"tokens put before each text so that no prefix cache knows it, {FRESH_TOKENS} unless given",
    "class": "service class of lines that name none",
    "tier": "service_tier of lines that name none, whatever their class; none: the field is not sent",
}
_HELP = 'a line is {"prompt": "...", "max_tokens": 64}, or has messages'


class Row(msgspec.Struct, kw_only=True):
    prompt: str | tuple[int, ...] | None = None
    messages: tuple[dict[str, object], ...] = ()
    output_tokens: int | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    prompt_tokens: int | None = None
    service_class: str | None = None
    service_tier: str | None = None
    at_s: float | None = None
    timestamp: float | str | None = None
    extra: dict[str, object] = {}


def build_jsonl(spec: str, options: Options, tokens: Tokens, *, api: Api, context: int | None) -> Listed:
    path = options.path()
    out = _output(options)
    rows = options.integer("rows", ROWS_MAX, least=1, most=ROWS_MAX)
    fresh = options.integer("fresh", FRESH_TOKENS, least=0, most=FRESH_TOKENS_MAX)
    service_class = options.service_class()
    said = options.word("tier")
    reader = _Reader(path, tokens, api, out, service_class, said)
    options.finish(takes_file=True)
    ignored: dict[str, None] = {}
    calls: list[Call] = []
    left_out = 0
    for number, fields in json_rows(path, rows, dict[str, object], _HELP):
        ignored |= dict.fromkeys(fields.keys() - _KNOWN)
        call = reader.call(number, fields)
        if fits(call, context, fresh):
            calls.append(call)
        else:
            left_out += 1
    check_any(str(path), calls, left_out, context, _HELP)
    notes: dict[str, object] = {"requests_left_out": left_out}
    if ignored:
        notes["fields_ignored"] = sorted(ignored)
    return Listed(name=spec, tokens=tokens, items=tuple(_timed(path, calls)), fresh=fresh, notes=notes)


def _output(options: Options) -> Distribution | None:
    text = options.word("out")
    if text is None:
        return None
    try:
        return parse_distribution(text, least=1, most=TOKENS_MAX)
    except ValueError as error:
        raise WorkloadError(f"{options.name}: out: {error}") from None


def _timed(path: Path, calls: list[Call]) -> list[Call]:
    """In order of time from the first on, if they have times."""
    times = [call.at_s for call in calls if call.at_s is not None]
    if not times:
        return calls
    if len(times) < len(calls):
        raise WorkloadError(
            f"{path}: {len(times)} of {len(calls)} lines have a time; give one to all of them or to none"
        )
    start_s = min(times)
    return [
        replace(call, at_s=(call.at_s or 0.0) - start_s) for call in sorted(calls, key=lambda call: call.at_s or 0.0)
    ]


class _Reader:
    """Turns lines into calls."""

    def __init__(
        self, path: Path, tokens: Tokens, api: Api, out: Distribution | None, service_class: str, tier: str | None
    ) -> None:
        self._path = path
        self._tokens = tokens
        self._api = api
        self._out = out
        self._class = service_class
        self._said_tier = tier

    def call(self, number: int, fields: Mapping[str, object]) -> Call:
        where = f"{self._path}, line {number}"
        try:
            row = msgspec.convert({key: value for key, value in fields.items() if key in _KNOWN}, Row)
        except msgspec.ValidationError as error:
            raise WorkloadError(f"{where}: {error}; {_HELP}") from None
        self._check(where, row)
        output, exact = self._length(where, number, row)
        service_class = self._class if row.service_class is None else row.service_class
        return Call(
            prompt=row.prompt or "",
            messages=row.messages,
            prompt_tokens=self._count(row),
            max_tokens=output,
            exact_output=exact,
            at_s=_time_s(where, row),
            service_class=service_class,
            tier=self._tier(row, service_class),
            extra=row.extra,
        )

    def _tier(self, row: Row, service_class: str) -> str | None:
        if row.service_tier is not None:
            return row.service_tier
        if self._said_tier is None:
            return tier_of(service_class)
        return None if self._said_tier == NO_TIER else self._said_tier

    def _check(self, where: str, row: Row) -> None:
        if bool(row.prompt) == bool(row.messages):
            raise WorkloadError(f"{where}: it must have a prompt or messages; {_HELP}")
        if row.messages and self._api != "chat":
            raise WorkloadError(f"{where}: messages need the chat API; a prompt works with completions too")
        if isinstance(row.prompt, tuple) and self._api == "chat":
            raise WorkloadError(f"{where}: a prompt of token ids needs the completions API; chat takes a text")
        if any("role" not in message for message in row.messages):
            raise WorkloadError(f"{where}: every message needs a role")
        for length in (row.output_tokens, row.max_tokens, row.max_completion_tokens, row.prompt_tokens):
            if length is not None and not 1 <= length <= TOKENS_MAX:
                raise WorkloadError(f"{where}: a length must be 1 to {TOKENS_MAX:,} tokens, not {length:,}")

    def _length(self, where: str, number: int, row: Row) -> tuple[int, bool]:
        """Tokens of the answer, and whether it is to have just so many."""
        if row.output_tokens is not None:
            return row.output_tokens, True
        most = row.max_completion_tokens if row.max_tokens is None else row.max_tokens
        if most is not None:
            return most, False
        if self._out is None:
            raise WorkloadError(f"{where}: no max_tokens and no output_tokens; add one, or say out=128 for such lines")
        return draw_tokens(self._out, Random(number)), True

    def _count(self, row: Row) -> int:
        if row.prompt_tokens is not None:
            return row.prompt_tokens
        if isinstance(row.prompt, tuple):
            return len(row.prompt)
        texts = [row.prompt] if row.prompt else [text for message in row.messages for text in _texts(message)]
        return sum(self._tokens.count(text) for text in texts)


def _texts(message: Mapping[str, object]) -> list[str]:
    content = message.get("content")
    if isinstance(content, list):
        return [part["text"] for part in content if isinstance(part, dict) and isinstance(part.get("text"), str)]
    return [content] if isinstance(content, str) else []


def _time_s(where: str, row: Row) -> float | None:
    if row.at_s is not None or row.timestamp is None:
        return row.at_s
    if isinstance(row.timestamp, float):
        return row.timestamp / 1000
    try:
        return seconds_of(row.timestamp)
    except ValueError:
        raise WorkloadError(
            f"{where}: timestamp must be milliseconds or ISO 8601, not {row.timestamp[:40]!r}"
        ) from None


_KNOWN = frozenset(Row.__struct_fields__)
