"""How the next token of a request is chosen: the part of a request that only the executor reads.

The policy carries these values unopened, except the stop rules, which decide when a request is finished.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingParams:
    """One request's sampling rules, in the order an executor applies them.

    1. ``repetition_penalty`` (over prompt and output), ``presence_penalty`` and ``frequency_penalty`` (over the
       output only), 2. ``logit_bias``, 3. ``stop_token_ids`` are forbidden while fewer than ``min_tokens`` tokens are
    out, 4. ``temperature`` (0 means the most likely token), 5. ``top_k``, 6. ``top_p``, 7. ``min_p``, 8. the draw.

    The draw depends on ``(seed, position)`` alone, where position is the index of the token in its sequence, so a
    request's tokens do not depend on who shares its batch, on preemption, or on a restarted executor.

    ``logprobs`` is None for none, else the number of most likely alternatives to report beside the chosen token
    (0 reports the chosen one alone). They are log-probabilities of the model's own distribution, before any rule.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int | None = None
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: tuple[tuple[int, float], ...] = ()
    seed: int = 0
    logprobs: int | None = None
    min_tokens: int = 0
    stop_token_ids: tuple[int, ...] = ()
    """Ids that end the request. The end-of-sequence ids are among them unless the request ignores them."""

    @property
    def needs_history(self) -> bool:
        """Whether the rules read the tokens that came before."""
        return self.repetition_penalty != 1.0 or self.presence_penalty != 0.0 or self.frequency_penalty != 0.0


GREEDY = SamplingParams(temperature=0.0)
