"""Who of those that wait can still be on time: the prompts in order of their due times, and how long each will take.

*Fewest late jobs on one machine* is solved by going through the jobs in order of their due times and, whenever one
would be late, dropping the one so far that brings the most work (Moore, Management Science 15(1), 1968). Here what is
dropped must not have been promised: a request may be dropped for others within ``ANSWER_S`` of its coming, after
which its answer is taken for given. What came later than that makes room, or does not come in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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

    def work_s(self, start: int, tokens: int) -> float:
        """The time of so many prompt tokens after ``start`` earlier ones."""
        return tokens / self.tokens_per_s + self.read_s * tokens * (start + tokens / 2)


def prompt_work_s(speed: PromptSpeed, request: Request) -> float:
    """What it takes to begin the answer of a request that waits."""
    return speed.work_s(len(request.tokens) - request.uncached, request.uncached)


def must_leave(now: float, timely: Sequence[Request], speed: PromptSpeed, most: int) -> list[tuple[Request, float]]:
    """Whom to drop so that all others among the first ``most`` are on time, and how late each made somebody.

    Besides, whoever could not be on time even as the next one is dropped.
    """
    dropped: list[tuple[Request, float]] = []
    open_s = now - ANSWER_S
    end_s = speed.free_s + speed.step_s
    kept: list[tuple[float, Request]] = []  # the work of those that may still be dropped
    for request in timely[:most]:
        work_s = prompt_work_s(speed, request)
        value = request.spec.weight
        if now + work_s > request.due_s:
            dropped.append((request, now + work_s - request.due_s))
            continue
        end_s += work_s
        may_drop = request.submitted_s > open_s
        if may_drop:
            kept.append((work_s / value, request))
        late_s = end_s - request.due_s
        while late_s > 0.0 and kept:
            worst = max(kept, key=_dearest)
            kept.remove(worst)
            dropped.append((worst[1], late_s))
            gain_s = worst[0] * worst[1].spec.weight
            end_s -= gain_s
            if worst[1] is request:
                break
            late_s -= gain_s
    return dropped


def _dearest(entry: tuple[float, Request]) -> tuple[float, int]:
    return entry[0], entry[1].order
