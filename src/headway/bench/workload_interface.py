"""What a workload is to those that run it, and its limits."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Protocol

from headway.bench.call import Call

TOKENS_MAX = 1_000_000
"""Of a prompt, of an answer, of both together."""
SCALE_MIN, SCALE_MAX = 0.001, 1000.0
TEMPLATE_TOKENS = 64
"""Kept free in the server's context for what a chat template adds to a prompt."""


class WorkloadError(ValueError):
    """A workload that can't be meant, or can't be read. One line, and what would work."""


class Workload(Protocol):
    @property
    def name(self) -> str:
        """As it was written."""
        ...

    @property
    def rate(self) -> float | None:
        """Calls a second on average, by their ``at_s``; None: they have none, and the load decides."""
        ...

    @property
    def shares_prefixes(self) -> bool:
        """Prompts begin alike on purpose, or may: what a server finds in its prefix cache is then no mistake."""
        ...

    def describe(self) -> dict[str, object]:
        """For the report: what is drawn or read, and how its tokens are counted. Plain values."""
        ...

    def calls(self, seed: int, *, first: int = 0, step: int = 1) -> Iterator[Call]:
        """Endless, the same for the same seed. No text of one seed begins as one of another, so that no load level
        finds the last one's prompts in a prefix cache. ``first`` and ``step`` pick a share for one of several
        processes; what a call is depends on its number alone."""
        ...


def most_tokens(context: int | None) -> int:
    """Of prompt, answer and template together."""
    return TOKENS_MAX if context is None else min(context, TOKENS_MAX)


def check_context(name: str, longest: float, scale: float, context: int | None) -> None:
    """Raises ``WorkloadError`` if prompt and answer of ``longest`` tokens together, got with ``scale``, don't fit the
    server's context."""
    most = most_tokens(context)
    if longest + TEMPLATE_TOKENS <= most:
        return
    fitting = math.floor(1000 * scale * (most - TEMPLATE_TOKENS) / longest) / 1000
    help = f"scale={fitting:g} fits" if fitting >= SCALE_MIN else "that is too small for it at any scale"
    taken = f"the server takes {most:,}" if context == most else f"{most:,} can be asked for"
    raise WorkloadError(
        f"{name} can need {longest:,.0f} tokens and {TEMPLATE_TOKENS} for the template; {taken}: {help}"
    )
