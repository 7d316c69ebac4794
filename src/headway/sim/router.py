"""Which replica a request is sent to. Pure: no clock, no chance; a router knows what its replicas would tell."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from headway.policy.stepshape import StepShape
from headway.sim.replica import Replica
from headway.sim.workload import Call


class Router(Protocol):
    def choose(self, now: float, call: Call, replicas: Sequence[Replica]) -> int:
        """The position of the one that is to serve the call. Each try of a call is routed anew."""
        ...


class RoundRobin:
    """One after the other, whatever they do."""

    def __init__(self) -> None:
        self._next = 0

    def choose(self, now: float, call: Call, replicas: Sequence[Replica]) -> int:
        chosen = self._next % len(replicas)
        self._next = chosen + 1
        return chosen


class LeastTtft:
    """The replica that is predicted to give the first token soonest; among equals the one where fewest run, then the
    first.

    Predicted from the end of the step in flight, then the work of the prompts under way and waiting there and of this
    one, less what of it is in that replica's cache, in steps of the scheduler's most tokens beside those that decode.
    So a cached prefix draws its requests to where it is, until the queue there costs more than it saves. Steps take
    what the hardware's formula says: what a server's learned model would. A queue for want of KV memory is seen as
    work alone, so it is longer than predicted; it is avoided all the same, since the work is.
    """

    def choose(self, now: float, call: Call, replicas: Sequence[Replica]) -> int:
        keys = [
            (_ttft_s(now, call, replica), len(replica.scheduler.running), position)
            for position, replica in enumerate(replicas)
        ]
        return min(keys)[2]


def _ttft_s(now: float, call: Call, replica: Replica) -> float:
    view = replica.view(now)
    tokens = view.prompt_tokens + call.size.prompt_tokens
    if call.size.prefix:
        tokens -= replica.cached_tokens(call)
    room = max(1, replica.scheduler.config.max_step_tokens - view.decodes)
    step_s, decodes, context = replica.hardware.step_s, view.decodes, view.decode_context
    whole, rest = divmod(tokens, room)
    work_s = whole * step_s(StepShape(decodes + room, decodes + 1, context, room * room / 2)) if whole else 0.0
    if rest:
        work_s += step_s(StepShape(decodes + rest, decodes + 1, context, rest * rest / 2))
    return view.free_s - now + work_s
