"""A request's record and the table of its life: the only place where its state changes."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import StrEnum

from headway.policy.plan import Draw
from headway.policy.sampling import SamplingParams
from headway.policy.slo import BATCH, NO_PROMISE, Objective, Part


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestSpec:
    """What a client asks for, already validated and tokenised.

    ``deadline_s`` is the absolute time after which no work is done for it; None means none.
    ``salt`` separates tenants in the prefix cache: blocks are shared only between equal salts.

    ``service_class`` names the class it was asked for in, ``objective`` is what it was promised, ``weight`` what it is
    worth when not all can be on time. With ``may_demote`` it would rather be served late than refused. ``arrived_s``
    is when its last byte came in (None: when it is submitted); promises count from there. ``tenant`` is who sent it.
    ``in_vocabulary``: whoever made it knows that its tokens are, so that they need not be looked through.
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
    in_vocabulary: bool = False


@dataclass(frozen=True, slots=True)
class Foretold:
    """What an executor that is a formula will draw for a request: ``token`` each time until the request has ``tokens``
    tokens, prompt included, and then ``last``, which ends it. Nothing that decides reads it."""

    token: int
    tokens: int
    last: int


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

    ``service_class`` and ``objective`` are those it is served by now: a demoted one has become batch. Who is
    ``deferrable`` runs in what the others leave. ``due_s`` is when its first token is due; ``lane`` and ``key`` say
    where it waits. ``uncached`` of its tokens were not in the cache when it came. ``told`` of its tokens
    went out, the last one at ``last_token_s``; ``late_gaps`` of the gaps between them were longer than promised.
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
    service_class: str = ""
    objective: Objective = NO_PROMISE
    deferrable: bool = False
    arrived_s: float = 0.0
    submitted_s: float = 0.0
    due_s: float = math.inf
    uncached: int = 0
    lane: int = 0
    key: float = 0.0
    first_token_s: float | None = None
    last_token_s: float = 0.0
    needs_history: bool = False
    itl_s: float | None = None
    told: int = 0
    late_gaps: int = 0
    foretold: Foretold | None = None

    @classmethod
    def new(cls, spec: RequestSpec, order: int, now: float) -> Request:
        """``peak_tokens``: the most cache positions it can ever need. Its last output token is never fed back."""
        arrived_s = now if spec.arrived_s is None else min(now, spec.arrived_s)
        ttft_s, e2e_s = spec.objective.ttft_s, spec.objective.e2e_s
        return cls(
            spec,
            order,
            list(spec.prompt),
            peak_tokens=len(spec.prompt) + spec.max_tokens - 1,
            service_class=spec.service_class,
            objective=spec.objective,
            deferrable=spec.objective.is_empty,
            arrived_s=arrived_s,
            submitted_s=now,
            itl_s=spec.objective.itl_s,
            needs_history=spec.sampling.needs_history,
            due_s=arrived_s + min(ttft_s or math.inf, e2e_s or math.inf),
        )

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

    @property
    def ttft_kept(self) -> bool:
        """Whether its first token came in time; to be asked once that has come."""
        return self.objective.keeps_ttft(self._ttft_s)

    @property
    def itl_kept(self) -> bool:
        """Whether the p95 of the gaps between its tokens, so far, is within what was promised."""
        return self.objective.keeps_itl(self.late_gaps, max(0, self.told - 1))

    def broken(self, now: float) -> Part | None:
        """Of one that ends now, with all its tokens: what of its promise was not kept first; None if it is in SLO."""
        return self.objective.broken(self._ttft_s, self.late_gaps, max(0, self.told - 1), now - self.arrived_s)

    @property
    def _ttft_s(self) -> float:
        return math.inf if self.first_token_s is None else self.first_token_s - self.arrived_s

    def tell(self, now: float) -> None:
        """A token of it goes out."""
        if self.told == 0:
            self.first_token_s = now
        elif self.itl_s is not None and now - self.last_token_s > self.itl_s:
            self.late_gaps += 1
        self.told += 1
        self.last_token_s = now

    def demote(self) -> None:
        """Promise it nothing any more."""
        self.service_class, self.objective, self.itl_s = BATCH.name, NO_PROMISE, None
        self.deferrable, self.due_s = True, math.inf

    def move(self, state: State) -> None:
        assert state in TRANSITIONS[self.state], f"{self.request_id}: {self.state} -> {state}"
        assert state is State.RUNNING or not self.block_table, f"{self.request_id} holds blocks while {state}"
        self.state = state

    def draw(self) -> Draw:
        """The draw for the token after the last one known."""
        spec, tokens = self.spec, self.tokens
        prompt = len(spec.prompt)
        return Draw(spec.sampling, len(tokens) - prompt, prompt, tuple(tokens) if self.needs_history else ())
