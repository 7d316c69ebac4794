"""What one step may take: so many tokens, or as many as fit a time by the step-time model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from headway.policy.steptime import StepTimeModel

CHUNK_TOKENS_MIN = 16
"""The least of a prompt that is worth a place in a step, unless less is left of it or nothing else would run."""


class Allowance(Protocol):
    """Handed out for one step, and used up while it is put together.

    ``deferrable`` asks for work that runs in what the others leave. ``limit`` is the most tokens the step can get.
    """

    limit: int
    tokens: int

    def decodes(self, contexts: Sequence[int], *, deferrable: bool) -> int:
        """Of requests that each compute one token over so much context, how many take part: the first ones."""
        ...

    def chunk(self, start: int, want: int, *, deferrable: bool) -> int:
        """How many of ``want`` prompt tokens take part, after ``start`` earlier ones. At least 1 if nothing does."""
        ...


@dataclass(slots=True)
class TokenAllowance:
    """So many tokens, whoever asks. With ``prompts_first`` no decode takes part beside a prompt."""

    limit: int
    prompts_first: bool = False
    tokens: int = 0

    def decodes(self, contexts: Sequence[int], *, deferrable: bool) -> int:
        if self.prompts_first and self.tokens:
            return 0
        count = min(len(contexts), self.limit - self.tokens)
        self.tokens += count
        return count

    def chunk(self, start: int, want: int, *, deferrable: bool) -> int:
        count = min(want, self.limit - self.tokens)
        self.tokens += count
        return count


@dataclass(slots=True)
class TimeAllowance:
    """What the model says fits ``time_s``; for what is deferrable ``deferrable_time_s``. Decodes with a promise always
    take part, whatever they take: they are what the time was chosen for."""

    model: StepTimeModel
    limit: int
    time_s: float
    deferrable_time_s: float
    tokens: int = 0
    sequences: int = 0
    decode_context: int = 0
    prefill_reads: float = 0.0
    deferrable_tokens: int = 0
    prompt_tokens: int = 0
    """Of those with a promise."""

    def decodes(self, contexts: Sequence[int], *, deferrable: bool) -> int:
        count = min(len(contexts), self.limit - self.tokens)
        if deferrable:
            count = self._decodes_within(contexts[:count], self.deferrable_time_s)
            self.deferrable_tokens += count
        self.tokens += count
        self.sequences += count
        self.decode_context += sum(contexts[:count])
        return count

    def chunk(self, start: int, want: int, *, deferrable: bool) -> int:
        most = min(want, self.limit - self.tokens)
        if most <= 0:
            return 0
        time_s = self.deferrable_time_s if deferrable else self.time_s
        count = self.model.chunk_within(
            self.tokens, self.sequences, self.decode_context, self.prefill_reads, start, most, time_s
        )
        if count < min(most, CHUNK_TOKENS_MIN):
            if self.tokens:
                return 0
            count = min(most, CHUNK_TOKENS_MIN)
        self.tokens += count
        if deferrable:
            self.deferrable_tokens += count
        else:
            self.prompt_tokens += count
        self.sequences += 1
        self.prefill_reads += count * (start + count / 2)
        return count

    def _decodes_within(self, contexts: Sequence[int], time_s: float) -> int:
        """The most of them, from the first on, with which the step stays within the time; one at least."""
        sums = [0]
        for context in contexts:
            sums.append(sums[-1] + context)
        low, high = 0, len(contexts)
        while low < high:
            middle = (low + high + 1) // 2
            if self._tail_s(middle, sums[middle]) <= time_s:
                low = middle
            else:
                high = middle - 1
        return max(low, min(1, len(contexts)) if not self.tokens else 0)

    def _tail_s(self, decodes: int, context: int) -> float:
        return self.model.tail_s(
            self.tokens + decodes, self.sequences + decodes, self.decode_context + context, self.prefill_reads
        )
