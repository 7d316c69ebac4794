"""The messages between the policy and whatever runs it: immutable values, nothing shared.

A plan says everything a step needs. An executor keeps no record of requests from one step to the next, only the
KV blocks, so a worker that was restarted can run the next plan as well as the old one could.

Nobody changes a message. What is made by the thousand a second is not frozen all the same: freezing takes three times
as long.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from headway.policy.sampling import SamplingParams


@dataclass(slots=True)
class Draw:
    """Sample one token from the logits of a chunk's last position.

    ``history`` holds every token of the sequence so far (prompt then output) when the rules read it, else it is
    empty; its first ``prompt_tokens`` are the prompt. ``output_index`` counts the tokens already out.
    The position that seeds the draw is ``chunk.start + len(chunk.tokens)``: that of the token being drawn.
    """

    params: SamplingParams
    output_index: int
    prompt_tokens: int
    history: tuple[int, ...] = ()


@dataclass(slots=True)
class Chunk:
    """Consecutive tokens of one sequence, computed in one step: part of a prompt, or one token of a decode.

    ``tokens`` sit at positions ``start .. start + len(tokens) - 1``. The keys and values of all earlier positions
    are in the KV cache already. ``block_table[i]`` is the cache block that holds positions
    ``i * block_size .. (i + 1) * block_size - 1``; the table covers every position up to the chunk's last.
    """

    request_id: str
    start: int
    tokens: tuple[int, ...]
    block_table: tuple[int, ...]
    draw: Draw | None = None


@dataclass(frozen=True, slots=True)
class StepPlan:
    """What the next step runs: one forward pass over all chunks. Each request appears at most once."""

    step_id: int
    chunks: tuple[Chunk, ...]

    @property
    def token_count(self) -> int:
        return sum(len(chunk.tokens) for chunk in self.chunks)


@dataclass(slots=True)
class DrawnToken:
    """One sampled token. ``top`` holds (token id, logprob) pairs, most likely first, when they were asked for."""

    request_id: str
    token: int
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True)
class FailedDraw:
    """A request that the executor could not go on with (logits that are not numbers, say). Others are unharmed."""

    request_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class StepResult:
    """What a step brought: one token for every chunk with a draw, or a failure. ``elapsed_s``: the step's own time."""

    step_id: int
    drawn: tuple[DrawnToken, ...]
    failed: tuple[FailedDraw, ...] = ()
    elapsed_s: float = 0.0


@dataclass(frozen=True, slots=True)
class ExecutorInfo:
    """What an executor offers, told once when it is ready.

    ``kv_blocks`` blocks of ``block_size`` tokens are there to be handed out (ids 0 .. kv_blocks - 1).
    ``context_tokens`` bounds one sequence, prompt and output together.
    """

    block_size: int
    kv_blocks: int
    context_tokens: int
    vocab_size: int
    description: str = ""


class ExecutorLost(Exception):
    """The executor is gone, and with it the KV cache. Start it again; requests resume from their tokens."""


class Executor(Protocol):
    """Runs plans, one at a time and in order. Used from one thread.

    ``start`` may take long and is called again after ``ExecutorLost``. ``begin`` hands a plan over and returns at
    once; ``finish`` waits for its result. All three raise ``ExecutorLost``. Executors know no policy.

    ``interrupt`` alone may be called from any thread, at any time and more than once: a call in progress then ends
    soon, by ``ExecutorLost`` if need be.
    """

    def start(self) -> ExecutorInfo: ...

    def begin(self, plan: StepPlan) -> None: ...

    def finish(self) -> StepResult: ...

    def stop(self) -> None: ...

    def interrupt(self) -> None: ...
