"""A published measurement as the planner understands it: one row of a table of points, in its own terms."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from headway.plan.precision import Precision


class Metric(StrEnum):
    TTFT = "ttft"  # seconds from a request to its first token
    PREFILL = "prefill"  # seconds in which a whole batch of prompts is computed
    TPOT = "tpot"  # seconds a token after the first, the mean over a request
    GAP = "gap"  # seconds of the median gap: a step without a prompt in it
    E2E = "e2e"  # seconds of a whole request, or of a whole static batch
    THROUGHPUT = "throughput"  # output tokens a second of all GPUs together


class Load(StrEnum):
    STATIC = "static"  # one batch of equal requests: they start and end together
    CLOSED = "closed"  # always so many requests, each followed by the next
    MAXIMUM = "maximum"  # as many as the engine takes
    OPEN = "open"  # at a rate


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """``line``: of the file. ``batch``: of a static batch, concurrency of a closed loop, or the most sequences that the
    engine was allowed at maximum load (None: its own limit). ``rates``: (requests a second, seconds) of open loops.

    ``is_bare``: an engine without a server around it, or its offline loop: no HTTP. ``burst``: closed loops begin with
    all its users' requests at once; the share of all its requests that those were, None where that is not stated.
    ``is_modern``: an engine of 2024 or later (``plan_names.engine_year`` says how that is decided).
    """

    line: int
    source: str
    engine: str
    version: str
    model: str
    gpu: str
    gpus: int
    tp: int
    precision: Precision
    kv_precision: Precision
    load: Load
    batch: int | None
    isl: float
    osl: float
    metric: Metric
    value: float
    is_modern: bool
    is_bare: bool = False
    burst: float | None = 0.0
    rates: tuple[tuple[float, float], ...] = ()
    max_step_tokens: int | None = None
    note: str = ""

    @property
    def replicas(self) -> int:
        return max(1, self.gpus // self.tp)

    @property
    def setting(self) -> tuple[str, str, str, str, int, Precision, Precision]:
        """What one calibration is for: the same source, engine, GPU, model, parallelism and number formats."""
        return (self.source, self.engine, self.gpu, self.model, self.tp, self.precision, self.kv_precision)


@dataclass(frozen=True, slots=True)
class Skipped:
    """A row that is not predicted, and why: a reason that many rows can share."""

    line: int
    source: str
    reason: str
