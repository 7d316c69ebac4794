"""Names as people write them: any case, any punctuation."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable


def squeezed(name: str) -> str:
    """Letters and digits alone, in lower case: what two spellings of one name share."""
    return "".join(letter for letter in name.lower() if letter.isalnum())


def near(name: str, known: Iterable[str], most: int = 4) -> list[str]:
    """Known names that look like this one, the likelier first: that begin with its first word, hold it or lie in it,
    or are spelt much like it."""
    wanted, names = squeezed(name), sorted(known)
    words = re.findall(r"[a-z0-9.]+", name.lower())
    if not words:
        return []
    begun = [each for each in names if squeezed(each).startswith(squeezed(words[0]))]
    holding = [each for each in names if wanted in squeezed(each) or squeezed(each) in wanted]
    spelt = difflib.get_close_matches(wanted, [squeezed(each) for each in names], n=most, cutoff=0.6)
    alike = sorted((each for each in names if squeezed(each) in spelt), key=lambda each: spelt.index(squeezed(each)))
    if len(begun) > most:
        begun = [each for each in alike if each in begun] + [each for each in begun if each not in alike]
    return list(dict.fromkeys(begun + holding + alike))[:most]
