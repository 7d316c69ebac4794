"""What the server measures about itself.

TTFT runs from the last byte of the request to the first token written out; ITL is the gap between two tokens of one
stream as written out (when several go out in one write, the gap is shared among them); end to end is from the last
byte of the request to the last token. Label values come from closed sets, whatever clients send.

All ``record_`` methods are called on the event loop.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable

from headway.serve.histogram import Histogram
from headway.serve.reply import Reply

_GAP_BOUNDS = (
    *(0.001, 0.0025, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.075, 0.1, 0.125, 0.15, 0.2, 0.3),
    *(0.5, 0.75, 1.0, 2.5, 5.0, 10.0),
)
_WAIT_BOUNDS = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.5),
    *(2.0, 2.5, 4.0, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0, 160.0, 320.0, 640.0),
)
_LAG_BOUNDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)


class Telemetry:
    """Counts and latencies of one server."""

    def __init__(self) -> None:
        self.responses: Counter[tuple[str, int]] = Counter()
        """Replies by route and status."""
        self.outcomes: Counter[tuple[str, str]] = Counter()
        """Generation requests by route and outcome: a finish reason, or the code of an error."""
        self.first_token = Histogram(_WAIT_BOUNDS)
        self.token_gap = Histogram(_GAP_BOUNDS)
        self.token_mean = Histogram(_GAP_BOUNDS)
        self.end_to_end = Histogram(_WAIT_BOUNDS)
        self.queue = Histogram(_WAIT_BOUNDS)
        self.loop_lag = Histogram(_LAG_BOUNDS)
        self.loop_lag_max_s = 0.0
        self.tokens_out = 0

    def record_reply(self, reply: Reply, now: float) -> None:
        """A reply that succeeded."""
        self.end_to_end.observe(now - reply.received_s)
        for choice in reply.build.choices:
            if choice.output_tokens > 1 and choice.first_out_s is not None and choice.last_out_s is not None:
                self.token_mean.observe((choice.last_out_s - choice.first_out_s) / (choice.output_tokens - 1))

    def record_lag(self, lag_s: float) -> None:
        self.loop_lag.observe(lag_s)
        self.loop_lag_max_s = max(self.loop_lag_max_s, lag_s)


class LagMonitor:
    """Measures how late the event loop calls a timer, which is how long something held it up."""

    INTERVAL_S = 0.02

    def __init__(self, record: Callable[[float], None]) -> None:
        self._record = record
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self.INTERVAL_S, self._tick, loop, loop.time() + self.INTERVAL_S)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _tick(self, loop: asyncio.AbstractEventLoop, due_s: float) -> None:
        now = loop.time()
        self._record(max(0.0, now - due_s))
        self._timer = loop.call_later(self.INTERVAL_S, self._tick, loop, now + self.INTERVAL_S)
