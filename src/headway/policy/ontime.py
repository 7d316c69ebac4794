"""Who of those that wait can still be on time: the prompts in order of their due times, and how long each will take.

*Fewest late jobs on one machine* is solved by going through the jobs in order of their due times and, whenever one
would be late, dropping the one so far that brings the most work (Moore, Management Science 15(1), 1968). Here what is
dropped must not have been promised: a request may be dropped for others within ``ANSWER_S`` of its coming, after
which its answer is taken for given, as it is once it has begun. What came later makes room, or does not come in.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from heapq import heappop, heappush

from headway.policy.request import Request

ANSWER_S = 0.04
"""How long a request that waits may still be refused for the sake of another. Its refusal reaches the client in under
50 ms."""


@dataclass(frozen=True, slots=True)
class PromptSpeed:
    """How fast prompts are worked off beside the decodes that run now, and the first moment at which they can be."""

    free_s: float
    tokens_per_s: float
    read_s: float
    """Time of reading one position of earlier context, for one token."""
    step_s: float
    """How long a step is: tokens come at its end."""

    def work_s(self, request: Request) -> float:
        """What is left of a request's prompt: for one that waits, what was not in the cache when it came."""
        if request.block_table:
            start = request.computed + request.planned
            left = len(request.tokens) - start
        else:
            left = request.uncached
            start = len(request.tokens) - left
        return left / self.tokens_per_s + self.read_s * left * (start + left / 2)


def must_leave(now: float, prompts: Iterable[Request], speed: PromptSpeed) -> list[tuple[Request, float]]:
    """Whom to drop so that all others are on time, as far as anyone may be dropped, and how late somebody would be.

    ``prompts``: those begun and those that wait, in order of due times. Of the latter, whoever could not be on time
    even as the next one is dropped as well.
    """
    dropped: list[tuple[Request, float]] = []
    still_open_s = now - ANSWER_S
    end_s = speed.free_s + speed.step_s
    open_: list[tuple[float, int, float, Request]] = []  # those that may be dropped, the dearest first
    for request in prompts:
        work_s = speed.work_s(request)
        waits = not request.block_table
        if waits and speed.free_s + work_s > request.due_s:
            dropped.append((request, speed.free_s + work_s - request.due_s))
            continue
        end_s += work_s
        if waits and request.submitted_s > still_open_s:
            heappush(open_, (-work_s / request.spec.weight, -request.order, work_s, request))
        late_s = end_s - request.due_s
        while late_s > 0.0 and open_:
            _, _, gain_s, dearest = heappop(open_)
            dropped.append((dearest, late_s))
            end_s -= gain_s
            if dearest is request:
                break
            late_s -= gain_s
    return dropped
