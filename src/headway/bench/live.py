"""What is seen while a level runs: how far it is, what came of the requests, and p95 against the targets just now.

On a terminal one table that is drawn over; elsewhere a line every few seconds. It costs what ``GAPS_A_RECORD`` and
``FRAMES_A_SECOND`` allow, whatever the load.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live as Screen
from rich.table import Table
from rich.text import Text

from headway.bench.judge import GOOD, Judge
from headway.bench.record import Outcome, Record
from headway.bench.report.wording import NONE, duration, number, share
from headway.policy.slo import NO_PROMISE, Objective

LAST_S = 10
"""What "just now" is."""
FRAMES_A_SECOND = 2.0
LINE_EVERY_S = 5.0
GAPS_A_RECORD = 32
"""Of a long reply so many gaps, evenly spread, are taken for the p95 shown; the run's figures take all."""
CLASSES_MAX = 8

_SHORTEST_S = 1e-5
_GROWTH = math.log(1.03)
_BUCKETS = 600
"""Of 3 % each: from 10 µs to about 500 s."""


class _Recent:
    """p95 over the last ``LAST_S`` seconds, to the width of a bucket."""

    def __init__(self) -> None:
        self._seconds: deque[tuple[int, dict[int, int]]] = deque()

    def add(self, at_s: float, value_s: float, weight: int = 1) -> None:
        bucket = min(_BUCKETS, max(0, math.ceil(math.log(max(value_s, _SHORTEST_S) / _SHORTEST_S) / _GROWTH)))
        second = int(at_s)
        if not self._seconds or self._seconds[-1][0] < second:
            self._seconds.append((second, {}))
            self.forget(at_s)
        counts = self._seconds[-1][1]
        counts[bucket] = counts.get(bucket, 0) + weight

    def forget(self, now_s: float) -> None:
        while self._seconds and self._seconds[0][0] < now_s - LAST_S:
            self._seconds.popleft()

    def p95_s(self) -> float | None:
        total: dict[int, int] = {}
        for _, counts in self._seconds:
            for bucket, count in counts.items():
                total[bucket] = total.get(bucket, 0) + count
        left = math.ceil(0.95 * sum(total.values()))
        for bucket in sorted(total):
            left -= total[bucket]
            if left <= 0:
                return _SHORTEST_S * math.exp(bucket * _GROWTH)
        return None


class _ClassNow:
    def __init__(self, objective: Objective) -> None:
        self.objective = objective
        self.ended = 0
        self.good = 0
        self.ttft = _Recent()
        self.itl = _Recent()


class Live:
    """Progress of one level. ``objectives`` by service class, ``default`` for others; ``seconds``: how long it takes.

    ``add`` takes each record as it comes, ``tick`` draws if it is time to. As a context manager, it leaves the last
    state on the terminal.
    """

    def __init__(
        self,
        console: Console,
        level_name: str,
        objectives: Mapping[str, Objective],
        seconds: float,
        *,
        default: Objective = NO_PROMISE,
        title: str = "",
    ) -> None:
        self._console = console
        self._name = f"{title}  {level_name}".strip()
        self._judge = Judge(objectives, default)
        self._seconds = seconds
        self._classes: dict[str, _ClassNow] = {}
        self._outcomes = dict.fromkeys(Outcome, 0)
        self._tokens: deque[tuple[int, int]] = deque()
        self._slip_s = 0.0
        self._drawn_s = -math.inf
        self._now_s = 0.0
        self._screen: Screen | None = None

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._screen = Screen(self._table(), console=self._console, auto_refresh=False, transient=False)
            self._screen.start()
        else:
            self._console.print(f"{self._name}: {round(self._seconds, 1):g} s", highlight=False, markup=False)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._screen is not None:
            self._screen.update(self._table(), refresh=True)
            self._screen.stop()
            self._screen = None
        elif self._drawn_s < self._now_s:
            self._print_line()

    def add(self, record: Record) -> None:
        self._outcomes[record.outcome] += 1
        self._slip_s = max(self._slip_s * 0.99, record.slip_s)
        self._count_tokens(record)
        state = self._state_of(record.service_class)
        verdict = self._judge(record)
        state.ended += verdict is not None
        state.good += verdict == GOOD
        if (ttft_s := record.ttft_s) is not None:
            state.ttft.add(record.ended_s, ttft_s)
        stride = max(1, math.ceil((len(record.chunk_s) - 1) / GAPS_A_RECORD))
        for at in range(1, len(record.chunk_s), stride):
            if tokens := record.chunk_tokens[at]:
                state.itl.add(record.ended_s, (record.chunk_s[at] - record.chunk_s[at - 1]) / tokens, tokens)

    def tick(self, now_s: float) -> None:
        """``now_s``: since the level's start."""
        self._now_s = now_s
        every_s = LINE_EVERY_S if self._screen is None else 1.0 / FRAMES_A_SECOND
        if now_s - self._drawn_s < every_s:
            return
        self._drawn_s = now_s
        if self._screen is not None:
            self._screen.update(self._table(), refresh=True)
        else:
            self._print_line()

    def _state_of(self, name: str) -> _ClassNow:
        if name not in self._classes and len(self._classes) >= CLASSES_MAX:
            name = "others"
        return self._classes.setdefault(name, _ClassNow(self._judge.objective(name)))

    def _count_tokens(self, record: Record) -> None:
        second = int(record.ended_s)
        if self._tokens and self._tokens[-1][0] >= second:
            self._tokens[-1] = (self._tokens[-1][0], self._tokens[-1][1] + record.tokens)
        else:
            self._tokens.append((second, record.tokens))

    def _counts(self) -> str:
        counts = self._outcomes
        failed = sum(counts.values()) - counts[Outcome.OK] - counts[Outcome.REFUSED] - counts[Outcome.CUT]
        return f"{counts[Outcome.OK]} ok, {counts[Outcome.REFUSED]} refused, {failed} failed"

    def _client(self) -> str:
        while self._tokens and self._tokens[0][0] <= self._now_s - LAST_S:
            self._tokens.popleft()
        lasting_s = max(1.0, min(float(LAST_S), self._now_s))
        rate = number(round(sum(count for _, count in self._tokens) / lasting_s))
        return f"{rate} tokens/s, sends {duration(self._slip_s)} late"

    def _elapsed(self) -> str:
        if self._now_s > self._seconds + 1.0:
            return f"{self._seconds:.0f} s and {self._now_s - self._seconds:.0f} s for the last replies"
        return f"{min(self._now_s, self._seconds):.0f} of {self._seconds:.0f} s"

    def _rows(self) -> list[tuple[str, Text, Text, str]]:
        """Class, p95 TTFT and ITL against their targets, share in SLO."""
        rows = []
        for name, state in self._classes.items():
            ttft = _against(state.ttft, state.objective.ttft_s, self._now_s)
            itl = _against(state.itl, state.objective.itl_s, self._now_s)
            kept = NONE if state.objective.is_empty or not state.ended else share(state.good / state.ended)
            rows.append((name or "all", ttft, itl, kept))
        return rows

    def _line(self) -> str:
        rows = [f"{name}: p95 TTFT {ttft}, ITL {itl}, in SLO {kept}" for name, ttft, itl, kept in self._rows()]
        return "; ".join([f"{self._elapsed()}: {self._counts()}", self._client(), *rows])

    def _print_line(self) -> None:
        self._console.print(self._line(), highlight=False, markup=False, soft_wrap=True)

    def _table(self) -> RenderableType:
        done = min(1.0, self._now_s / self._seconds) if self._seconds else 1.0
        bar = "━" * round(20 * done)
        head = Text.assemble((self._name, "bold"), "  ", (bar, "cyan"), ("━" * (20 - len(bar)), "dim"))
        head.append(f"  {self._elapsed()}")
        table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
        for column in (f"last {LAST_S} s", "p95 TTFT", "p95 ITL", "in SLO so far"):
            table.add_column(column, no_wrap=True)
        for name, ttft, itl, kept in self._rows():
            table.add_row(Text(name), ttft, itl, kept)
        return Group(head, Text(f"{self._counts()}; {self._client()}"), table)


def _against(recent: _Recent, target_s: float | None, now_s: float) -> Text:
    recent.forget(now_s)
    p95_s = recent.p95_s()
    if target_s is None or p95_s is None:
        return Text(duration(p95_s))
    return Text(f"{duration(p95_s)} / {duration(target_s)}", style="green" if p95_s <= target_s else "red")
