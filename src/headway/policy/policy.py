"""What a scheduling policy decides. The scheduler asks; how requests live and share the cache is its own matter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Protocol

from headway.policy.allowance import Allowance
from headway.policy.events import RejectReason
from headway.policy.outputs import OutputLengths
from headway.policy.request import Request
from headway.policy.slo import ServiceClasses
from headway.policy.steptime import StepShape
from headway.policy.waiting import WaitingQueue


@dataclass(slots=True)  # not frozen: made for every question, and freezing takes three times as long
class Scene:
    """Where things stand: who runs (in rank order), who waits, how long answers tend to be, the cap on a step, the room
    in the KV cache for who comes next, as far as known (in tokens), and what is in the step in flight, begun at
    ``step_began_s`` (None: none is in flight)."""

    running: Sequence[Request]
    waiting: WaitingQueue
    outputs: OutputLengths
    max_step_tokens: int
    room_tokens: float = inf
    step: StepShape | None = None
    step_began_s: float = 0.0


@dataclass(slots=True)
class Load:
    """Running requests by what they need next, each in rank order: one token (decodes) or more (prefills)."""

    decodes: list[Request] = field(default_factory=list)
    prefills: list[Request] = field(default_factory=list)
    deferrable_decodes: list[Request] = field(default_factory=list)
    deferrable_prefills: list[Request] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Refusal:
    """A request that can't be on time, with the words for its client. It is demoted if it allows that.

    ``retry_after_s``: when trying again may help; None: not in the time it has.
    """

    request: Request
    message: str
    retry_after_s: float | None
    reason: RejectReason = RejectReason.OVERLOADED
    is_final: bool = False
    """Being late would be of no use to it either."""


class Policy(Protocol):
    """One way to choose who comes in, who is next, and how much a step takes. Pure: time is an argument."""

    prompts_first: bool
    """Prompts before decodes, rather than the other way round."""
    looks_at_room: bool
    """Whether it reads ``Scene.room_tokens``."""

    def set_classes(self, classes: ServiceClasses) -> None:
        """What is promised from now on, to whoever comes."""
        ...

    def offer(self, now: float, request: Request, scene: Scene) -> Refusal | None:
        """A request has come: refuse it, or give it a lane and a key (``Request.lane``, ``Request.key``).

        ``review`` is asked right after, with the request in the queue, who has to leave for it (itself, maybe).
        """
        ...

    def review(self, now: float, scene: Scene) -> Sequence[Refusal]:
        """Who waits and has to leave."""
        ...

    def allowance(self, now: float, load: Load, scene: Scene) -> Allowance:
        """What the next step may take. Nobody is planned for in it yet."""
        ...

    def observe(self, now: float, shape: StepShape, elapsed_s: float) -> None:
        """A step was run, and took so long from plan to apply."""
        ...

    def repeated(self, now: float, shape: StepShape, steps: int, elapsed_s: float) -> None:
        """``steps`` steps were run in which the same requests decoded and nobody else was here, and took so long
        together; ``shape`` is that of one in the middle. Neither ``allowance`` nor ``observe`` was asked meanwhile:
        simulations run such steps at once."""
        ...

    def finished(self, now: float, request: Request) -> None:
        """A request has had all its tokens."""
        ...

    def judge(self, now: float, ttft_kept: bool | None, itl_kept: bool | None) -> None:
        """What a client saw of an answer that is complete, told by whoever serves it; None where nothing was promised.

        Once this was called, it counts in place of the policy's own times, which end where a step does.
        """
        ...

    def numbers(self, now: float) -> Mapping[str, float]:
        """What it knows and does, for metrics: the same names every time."""
        ...
