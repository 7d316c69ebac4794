"""Special tokens come from the chat template alone: what a client writes is text, whatever it looks like.

The tokenizer is told to read the text of special tokens as plain text. A chat then takes four steps:

1. ``cut``: what clients wrote is cut, by a seam, inside every occurrence of a special token's text;
2. the template renders it, together with the special tokens of its own, which have no seam;
3. ``mark``: those become markers, which the tokenizer knows as tokens, and the seams vanish;
4. ``resolve``: the markers' ids become those of the special tokens they stand for.

Seams and markers can't be guessed, so no client can write one. They are private-use characters, so that no special
token's text is found inside one by chance.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Collection, Iterator, Sequence
from itertools import pairwise

from tokenizers import AddedToken, Tokenizer

from headway.models.errors import ModelError

PRIVATE_USE = 0xE000
SLICE_CHARACTERS = 64 * 1024
"""How much text is searched at once: other threads get their turn in between."""


class SpecialTokens:
    """Takes the tokenizer over: from now on it must be used through ``cut``, ``mark`` and ``resolve``."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        """Raises ``ModelError`` for a special token of one character, which nothing can be cut inside of."""
        found = {index: token for index, token in tokenizer.get_added_tokens_decoder().items() if token.special}
        if short := [token.content for token in found.values() if len(token.content) < 2]:
            raise ModelError(f"tokenizer.json: the special token {short[0]!r} can't be told from text")
        nonce = "".join(chr(PRIVATE_USE + byte) for byte in secrets.token_bytes(12))
        self._seam = f"{nonce}\uf8ff"
        self._markers = {token.content: f"{nonce}{order}+" for order, token in enumerate(found.values())}
        first_marker = tokenizer.get_vocab_size()
        self._ids = dict(enumerate(found, first_marker))
        self._longest = max(map(len, self._markers), default=0)
        self._cuts = re.compile(_any_of(self._markers, behind_first="(?=", end=")"))
        self._whole = re.compile(_any_of(self._markers))
        tokenizer.encode_special_tokens = True
        for token in found.values():
            tokenizer.add_tokens(
                [
                    AddedToken(
                        self._markers[token.content],
                        single_word=token.single_word,
                        lstrip=token.lstrip,
                        rstrip=token.rstrip,
                        normalized=False,
                        special=False,
                    )
                ]
            )
        assert tokenizer.get_vocab_size() == first_marker + len(found)

    def cut(self, text: str) -> str:
        """What a client wrote, with a seam behind the first character of every special token's text in it."""
        cuts = [0, *(match.end() for match in self._search(self._cuts, text)), len(text)]
        return self._seam.join(text[start:end] for start, end in pairwise(cuts))

    def mark(self, rendered: str) -> str:
        """A rendered chat for the tokenizer: special tokens as markers, and no seams."""
        pieces = []
        start = 0
        for match in self._search(self._whole, rendered):
            pieces += [rendered[start : match.start()], self._markers[match[0]]]
            start = match.end()
        return "".join([*pieces, rendered[start:]]).replace(self._seam, "")

    def resolve(self, ids: Sequence[int]) -> list[int]:
        """The tokenizer's ids, with special tokens in place of their markers."""
        return [self._ids.get(each, each) for each in ids]

    def _search(self, pattern: re.Pattern[str], text: str) -> Iterator[re.Match[str]]:
        """All matches in order, none within another."""
        position = 0
        while position < len(text):
            end = position + SLICE_CHARACTERS
            for match in pattern.finditer(text, position, end + self._longest):
                if match.start() >= end:
                    break
                yield match
                position = match.end()
            position = max(position, end)


def _any_of(words: Collection[str], behind_first: str = "", end: str = "") -> str:
    """A regular expression for the longest of the words. They share prefixes, so its time doesn't grow with them.

    ``behind_first`` and ``end`` go around what comes behind the first character.
    """
    tails: dict[str, list[str]] = {}
    for word in words:
        if word:
            tails.setdefault(word[0], []).append(word[1:])
    branches = [f"{re.escape(first)}{behind_first}{_any_of(rest)}{end}" for first, rest in tails.items()]
    if not branches:
        return "" if words else "(?!)"
    group = branches[0] if len(branches) == 1 and "" not in words else f"(?:{'|'.join(branches)})"
    return f"{group}?" if "" in words else group
