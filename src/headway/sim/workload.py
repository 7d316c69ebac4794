"""Who asks for what, and when: calls of clients, drawn from a seed or replayed from a trace."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from heapq import merge
from itertools import count, repeat
from random import Random
from typing import Protocol

from headway.policy.request import RequestSpec
from headway.policy.sampling import SamplingParams
from headway.policy.slo import NO_PROMISE, Objective
from headway.sim.arrivals import Load, Process, Steady
from headway.sim.lengths import Lengths, scale

BACKLOG_INDEX = 1 << 30
"""Calls of a backlog are numbered from here on."""
STOP_TOKEN = 0
SHARED_TOKENS = 1 << 31
"""Tokens from here on belong to shared prefixes; below, call number i has token i + 1 to itself."""

_SAMPLING = SamplingParams(stop_token_ids=(STOP_TOKEN,))


@dataclass(frozen=True, slots=True)
class Size:
    """The tokens of one call. ``prefix``: labels of its prompt's leading blocks, of ``prefix_block`` tokens each (the
    last may be cut); two prompts share what their labels share."""

    prompt_tokens: int
    output_tokens: int
    prefix: tuple[int, ...] = ()
    prefix_block: int = 512

    def scaled(self, factor: float) -> Size:
        prompt, output = scale(self.prompt_tokens, factor), scale(self.output_tokens, factor)
        return Size(prompt, output, self.prefix, scale(self.prefix_block, factor))


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """What one client wants once. The size's ``output_tokens`` is the answer's true length, which no scheduler is
    told. After ``timeout_s`` the answer is of no use; the server knows, as the request's deadline."""

    index: int
    at_s: float
    size: Size
    max_tokens: int
    service_class: str
    objective: Objective = NO_PROMISE
    weight: float = 1.0
    may_demote: bool = False
    tenant: str = ""
    timeout_s: float | None = None

    def prompt(self) -> tuple[int, ...]:
        size, own = self.size, self.index + 1
        if not size.prefix:
            return (own,) * size.prompt_tokens
        tokens: list[int] = []
        for label in size.prefix:
            tokens += [SHARED_TOKENS + label] * size.prefix_block
        tokens += [own] * (size.prompt_tokens - len(tokens))
        return tuple(tokens[: size.prompt_tokens])

    def spec(self, attempt: int, now: float) -> RequestSpec:
        """The request that attempt number ``attempt`` (from 0) sends."""
        return RequestSpec(
            request_id=f"{self.index}.{attempt}",
            prompt=self.prompt(),
            max_tokens=self.max_tokens,
            sampling=_SAMPLING,
            service_class=self.service_class,
            objective=self.objective,
            weight=self.weight,
            may_demote=self.may_demote,
            arrived_s=now,
            deadline_s=None if self.timeout_s is None else now + self.timeout_s,
            tenant=self.tenant,
            salt=self.tenant.encode(),
            in_vocabulary=True,
        )


class Source(Protocol):
    """Arrival times and sizes together, since a trace has them together."""

    @property
    def longest_output(self) -> int: ...

    def draws(self, seed: str) -> Iterator[tuple[float, Size]]:
        """Endless sizes and when they come, one in a unit of time on average."""
        ...

    def scaled(self, factor: float) -> Source:
        """The same with all lengths times ``factor``."""
        ...


@dataclass(frozen=True, slots=True)
class Synthetic:
    """Arrivals of a process; prompts and answers independent of them and of each other."""

    process: Process
    prompt: Lengths
    output: Lengths

    shares_prefixes = False

    @property
    def longest_output(self) -> int:
        return self.output.longest

    def draws(self, seed: str) -> Iterator[tuple[float, Size]]:
        prompts, outputs = Random(f"{seed} prompts"), Random(f"{seed} outputs")
        now = 0.0
        for gap in self.process.gaps(Random(f"{seed} gaps")):
            now += gap
            yield now, Size(self.prompt.draw(prompts), self.output.draw(outputs))

    def scaled(self, factor: float) -> Synthetic:
        return Synthetic(self.process, self.prompt.scaled(factor), self.output.scaled(factor))


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """One kind of request in a workload. ``share``: of the workload's rate. Each asks for at most ``max_tokens``
    (None: as many as its longest answer has)."""

    source: Source
    service_class: str
    objective: Objective = NO_PROMISE
    share: float = 1.0
    max_tokens: int | None = None
    weight: float = 1.0
    may_demote: bool = False
    tenant: str = ""
    timeout_s: float | None = None

    def calls(self, load: Load, seed: str, indices: Iterable[int]) -> Iterator[Call]:
        """Calls in order of time, numbered by the ``indices``."""
        cap = self.max_tokens or self.source.longest_output
        for index, (at, size) in zip(indices, self.source.draws(seed), strict=False):
            yield Call(
                index=index,
                at_s=load.time_s(at / self.share),
                size=size,
                max_tokens=cap,
                service_class=self.service_class,
                objective=self.objective,
                weight=self.weight,
                may_demote=self.may_demote,
                tenant=self.tenant,
                timeout_s=self.timeout_s,
            )

    def scaled(self, lengths: float, promise: float) -> Traffic:
        cap = None if self.max_tokens is None else scale(self.max_tokens, lengths)
        timeout_s = None if self.timeout_s is None else self.timeout_s * promise
        objective = scale_objective(self.objective, promise)
        source = self.source.scaled(lengths)
        return replace(self, source=source, max_tokens=cap, objective=objective, timeout_s=timeout_s)


def scale_objective(objective: Objective, factor: float) -> Objective:
    def times(value: float | None) -> float | None:
        return None if value is None else value * factor

    return Objective(ttft_s=times(objective.ttft_s), itl_s=times(objective.itl_s), e2e_s=times(objective.e2e_s))


@dataclass(frozen=True, slots=True)
class Backlog:
    """Endless work: ``depth`` requests are with the server at any time, the next comes when one ends."""

    traffic: Traffic
    depth: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """Kinds of traffic whose shares add up to 1, and perhaps a backlog."""

    name: str
    description: str
    traffic: tuple[Traffic, ...]
    backlog: Backlog | None = None

    @property
    def shares_prefixes(self) -> bool:
        """Whether two of its calls may have something in common; of sources of other kinds that is not known."""
        kinds = self.traffic if self.backlog is None else (*self.traffic, self.backlog.traffic)
        return any(getattr(kind.source, "shares_prefixes", True) for kind in kinds)

    @property
    def tenants(self) -> frozenset[str]:
        kinds = self.traffic if self.backlog is None else (*self.traffic, self.backlog.traffic)
        return frozenset(kind.tenant for kind in kinds)

    def calls(self, load: Load, seed: int) -> Iterator[Call]:
        """Endless calls in order of time, numbered from 0; ``load`` is that of all kinds together.

        With the same seed the same calls come in the same pattern at any load: two loads differ in nothing else.
        """
        if len(self.traffic) == 1:
            yield from self.traffic[0].calls(load, f"{seed} 0", count())
            return
        streams = [kind.calls(load, f"{seed} {number}", repeat(0)) for number, kind in enumerate(self.traffic)]
        for index, call in enumerate(merge(*streams, key=lambda call: call.at_s)):
            yield replace(call, index=index)

    def backlog_calls(self, seed: int) -> Iterator[Call]:
        """The backlog's calls, endless; their times mean nothing. Numbered from above all others."""
        if self.backlog is None:
            return
        yield from self.backlog.traffic.calls(Steady(1.0), f"{seed} backlog", count(BACKLOG_INDEX))

    def scaled(self, *, lengths: float = 1.0, promise: float = 1.0) -> Workload:
        """The same with all lengths times ``lengths`` and all promised times times ``promise``, for other machines."""
        backlog = self.backlog
        if backlog is not None:
            backlog = Backlog(backlog.traffic.scaled(lengths, promise), backlog.depth)
        return replace(self, traffic=tuple(kind.scaled(lengths, promise) for kind in self.traffic), backlog=backlog)
