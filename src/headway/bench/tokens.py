"""Texts of a given number of tokens, made of words that are one token each.

A word that is one token with a space before it stays one when words are put together, in nearly every tokenizer; the
first of a text must be one without the space too, since chat templates strip it. Which words are so is found out by
asking the tokenizer, and so is whether their number adds up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Protocol

Encode = Callable[[str], Sequence[int]]
"""Token ids of a text, without the special ones that a tokenizer adds at its ends."""

WORDS_MIN = 32
"""With fewer, prompts would start with the same ones."""
WORDS_MAX = 4096
CHUNK_WORDS = 128
"""Tried in one go: about 300 tokens, which any server takes."""
CORRECTIONS_MAX = 16
_PROOFS, _PROOF_WORDS = 8, 256


class TokensError(ValueError):
    """Tokens can't be counted so. One line, and what would work."""


class Tokens(Protocol):
    @property
    def source(self) -> str:
        """Whose tokens they are, for people."""
        ...

    def count(self, text: str) -> int:
        """Without special tokens and template."""
        ...

    def text(self, n: int, rng: Random) -> str:
        """Text of ``n`` tokens that starts differently for each draw. Texts joined by a space have as many tokens as
        they had. From one state of ``rng`` a shorter text is the beginning of a longer one. Empty for 0."""
        ...


@dataclass(frozen=True, slots=True)
class Words:
    """``inside``: one token each after a space. ``first``: those that are so at the start of a line too."""

    inside: tuple[str, ...]
    first: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class WordTokens:
    """``is_exact``: as many tokens as words, always. Else each text is counted, and corrected, if ``corrects``."""

    source: str
    encode: Encode
    words: Words
    is_exact: bool
    corrects: bool = True

    def count(self, text: str) -> int:
        return len(self.encode(text))

    def text(self, n: int, rng: Random) -> str:
        if n <= 0:
            return ""
        words = [rng.choice(self.words.first), *rng.choices(self.words.inside, k=n - 1)]
        if self.is_exact or not self.corrects:
            return " ".join(words)
        return self._corrected(words, n, rng)

    def _corrected(self, words: list[str], n: int, rng: Random) -> str:
        text = " ".join(words)
        for _ in range(CORRECTIONS_MAX):
            surplus = self.count(text) - n
            if surplus == 0:
                break
            words = words[:-surplus] if surplus > 0 else words + rng.choices(self.words.inside, k=-surplus)
            text = " ".join(words)
        return text


def word_tokens(encode: Encode, candidates: Sequence[str], *, source: str, corrects: bool) -> WordTokens:
    """Tokens made of those candidates that are one token each. Raises ``TokensError`` if they are too few."""
    candidates = list(dict.fromkeys(candidates))
    inside = _inside(encode, candidates)[:WORDS_MAX]
    if len(inside) < WORDS_MIN:
        raise TokensError(f"{source}: only {len(inside)} English words are one token each; {WORDS_MIN} are needed")
    first = _singles(encode, inside, "\n", "")
    words = Words(tuple(inside), tuple(first if len(first) >= WORDS_MIN else inside))
    made = WordTokens(source, encode, words, is_exact=True)
    rng = Random(0)
    is_exact = all(made.count(made.text(_PROOF_WORDS, rng)) == _PROOF_WORDS for _ in range(_PROOFS))
    if not is_exact and not corrects:
        source += ", whose words don't add up: prompts may be some tokens off"
    return WordTokens(source, encode, words, is_exact, corrects)


def _inside(encode: Encode, candidates: list[str]) -> list[str]:
    """Those that are one token after a space, found with one of them as the mark between all others."""
    for mark in sorted(candidates, key=len, reverse=True)[:CHUNK_WORDS]:  # others seldom begin with a long word
        if _mark_id(encode, f" {mark}", " ") is not None:
            return [mark, *_singles(encode, [word for word in candidates if word != mark], f" {mark}", " ")]
    return []


def _mark_id(encode: Encode, mark: str, before: str) -> int | None:
    """The id of ``mark`` if it is one token that stays itself between words; None: it is not."""
    ids = list(encode(f"a{mark}{before}a{mark}{before}a{mark}"))
    return ids[-1] if len(ids) == 6 and ids.count(ids[-1]) == 3 else None


def _singles(encode: Encode, words: Sequence[str], mark: str, before: str) -> list[str]:
    """Which of the words, each with ``before`` in front of it and ``mark`` around it, are one token."""
    mark_id = _mark_id(encode, mark, before)
    if mark_id is None:
        return []
    found: list[str] = []
    chunks = [words[at : at + CHUNK_WORDS] for at in range(0, len(words), CHUNK_WORDS)]
    while chunks:
        chunk = chunks.pop(0)
        pieces = list(_split(encode("a" + "".join(f"{mark}{before}{word}" for word in chunk) + mark), mark_id))[1:-1]
        if len(pieces) == len(chunk):
            found += [word for word, piece in zip(chunk, pieces, strict=True) if len(piece) == 1]
        elif len(chunk) > 1:  # a word that swallows the mark: tell it apart from the others
            chunks[:0] = [chunk[: len(chunk) // 2], chunk[len(chunk) // 2 :]]
    return found


def _split(ids: Sequence[int], mark_id: int) -> Iterator[list[int]]:
    piece: list[int] = []
    for each in ids:
        if each == mark_id:
            yield piece
            piece = []
        else:
            piece.append(each)
    yield piece
