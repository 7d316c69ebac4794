"""Which part of a run is measured: where as much is under way as the load means, neither filling up nor draining.

A request's *life* is how long nine in ten take. An open loop has filled up after one life, and from one life before its
end the last requests see less and less company. A closed loop's first requests all began in an empty server: it is
steady after the ramp, and after one life at least.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from headway.bench.loads import ClosedLoop, Load
from headway.bench.record import Outcome, Record
from headway.bench.statistics import nearest_rank

LIFE_SHARE = 0.9
WINDOW_SHARE_MIN = 1 / 3
"""Of the run: a window that is shorter says more about its edges than about the server."""

_NO_LIFE = (Outcome.REFUSED, Outcome.CONNECT, Outcome.CLIENT, Outcome.CUT)


@dataclass(frozen=True, slots=True)
class Window:
    """From ``start_s`` to ``end_s`` of a run. ``warning``: why nothing could be cut; the window is then all of it, with
    the time after the load in which it drains. ``offered_s``: for how long of it requests were to be sent."""

    start_s: float
    end_s: float
    offered_s: float
    warning: str | None = None

    @property
    def span_s(self) -> tuple[float, float]:
        return self.start_s, self.end_s

    @property
    def is_whole(self) -> bool:
        return self.warning is not None


def steady_window(
    load: Load, records: Sequence[Record], *, stopped_s: float | None = None, warm_up_s: float = 0.0
) -> Window:
    """``stopped_s``: when the last request was to be sent, if that was before ``load.seconds``. ``warm_up_s``: cut this
    much at least. Never empty: a run too short for its own cuts is taken whole, with a warning."""
    end_s = load.seconds if stopped_s is None else min(load.seconds, max(0.0, stopped_s))
    life_s = life_of(records)
    ramp_s = (load.ramp_s or 0.0) if isinstance(load, ClosedLoop) else 0.0
    head_s, tail_s = max(life_s, ramp_s, warm_up_s), life_s
    if end_s - tail_s - head_s >= end_s * WINDOW_SHARE_MIN and end_s > 0.0:
        return Window(head_s, end_s - tail_s, end_s - tail_s - head_s)
    seconds = (head_s + tail_s) / (1.0 - WINDOW_SHARE_MIN)
    whole_s = max([end_s, 1e-9, *(each.ended_s for each in records)])
    return Window(
        0.0,
        whole_s,
        end_s or whole_s,
        f"too short for a steady window: {end_s:.3g} s, of which {head_s:.3g} s fill up and {tail_s:.3g} s drain; "
        f"all of it was measured. Run it for {seconds:.3g} s or longer",
    )


def life_of(records: Sequence[Record]) -> float:
    """How long 90 % of the requests that were worked on take, from when they were to be sent; 0 if there are none."""
    lives = sorted(each.ended_s - each.intended_s for each in records if each.outcome not in _NO_LIFE)
    return max(0.0, nearest_rank(lives, LIFE_SHARE)) if lives else 0.0
