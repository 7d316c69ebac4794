"""A request's record and the table of its life: the only place where its state changes."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from headway.policy.plan import Draw
from headway.policy.sampling import SamplingParams
from headway.policy.slo import BATCH, NO_PROMISE, Objective


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestSpec:
    """What a client asks for, already validated and tokenised.

    ``deadline_s`` is the absolute time after which no work is done for it; None means none.
    ``salt`` separates tenants in the prefix cache: blocks are shared only between equal salts.

    ``service_class`` names the class it was asked for in, ``objective`` is what it was promised, ``weight`` what it is
    worth when not all can be on time. With ``may_demote`` it would rather be served late than refused. ``arrived_s``
    is when its last byte came in (None: when it is submitted); promises count from there. ``tenant`` is who sent it.
    """

    request_id: str
    prompt: tuple[int, ...]
    max_tokens: int
    sampling: SamplingParams = field(default_factory=SamplingParams)
    deadline_s: float | None = None
    salt: bytes = b""
    service_class: str = BATCH.name
    objective: Objective = NO_PROMISE
    weight: float = 1.0
    may_demote: bool = False
    arrived_s: float | None = None
    tenant: str = ""


class State(StrEnum):
    WAITING = "waiting"  # in the queue; holds nothing
    RUNNING = "running"  # holds blocks; takes part in steps
    FINISHED = "finished"  # terminal; holds nothing


TRANSITIONS: dict[State, frozenset[State]] = {
    State.WAITING: frozenset({State.RUNNING, State.FINISHED}),
    State.RUNNING: frozenset({State.WAITING, State.FINISHED}),  # to WAITING: preempted, or the executor was lost
    State.FINISHED: frozenset(),
}


@dataclass(slots=True, eq=False)
class Request:
    """The life of one request inside the scheduler.

    ``tokens`` is the prompt followed by the output. The first ``computed`` of them have their keys and values in the
    cache; ``planned`` more are in the step in flight. A decode is simply a request with one token left to compute.

    ``block_table`` holds blocks for exactly the computed and planned tokens; the first ``published`` of them have been
    offered to the prefix index, under ``digests``. The first ``started_at`` tokens were in the cache when it last
    started to run. ``order`` counts arrivals. ``cached_tokens`` of the prompt were
    found in the cache when the request was first scheduled; later finds only save it computing its own tokens again.
    """

    spec: RequestSpec
    order: int
    tokens: list[int]
    peak_tokens: int
    state: State = State.WAITING
    computed: int = 0
    planned: int = 0
    published: int = 0
    started_at: int = 0
    block_table: tuple[int, ...] = ()
    digests: list[bytes] = field(default_factory=list)
    cached_tokens: int = 0
    preemptions: int = 0
    ever_scheduled: bool = False

    @classmethod
    def new(cls, spec: RequestSpec, order: int) -> Request:
        """``peak_tokens``: the most cache positions it can ever need. Its last output token is never fed back."""
        return cls(spec, order, list(spec.prompt), peak_tokens=len(spec.prompt) + spec.max_tokens - 1)

    @property
    def request_id(self) -> str:
        return self.spec.request_id

    @property
    def prompt_tokens(self) -> int:
        return len(self.spec.prompt)

    @property
    def output_tokens(self) -> int:
        return len(self.tokens) - len(self.spec.prompt)

    @property
    def remaining(self) -> int:
        """Tokens still to compute before the next one can be drawn."""
        return len(self.tokens) - self.computed

    def move(self, state: State) -> None:
        assert state in TRANSITIONS[self.state], f"{self.request_id}: {self.state} -> {state}"
        assert state is State.RUNNING or not self.block_table, f"{self.request_id} holds blocks while {state}"
        self.state = state

    def draw(self) -> Draw:
        """The draw for the token after the last one known."""
        params, prompt = self.spec.sampling, len(self.spec.prompt)
        history = tuple(self.tokens) if params.needs_history else ()
        return Draw(params, len(self.tokens) - prompt, prompt, history)
