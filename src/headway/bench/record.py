"""What became of one request: the one form that everything after the load generator works on, and that is kept.

All times are seconds from the start of the run, so that records of several processes and of a file fit together.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from operator import sub

import msgspec


class Outcome(StrEnum):
    """Only ``OK`` is no miss."""

    OK = "ok"
    REFUSED = "refused"
    """The server chose not to serve it: 429, 503 with a time to come back, or never within its promise."""
    TIMEOUT = "timeout"
    CONNECT = "connect"
    """No connection."""
    CLIENT = "client"
    """No connection, because this machine had no socket left for one: no fault of the server's."""
    BROKEN = "broken"
    """The reply began, or was waited for, and the connection ended."""
    MALFORMED = "malformed"
    """Not HTTP, not events, not JSON, or a whole reply without a token in it."""
    ERROR = "error"
    """An error of the server's: another status than 200, or an error event in the stream."""
    CUT = "cut"
    """The run ended first; counted with nothing but itself."""


class Record(msgspec.Struct, kw_only=True):
    """``intended_s``: when it was to be sent; ``sent_s``: when it was, on an open connection, which took
    ``connect_s`` to open (0: it was open).

    ``chunk_s``: when the socket was read for each event that carried tokens, and ``chunk_tokens`` how many it carried
    (see ``is_counted``). ``visible_s``: of the first token that is no reasoning. ``ended_s``: when the reply was whole,
    or was known not to become so. ``prompt_tokens`` and ``max_tokens`` are what was asked for; ``usage_*`` what the
    server says it was. ``queue_s``: how long the server says it waited. ``error``: one line.
    """

    index: int
    service_class: str = ""
    intended_s: float
    sent_s: float | None = None
    connect_s: float = 0.0
    ended_s: float
    chunk_s: list[float] = []
    chunk_tokens: list[int] = []
    is_counted: bool = True
    """The tokens of each chunk are known: from usage in the stream, or because there are as many chunks as tokens. Else
    every chunk counts as one, and gaps between chunks are all that can be told."""
    visible_s: float | None = None
    prompt_tokens: int = 0
    max_tokens: int = 0
    usage_prompt: int | None = None
    usage_completion: int | None = None
    usage_cached: int | None = None
    queue_s: float | None = None
    outcome: Outcome = Outcome.OK
    status: int | None = None
    code: str | None = None
    error: str | None = None
    asked_tier: str | None = None
    service_tier: str | None = None
    """That the reply names; ``asked_tier`` is what the request did."""
    finish_reason: str | None = None
    conversation: int | None = None
    turn: int = 0
    process: int = 0

    @property
    def is_ok(self) -> bool:
        return self.outcome is Outcome.OK

    @property
    def tokens(self) -> int:
        """Output tokens: what the server says, else what was counted."""
        return sum(self.chunk_tokens) if self.usage_completion is None else self.usage_completion

    @property
    def ttft_s(self) -> float | None:
        """From ``intended_s`` to the first token."""
        return self.chunk_s[0] - self.intended_s if self.chunk_s else None

    @property
    def e2e_s(self) -> float | None:
        """From ``intended_s`` to the last token; None unless the reply is whole."""
        return self.chunk_s[-1] - self.intended_s if self.is_ok and self.chunk_s else None

    @property
    def tpot_s(self) -> float | None:
        """Time per output token after those of the first chunk; None where there are none."""
        later = sum(self.chunk_tokens[1:])
        return (self.chunk_s[-1] - self.chunk_s[0]) / later if self.is_ok and later else None

    @property
    def slip_s(self) -> float:
        """How late it was sent."""
        return (self.ended_s if self.sent_s is None else self.sent_s) - self.intended_s

    @property
    def is_token_by_token(self) -> bool:
        return self.chunk_tokens.count(1) == len(self.chunk_tokens)

    def chunk_gaps_s(self) -> list[float]:
        return list(map(sub, self.chunk_s[1:], self.chunk_s))

    def gaps_s(self) -> Iterator[float]:
        """One for each token after the first chunk: the gap before a chunk of k tokens is k gaps of a k-th each."""
        if self.is_token_by_token:  # as most are: many times faster
            yield from self.chunk_gaps_s()
            return
        for gap_s, tokens in zip(self.chunk_gaps_s(), self.chunk_tokens[1:], strict=True):
            for _ in range(tokens):
                yield gap_s / tokens
