"""Who of those that wait can still be on time: the prompts in order of their due times, and how long each will take.

*Fewest late jobs on one machine* is solved by going through the jobs in order of their due times and, whenever one
would be late, dropping the one so far that brings the most work (Moore, Management Science 15(1), 1968). Here what is
dropped must not have been promised: a request may be dropped for others within ``ANSWER_S`` of its coming, after
which its answer is taken for given, as it is once it has begun. What came later makes room, or does not come in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from heapq import heappop, heappush
from math import ceil, inf

from headway.policy.request import Request

ANSWER_S = 0.04
"""How long a request that waits may still be refused for the sake of another. Its refusal reaches the client in under
50 ms."""
SPARE_STEPS = 0.15
"""How much of a step is kept for what comes in between: prompts that finish first decode beside the next ones. With
none, 1 % of admitted requests are late at capacity; with half a step, up to 4 % fewer are served."""


@dataclass(frozen=True, slots=True)
class PromptSpeed:
    """How fast prompts are worked off beside the decodes that run now, and the first moment at which they can be."""

    free_s: float
    tokens_per_s: float
    read_s: float
    """Time of reading one position of earlier context, for one token."""
    step_s: float
    """How long a full step is: tokens come at its end."""
    room_tokens: float = inf
    """Tokens of KV cache for those that wait."""

    def work_s(self, request: Request) -> float:
        """What is left of a request's prompt."""
        left = prompt_left(request)
        start = len(request.tokens) - left
        return left / self.tokens_per_s + self.read_s * left * (start + left / 2)


def prompt_left(request: Request) -> int:
    """The tokens of a prompt to be computed yet; for one that waits, those that were not in the cache when it came."""
    return len(request.tokens) - request.computed - request.planned if request.block_table else request.uncached


def must_leave(
    now: float, prompts: Iterable[Request], speed: PromptSpeed, alone_s: Callable[[Request], float] | None = None
) -> list[tuple[Request, float]]:
    """Whom to drop so that all others are on time and fit the cache, as far as anyone may be dropped, and how late
    somebody would be.

    ``prompts``: those begun and those that wait, in order of due times. Of the latter, whoever could not be on time
    even as the next one is dropped as well. ``alone_s``: the time of a prompt as one step; ``inf``: it can't have one.
    """
    dropped: list[tuple[Request, float]] = []
    still_open_s = now - ANSWER_S
    step_s = speed.step_s
    ahead_s = 0.0  # the work of all so far
    room = speed.room_tokens
    open_: list[tuple[float, int, float, Request]] = []  # those that may be dropped, the dearest first
    for request in prompts:
        work_s = speed.work_s(request)
        waits = not request.block_table
        first_s = inf
        if ahead_s == 0.0 and alone_s is not None and _chunks_s(work_s, step_s) > request.due_s - speed.free_s:
            first_s = alone_s(request)  # asked only where it matters: it looks at all who run
        late_s = speed.free_s + min(work_s, first_s) - request.due_s
        if waits and late_s > 0.0:
            dropped.append((request, late_s))
            continue
        ahead_s += work_s
        room -= request.uncached if waits else 0
        if waits and request.submitted_s > still_open_s:
            heappush(open_, (-work_s / request.spec.weight, -request.order, work_s, request))
        while open_:
            late_s = speed.free_s + min(_chunks_s(ahead_s, step_s), first_s) - request.due_s
            if late_s <= 0.0 and room >= 0.0:
                break
            _, _, gain_s, dearest = heappop(open_)
            dropped.append((dearest, max(late_s, step_s)))
            ahead_s -= gain_s
            room += dearest.uncached
            if dearest is request:
                break
    return dropped


def _chunks_s(work_s: float, step_s: float) -> float:
    """So much work in whole steps."""
    return ceil(work_s / step_s + SPARE_STEPS) * step_s
