"""The template language of the small world, and the untidy way in which people type."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from typing import TypeVar

Item = TypeVar("Item")

_CHOICE = re.compile(r"\[([^\[\]]*)\]")
_SLOT = re.compile(r"\{(\w+)\}")
_ARTICLE = re.compile(r"\b([Aa])\(n\) (?=(\w))")
_SPACES = re.compile(r" {2,}")
_SPACE_BEFORE_MARK = re.compile(r" ([,.!?])")
_TWO_MARKS = re.compile(r"([?!])[,.]")
_SENTENCE_START = re.compile(r"(^|[.!?]\s+)([\"']?)([a-z])")


class Voice:
    """Expands templates, with every choice drawn from one seeded generator.

    ``[a|b]`` is a choice and may nest, ``{slot}`` is a value, and ``a(n)`` becomes the article that fits the next word.
    """

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng

    def pick(self, options: Sequence[Item]) -> Item:
        """One of the options, each equally likely."""
        return options[self.rng.randrange(len(options))]

    def chance(self, probability: float) -> bool:
        """True with the given probability."""
        return self.rng.random() < probability

    def expand(self, template: str, **slots: str) -> str:
        """The template with its choices made and its slots filled, otherwise as written."""
        while match := _CHOICE.search(template):
            template = template[: match.start()] + self.pick(match.group(1).split("|")) + template[match.end() :]
        text = _SLOT.sub(lambda match: slots[match.group(1)], template)
        text = _ARTICLE.sub(lambda m: f"{m.group(1)}n " if m.group(2).lower() in "aeiou" else f"{m.group(1)} ", text)
        return _SPACES.sub(" ", text).strip()

    def say(self, template: str, **slots: str) -> str:
        """The template expanded and tidied: marks after words, capitals at the start of sentences."""
        text = _SPACE_BEFORE_MARK.sub(r"\1", self.expand(template, **slots))
        text = _TWO_MARKS.sub(r"\1", text)
        return _SENTENCE_START.sub(lambda m: m.group(1) + m.group(2) + m.group(3).upper(), text)

    def line(self, options: Sequence[str], **slots: str) -> str:
        """One of several templates, expanded and tidied."""
        return self.say(self.pick(options), **slots)

    def type(self, text: str, *, typos: bool, verbatim: bool = False) -> str:
        """A user's message as people type it: capitals and marks come and go, and now and then a letter slips.

        With ``verbatim`` the words keep their capitals, but for the first.
        """
        if typos and self.chance(0.05):
            text = self._slip(text)
        style = self.rng.random()
        if style < 0.45:
            text = text[:1].upper() + text[1:]
            text = re.sub(r"\bi\b", "I", text)
        elif style < 0.75 and not verbatim:
            text = text.lower()
        elif style > 0.98 and not verbatim:
            text = text.upper()
        if text[-1:].isalnum():
            question = re.match(r"(?:what|who|how|why|when|where|which|is|are|do|does|can|could|did)\b", text.lower())
            mark = "?" if question else "."
            text += self.pick((mark, mark, mark, "", "", "!" if mark == "." else "?"))
        return text

    def _slip(self, text: str) -> str:
        """The text with one letter dropped, doubled or swapped with the next one."""
        if len(text) < 8:
            return text
        at = self.rng.randrange(1, len(text) - 2)
        if not (text[at].isalpha() and text[at + 1].isalpha()):
            return text
        return self.pick(
            (
                text[:at] + text[at + 1 :],
                text[:at] + text[at] + text[at:],
                text[:at] + text[at + 1] + text[at] + text[at + 2 :],
            )
        )
