"""Open-loop load: every request is sent at its time, whether or not those before it have been answered.

All times count from when a request was *meant* to be sent. A client that falls behind therefore makes the figures
worse, never better (coordinated omission), and ``LoadRun.slip_s`` tells how far it fell behind: a run with a large slip
has measured the client.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from headway.bench.client import HTTP_TOO_MANY_REQUESTS, Reply, exchange, percentile
from headway.policy.events import RejectReason

SOCKETS_MAX = 512
"""Most connections open at once, if the caller sets no other limit."""
DRAIN_S = 10.0
"""How long after the last arrival replies are waited for, if the caller doesn't say."""
LEAD_S = 0.05
"""Between calling ``open_loop`` and time 0 of the schedule."""


@dataclass(frozen=True, slots=True)
class TimedRequest:
    """A request to be sent ``at_s`` after the start of the run."""

    at_s: float
    body: Mapping[str, object]
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one request; times in seconds from ``intended_s``, when it was to be sent."""

    request: TimedRequest
    intended_s: float
    reply: Reply

    @property
    def refused(self) -> bool:
        """Whether the server chose not to serve it: not now (429), or never within its promise."""
        return self.reply.status == HTTP_TOO_MANY_REQUESTS or self.reply.code == RejectReason.IMPOSSIBLE.value

    @property
    def ttft_s(self) -> float | None:
        tokens_s = self.reply.timing.tokens_s
        return tokens_s[0] - self.intended_s if tokens_s else None

    @property
    def waited_s(self) -> float:
        """Until the first token; if there was none, until nobody waited any more."""
        return self.reply.ended_s - self.intended_s if self.ttft_s is None else self.ttft_s

    @property
    def gaps_s(self) -> list[float]:
        return self.reply.timing.gaps_s

    @property
    def e2e_s(self) -> float | None:
        """Until the last token; None unless the reply is whole."""
        return None if self.reply.error is not None else self.reply.timing.tokens_s[-1] - self.intended_s

    @property
    def slip_s(self) -> float:
        """How late it was sent."""
        return self.reply.timing.sent_s - self.intended_s


@dataclass(frozen=True, slots=True)
class LoadRun:
    """All outcomes, in the order of the schedule. ``cpu_s`` is what sending and reading cost this process."""

    outcomes: tuple[Outcome, ...]
    elapsed_s: float
    cpu_s: float

    @property
    def tokens(self) -> int:
        return sum(len(each.reply.timing.tokens_s) for each in self.outcomes)

    def slip_s(self, share: float) -> float:
        """The percentile of how late requests were sent; 0 if none were."""
        return percentile([each.slip_s for each in self.outcomes] or [0.0], share)


async def open_loop(
    host: str,
    port: int,
    path: str,
    requests: Sequence[TimedRequest],
    *,
    drain_s: float = DRAIN_S,
    sockets_max: int = SOCKETS_MAX,
) -> LoadRun:
    """Send ``requests`` at their times. Replies not whole ``drain_s`` after the last arrival are hung up on.

    With ``sockets_max`` connections open, the next request waits for one to close; it shows in its times.
    """
    start_s, start_cpu_s = time.perf_counter() + LEAD_S, time.process_time()
    ordered = sorted(requests, key=lambda request: request.at_s)
    give_up_s = start_s + (ordered[-1].at_s if ordered else 0.0) + drain_s
    free = asyncio.Semaphore(sockets_max)

    async def send(request: TimedRequest) -> Outcome:
        async with free:
            reply = await exchange(host, port, path, request.body, headers=request.headers, give_up_s=give_up_s)
        return Outcome(request, start_s + request.at_s, reply)

    sent: list[asyncio.Task[Outcome]] = []
    async with asyncio.TaskGroup() as group:
        for request in ordered:
            await asyncio.sleep(max(0.0, start_s + request.at_s - time.perf_counter()))
            sent.append(group.create_task(send(request)))
    elapsed_s = time.perf_counter() - start_s
    return LoadRun(tuple(each.result() for each in sent), elapsed_s, time.process_time() - start_cpu_s)
