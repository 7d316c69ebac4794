"""Which call is to be sent when: fixed before the run by the load and the seed, whatever the server makes of it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import msgspec

from headway.bench.arrivals import arrivals
from headway.bench.call import Call
from headway.bench.loads import Load, OpenLoop

TRACE_CALLS_MAX = 20_000
"""Of a trace that is to be stretched to a rate: its own rate is taken from so many calls at most."""


class Planned(msgspec.Struct, kw_only=True):
    """``at_s``: from the start of the run; 0 in a closed loop, where the replies decide."""

    index: int
    at_s: float = 0.0
    call: Call


class Plan:
    """The calls in the order of their times. ``has_run_dry``: there were fewer than the load has time for.

    ``own_rate``: of a trace, if it is known; else its first calls are made to find out. Raises ValueError, when made or
    later, for a trace that has no times.
    """

    def __init__(self, load: Load, calls: Iterator[Call], seed: int, *, own_rate: float | None = None) -> None:
        self.has_run_dry = False
        self._calls = calls
        self._numbers = itertools.count()
        self._seconds = load.seconds if isinstance(load, OpenLoop) else math.inf
        self._times: Iterator[float] | None = None
        self._stretch = 1.0
        if not isinstance(load, OpenLoop):
            self._times = itertools.repeat(0.0)
        elif load.arrivals == "trace":
            if own_rate and load.rate:
                self._stretch = own_rate / load.rate
            else:
                self._calls, self._stretch = _stretched(calls, load.rate)
        elif load.arrivals == "constant":
            self._times = (number / load.rate for number in itertools.count())
        else:
            cv = load.cv if load.arrivals == "gamma" else 1.0
            self._times = iter(arrivals(load.rate, load.seconds, seed=seed, cv=cv))

    def __iter__(self) -> Iterator[Planned]:
        return self

    def __next__(self) -> Planned:
        at_s = 0.0 if self._times is None else next(self._times)
        if at_s >= self._seconds:
            raise StopIteration
        call = next(self._calls, None)
        if call is None:
            self.has_run_dry = True
            raise StopIteration
        if self._times is None:
            at_s = _time_of(call) * self._stretch
            if at_s >= self._seconds:
                raise StopIteration
        return Planned(index=next(self._numbers), at_s=at_s, call=call)


def _stretched(calls: Iterator[Call], rate: float) -> tuple[Iterator[Call], float]:
    """All calls, and what their times are to be multiplied with for them to come at ``rate``."""
    if not rate:
        return calls, 1.0
    known = list(itertools.islice(calls, TRACE_CALLS_MAX))
    span_s = _time_of(known[-1]) - _time_of(known[0]) if known else 0.0
    if span_s <= 0.0:
        raise ValueError("the trace is too short to have a rate: use a rate of 0 for its own times")
    return itertools.chain(known, calls), (len(known) - 1) / span_s / rate


def _time_of(call: Call) -> float:
    if call.at_s is None:
        raise ValueError("the workload has no times of its own: use poisson, constant or gamma arrivals")
    return call.at_s
