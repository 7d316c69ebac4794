"""From tokens to text, one token at a time: whole characters only, and nothing of a stop string.

A stream must show exactly what the finished text would be. Two things hold text back: a character whose bytes are not
all here yet, and an ending that may still become a stop string.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from tokenizers import Tokenizer

from headway.models.errors import ModelError


@dataclass(frozen=True, slots=True)
class Piece:
    """Text that is safe to show now; ``stop`` is the stop string that was met, and then this is the end."""

    text: str
    stop: str | None = None


class Detokenizer:
    """The text of one answer, which ends before the stop string that is complete first (of those, the longest).

    ``vocabulary[token]`` are the bytes that a token stands for. With ``trim`` a space at the very start is dropped, as
    tokenizers do that put one before every word. Stop strings are looked for in the text behind the first
    ``min_tokens`` tokens.
    """

    def __init__(
        self, vocabulary: Sequence[bytes], stops: tuple[str, ...] = (), *, trim: bool = False, min_tokens: int = 0
    ) -> None:
        self._vocabulary = vocabulary
        self._stops = tuple(stop for stop in stops if stop)
        self._trim = trim
        self._unstoppable = min_tokens
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""

    def push(self, token: int) -> Piece:
        """Take the next token. Not to be called again after a piece with a stop."""
        piece = self._show(self._decoder.decode(self._vocabulary[token]))
        self._unstoppable -= 1
        return piece

    def flush(self) -> str:
        """The answer has ended: what was still held back, an unfinished character as U+FFFD."""
        piece = self._show(self._decoder.decode(b"", final=True))
        held, self._held = self._held, ""
        return piece.text if piece.stop else piece.text + held

    def _show(self, text: str) -> Piece:
        if self._trim and text:
            self._trim = False
            text = text.removeprefix(" ")
        if not self._stops or self._unstoppable > 0:
            return Piece(text)
        text = self._held + text
        ends = [(start + len(stop), start, stop) for stop in self._stops if (start := text.find(stop)) >= 0]
        if ends:
            _, start, stop = min(ends)
            self._held = ""
            return Piece(text[:start], stop)
        safe = min(_possible_start(text, stop) for stop in self._stops)
        self._held = text[safe:]
        return Piece(text[:safe])


def _possible_start(text: str, stop: str) -> int:
    """Where the longest ending of ``text`` that begins ``stop`` starts; the end of the text if there is none."""
    start = text.find(stop[0], max(0, len(text) - len(stop) + 1))
    while start >= 0:
        if stop.startswith(text[start:]):
            return start
        start = text.find(stop[0], start + 1)
    return len(text)


class Spelling(Enum):
    """How a vocabulary writes what its tokens stand for."""

    BYTES = "bytes"
    """One character for each byte: printable ones for themselves, stand-ins for the others (as in GPT-2)."""
    TEXT = "text"
    """Text with ``▁`` for a space, and ``<0x0A>`` for a byte (as in SentencePiece)."""


def spelling_of(tokenizer: Tokenizer) -> Spelling:
    """Read from the tokenizer's decoder. Raises ``ModelError`` for one whose tokens can't be spelt one by one."""
    # The decoder's own state is its JSON; that of the whole tokenizer would hold the vocabulary too.
    described: dict[str, Any] = {} if tokenizer.decoder is None else json.loads(tokenizer.decoder.__getstate__())
    kinds = {step.get("type") for step in described.get("decoders", [described])}
    if kinds == {"ByteLevel"}:
        return Spelling.BYTES
    if kinds and kinds <= {"Metaspace", "Replace", "ByteFallback", "Fuse", "Strip"}:
        return Spelling.TEXT
    raise ModelError(f"tokenizer.json: the decoder {described.get('type')!r} is not supported")


def token_bytes(tokenizer: Tokenizer, spelling: Spelling, size: int) -> list[bytes]:
    """What each token id below ``size`` stands for in text: nothing, for special tokens and ids without a token."""
    spell = _spell_bytes if spelling is Spelling.BYTES else _spell_text
    vocabulary = [b""] * size
    for token, index in tokenizer.get_vocab(with_added_tokens=False).items():
        vocabulary[index] = spell(token)
    for index, entry in tokenizer.get_added_tokens_decoder().items():
        vocabulary[index] = b"" if entry.special else entry.content.encode()
    return vocabulary


def _bytes_of_stand_ins() -> dict[int, int]:
    """From the code of a character to that of the byte it stands for; what stands for no byte becomes U+FFFF."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    hidden = [byte for byte in range(256) if byte not in printable]
    return dict.fromkeys(hidden, 0xFFFF) | {0x100 + order: byte for order, byte in enumerate(hidden)}


_BYTES_OF_STAND_INS = _bytes_of_stand_ins()


def _spell_bytes(token: str) -> bytes:
    try:
        return token.translate(_BYTES_OF_STAND_INS).encode("latin-1")
    except UnicodeEncodeError:  # not written in stand-ins after all
        return token.encode()


def _spell_text(token: str) -> bytes:
    if len(token) == 6 and token.startswith("<0x") and token.endswith(">"):
        try:
            return bytes([int(token[3:5], 16)])
        except ValueError:
            pass
    return token.replace("▁", " ").encode()
