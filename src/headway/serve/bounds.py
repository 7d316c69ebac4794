"""What one request body may contain, by name. More is refused before anything is allocated for it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestLimits:
    """Counts are of entries, lengths are in characters. The body's own size is bounded by ``EdgeLimits``."""

    nesting: int = 64
    """Objects and lists inside one another."""
    values: int = 500_000
    """Brackets and commas outside strings: about as many as a body has values."""
    strings: int = 65_536
    messages: int = 4096
    content_parts: int = 1024
    """Parts of one message's content."""
    prompts: int = 128
    """Prompts of one completion request."""
    n: int = 16
    """Choices for one prompt."""
    choices: int = 128
    """Choices of one request: prompts times ``n``."""
    stops: int = 16
    """Stop strings; OpenAI's own limit is 4."""
    stop_length: int = 512
    stop_token_ids: int = 64
    logit_bias: int = 1024
    top_logprobs: int = 20
    reply_logprobs: int = 500_000
    """Log-probabilities of a reply that isn't streamed: its choices times their tokens times (1 + ``top_logprobs``)."""
    name_length: int = 512
    """Names and identifiers: the model, a user, a tool call."""
    metadata: int = 16
    """Pairs of text in ``metadata``."""
