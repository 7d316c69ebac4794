"""Bodies and events of completions, byte by byte: what the OpenAI API returns for a chat or a text completion.

The hot path is one chunk for one token, so everything that stays the same in a stream is encoded once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec

DONE = b"data: [DONE]\n\n"
PING = b": ping\n\n"

encode = msgspec.json.encode


@dataclass(slots=True)
class Usage:
    """Token counts of a whole reply."""

    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0

    def as_dict(self) -> dict[str, Any]:
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
            "prompt_tokens_details": {"cached_tokens": self.cached_tokens},
            "completion_tokens_details": {"reasoning_tokens": 0},
        }


@dataclass(frozen=True, slots=True)
class Candidate:
    """A token that was or could have been drawn, as text and as bytes."""

    token: int
    text: str
    raw: bytes
    logprob: float

    @property
    def label(self) -> str:
        """A name that tells it from others: a part of a character, and a special token, have no text of their own."""
        if not self.raw:
            return f"token_id:{self.token}"
        if self.text.encode() != self.raw:
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in self.raw)
        return self.text


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """One output token, the likeliest ones in its place, and how many characters of text there were before it."""

    drawn: Candidate
    top: tuple[Candidate, ...] = ()
    offset: int = 0


@dataclass(frozen=True, slots=True)
class ChoiceText:
    """One finished choice. ``logprobs``: what the reply's own format has made of them (``kept``)."""

    index: int
    text: str
    finish_reason: str
    logprobs: list[Any] | None = None


@dataclass(slots=True)
class _Format:
    """What the two kinds of completion share.

    ``service_tier`` is what the request is served in; None: it isn't named. ``usage_in_chunks``: every chunk has a
    ``usage`` key.
    """

    reply_id: str
    created: int
    model: str
    service_tier: str | None = None
    usage_in_chunks: bool = False
    _head: bytes = field(init=False)
    _tail: bytes = field(init=False)

    def __post_init__(self) -> None:
        self.name_tier(self.service_tier)

    def name_tier(self, tier: str | None) -> None:
        """For all that is made from now on."""
        self.service_tier = tier
        fields = {"id": self.reply_id, "object": self.chunk_object, "created": self.created, "model": self.model}
        if self.service_tier is not None:
            fields["service_tier"] = self.service_tier
        self._head = b"data: " + encode(fields)[:-1] + b',"choices":['
        self._tail = b'],"usage":null}\n\n' if self.usage_in_chunks else b"]}\n\n"

    @property
    def chunk_object(self) -> str:
        raise NotImplementedError

    def _event(self, choice: bytes, usage: Usage | None) -> bytes:
        if usage is None:
            return self._head + choice + self._tail
        return b'%b%b],"usage":%b}\n\n' % (self._head, choice, encode(usage.as_dict()))

    def usage_event(self, usage: Usage) -> bytes:
        """The event that ends a stream with its token counts."""
        return self._event(b"", usage)

    def _whole(self, object_name: str, choices: list[dict[str, Any]], usage: Usage) -> bytes:
        fields: dict[str, Any] = {"id": self.reply_id, "object": object_name, "created": self.created}
        fields |= {"model": self.model, "choices": choices, "usage": usage.as_dict()}
        if self.service_tier is not None:
            fields["service_tier"] = self.service_tier
        return encode(fields)


class ChatFormat(_Format):
    """``chat.completion`` and its chunks."""

    @property
    def chunk_object(self) -> str:
        return "chat.completion.chunk"

    def first(self, index: int) -> bytes:
        """The event that opens a choice: it names the role."""
        delta = b'{"index":%d,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}'
        return self._event(delta % index, None)

    def text(self, index: int, text: str, logprobs: list[TokenLogprob] | None, usage: Usage | None) -> bytes:
        shown = b"null" if logprobs is None else encode(_chat_logprobs(logprobs))
        choice = b'{"index":%d,"delta":{"content":%b},"logprobs":%b,"finish_reason":null}'
        return self._event(choice % (index, encode(text), shown), usage)

    def last(self, index: int, finish_reason: str) -> bytes:
        choice = b'{"index":%d,"delta":{},"logprobs":null,"finish_reason":"%b"}'
        return self._event(choice % (index, finish_reason.encode()), None)

    def kept(self, logprobs: list[TokenLogprob]) -> list[Any]:
        """Log-probabilities as they are kept for the whole: encoded, or a long reply's end would hold up all others."""
        return [msgspec.Raw(encode(_chat_logprob(each))) for each in logprobs]

    def whole(self, choices: list[ChoiceText], usage: Usage) -> bytes:
        return self._whole("chat.completion", [_chat_choice(each) for each in choices], usage)


class CompletionFormat(_Format):
    """``text_completion``, whole and in chunks."""

    @property
    def chunk_object(self) -> str:
        return "text_completion"

    def first(self, index: int) -> bytes:
        return b""

    def text(self, index: int, text: str, logprobs: list[TokenLogprob] | None, usage: Usage | None) -> bytes:
        shown = b"null" if logprobs is None else encode(_completion_logprobs(logprobs))
        choice = b'{"index":%d,"text":%b,"logprobs":%b,"finish_reason":null}'
        return self._event(choice % (index, encode(text), shown), usage)

    def last(self, index: int, finish_reason: str) -> bytes:
        choice = b'{"index":%d,"text":"","logprobs":null,"finish_reason":"%b"}'
        return self._event(choice % (index, finish_reason.encode()), None)

    def kept(self, logprobs: list[TokenLogprob]) -> list[Any]:
        return logprobs

    def whole(self, choices: list[ChoiceText], usage: Usage) -> bytes:
        return self._whole("text_completion", [_completion_choice(each) for each in choices], usage)


Format = ChatFormat | CompletionFormat


def _chat_choice(choice: ChoiceText) -> dict[str, Any]:
    return {
        "index": choice.index,
        "message": {"role": "assistant", "content": choice.text, "refusal": None},
        "logprobs": None if choice.logprobs is None else {"content": choice.logprobs, "refusal": None},
        "finish_reason": choice.finish_reason,
    }


def _completion_choice(choice: ChoiceText) -> dict[str, Any]:
    return {
        "index": choice.index,
        "text": choice.text,
        "logprobs": None if choice.logprobs is None else _completion_logprobs(choice.logprobs),
        "finish_reason": choice.finish_reason,
    }


def _chat_logprobs(tokens: list[TokenLogprob]) -> dict[str, Any]:
    return {"content": [_chat_logprob(each) for each in tokens], "refusal": None}


def _chat_logprob(token: TokenLogprob) -> dict[str, Any]:
    return {**_chat_token(token.drawn), "top_logprobs": [_chat_token(each) for each in token.top]}


def _chat_token(candidate: Candidate) -> dict[str, Any]:
    return {"token": candidate.text, "logprob": candidate.logprob, "bytes": list(candidate.raw)}


def _completion_logprobs(tokens: list[TokenLogprob]) -> dict[str, Any]:
    return {
        "tokens": [each.drawn.label for each in tokens],
        "token_logprobs": [each.drawn.logprob for each in tokens],
        "top_logprobs": [{candidate.label: candidate.logprob for candidate in each.top} for each in tokens],
        "text_offset": [each.offset for each in tokens],
    }
