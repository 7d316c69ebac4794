"""One request to be made, before anybody has sent it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """What a user says next in a conversation, ``think_s`` after the answer has ended."""

    text: str
    tokens: int
    max_tokens: int
    think_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A request: a prompt of ``prompt_tokens`` tokens, as text or, for completions, as token ids.

    ``messages``: instead of a prompt, for chat; the first message of a conversation that goes on with ``turns`` (each
    is sent with all that was said before, the server's own answers included).
    ``exact_output``: the server is asked to write exactly ``max_tokens`` (``ignore_eos``, ``min_tokens``).
    ``at_s``: when a trace has it, from its start; None: the load decides.
    ``service_class``: which objective it is held against. ``tier`` and ``headers`` go to the server.
    ``extra``: further fields of the body.
    """

    prompt: str | tuple[int, ...] = ""
    messages: tuple[Mapping[str, object], ...] = ()
    prompt_tokens: int = 0
    max_tokens: int = 64
    exact_output: bool = True
    at_s: float | None = None
    service_class: str = ""
    tier: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    extra: Mapping[str, object] = field(default_factory=dict)
    turns: tuple[Turn, ...] = ()
