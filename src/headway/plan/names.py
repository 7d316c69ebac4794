"""Names as people write them: any case, any punctuation."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def squeezed(name: str) -> str:
    """Letters and digits alone, in lower case: what two spellings of one name share."""
    return "".join(letter for letter in name.lower() if letter.isalnum())


def near(name: str, known: Iterable[str], most: int = 4) -> list[str]:
    """Known names that look like this one, best first: those that contain it, then those spelt much like it."""
    wanted, names = squeezed(name), sorted(known)
    if not wanted:
        return []
    holding = [each for each in names if wanted in squeezed(each) or squeezed(each) in wanted]
    spelt = difflib.get_close_matches(wanted, [squeezed(each) for each in names], n=most, cutoff=0.6)
    alike = [each for match in spelt for each in names if squeezed(each) == match]
    return list(dict.fromkeys(holding + alike))[:most]
