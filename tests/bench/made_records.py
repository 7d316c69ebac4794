"""Records as a load generator would leave them, for tests of what is made of them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

from headway.bench.record import Outcome, Record


def reply(
    at_s: float,
    first_s: float = 0.1,
    gaps_s: Sequence[float] = (),
    *,
    chunk_tokens: Sequence[int] | None = None,
    is_counted: bool = True,
    service_class: str = "",
    index: int = 0,
    usage: int | None = None,
    max_tokens: int = 0,
    prompt_tokens: int = 10,
) -> Record:
    """A whole reply to a request intended at ``at_s``: its first chunk after ``first_s``, then one after each gap."""
    chunk_s = list(accumulate([at_s + first_s, *gaps_s]))
    tokens = list(chunk_tokens) if chunk_tokens is not None else [1] * len(chunk_s)
    return Record(
        index=index,
        service_class=service_class,
        intended_s=at_s,
        sent_s=at_s,
        ended_s=chunk_s[-1],
        chunk_s=chunk_s,
        chunk_tokens=tokens,
        is_counted=is_counted,
        visible_s=chunk_s[0],
        prompt_tokens=prompt_tokens,
        max_tokens=max_tokens or sum(tokens),
        usage_completion=usage,
        status=200,
    )


def failure(
    at_s: float, outcome: Outcome, *, after_s: float = 0.01, chunk_s: Sequence[float] = (), service_class: str = ""
) -> Record:
    """A request that came to nothing ``after_s`` later, with the chunks it had until then (absolute times)."""
    return Record(
        index=0,
        service_class=service_class,
        intended_s=at_s,
        sent_s=None if outcome is Outcome.CONNECT else at_s,
        ended_s=at_s + after_s,
        chunk_s=list(chunk_s),
        chunk_tokens=[1] * len(chunk_s),
        is_counted=False,
        outcome=outcome,
        error="no",
    )
