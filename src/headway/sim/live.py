"""A call under way: one try of it, as the client and the simulated executor see it."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from operator import sub

from headway.sim.workload import BACKLOG_INDEX, Call


@dataclass(slots=True, eq=False)
class Attempt:
    """Try ``number`` (from 0) of a call.

    ``token_times``: when its tokens came. ``runs``: the same in short, of tokens that came one a step: the number of
    the first, and of its step.
    ``replica``: where it was sent. ``refused_s``: when it was refused, for one that is to be followed by another.
    """

    call: Call
    number: int
    arrived_s: float
    request_id: str
    output_tokens: int
    sent_s: float = 0.0
    replica: int = 0
    refused_s: float | None = None
    demoted: bool = False
    cached_tokens: int = 0
    token_times: array[float] = field(default_factory=lambda: array("d"))
    runs: list[tuple[int, int]] = field(default_factory=list)

    @classmethod
    def first(cls, call: Call, arrived_s: float | None = None) -> Attempt:
        return cls._make(call, 0, call.at_s if arrived_s is None else arrived_s)

    def again(self) -> Attempt:
        return self._make(self.call, self.number + 1, self.arrived_s)

    @classmethod
    def _make(cls, call: Call, number: int, arrived_s: float) -> Attempt:
        return cls(call, number, arrived_s, f"{call.index}.{number}", call.size.output_tokens)

    def may_be_kept(self, now: float) -> bool:
        """Whether its promise can be kept still; False for one that was promised nothing."""
        promised, times, so_far_s = self.call.objective, self.token_times, now - self.sent_s
        ttft_s = times[0] - self.sent_s if times else so_far_s
        late_gaps = promised.late_gaps_of(map(sub, times[1:], times))
        return not (promised.is_empty or promised.broken(ttft_s, late_gaps, self.output_tokens - 1, so_far_s))

    @property
    def is_backlog(self) -> bool:
        return self.call.index >= BACKLOG_INDEX
