"""The figures of a run: what is measured, under one name each, in seconds. The formulas are in ``DEFINITIONS``."""

from __future__ import annotations

import msgspec

DEFINITIONS = {
    "ttft": "intended send time to the first token (content, reasoning or tool call)",
    "ttft_sent": "the same from the real send time",
    "ttfo": "intended send time to the first token that is no reasoning",
    "itl": "gap between consecutive tokens of a stream, over all gaps of all requests; a chunk of k tokens is k gaps",
    "chunk_gap": "gap between consecutive chunks, whatever they carry",
    "tpot": "(last token - first token) / (tokens - tokens in the first chunk), one value a request",
    "e2e": "intended send time to the last token",
    "stall": "worst gap of a request",
    "queue": "waiting time that the server reports",
    "attainment": "requests in SLO / requests sent; refused, failed and timed-out ones are misses",
    "goodput": "requests in SLO a second of the window, as far as requests were to be sent in it",
    "throughput": "output tokens that came in the window, a second",
}


class Quantiles(msgspec.Struct, kw_only=True, frozen=True):
    """Exact (nearest rank) over ``n`` values. ``p95_low`` to ``p95_high``: 95 % interval of p95 by order statistics;
    None where ``n`` is too small to bound that side.

    ``p95_with_misses``: p95 if every request without a value had an infinite one; None: it is infinite. For figures
    that have one value a request.
    """

    n: int
    mean: float
    p50: float
    p90: float
    p95: float
    p99: float
    max: float
    p95_low: float | None = None
    p95_high: float | None = None
    p95_with_misses: float | None = None


class ClassFigures(msgspec.Struct, kw_only=True):
    """Of one class, or of all together (``name`` is then empty). Counts are of requests intended in the window.

    ``misses``: those not in SLO by cause: an ``Outcome``, or ``ttft``, ``itl``, ``e2e``: the first part broken.
    ``attainment_low`` to ``attainment_high``: Wilson 95 % interval. Rates are per second of the window;
    those of requests sent and in SLO per second of it in which requests were to be sent, which is less only where a
    level was too short to be measured but whole.
    """

    name: str
    ttft_target_s: float | None = None
    itl_target_s: float | None = None
    e2e_target_s: float | None = None
    offered: int = 0
    ok: int = 0
    good: int = 0
    misses: dict[str, int] = {}
    attainment: float | None = None
    attainment_low: float | None = None
    attainment_high: float | None = None
    request_rate: float = 0.0
    completed_rate: float = 0.0
    goodput: float = 0.0
    throughput: float = 0.0
    prompt_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int | None = None
    latencies: dict[str, Quantiles] = {}
    """By name in ``DEFINITIONS``; absent without a value. ``itl`` is there only where tokens are counted."""


class ClientHealth(msgspec.Struct, kw_only=True):
    """Whether the client measured the server or itself. ``bound`` says why it was the client; None: it was not.

    ``lag``: how late the event loop woke up. ``cpu_share``: processor time of the busiest process over time.
    """

    processes: int = 1
    slip_p50_s: float = 0.0
    slip_p99_s: float = 0.0
    slip_max_s: float = 0.0
    lag_p99_s: float = 0.0
    lag_max_s: float = 0.0
    cpu_s: float = 0.0
    cpu_share: float = 0.0
    cpu_us_per_token: float | None = None
    bound: str | None = None


class Second(msgspec.Struct, kw_only=True):
    """One point of the timeline: what came in [at_s, at_s + step_s)."""

    at_s: float
    step_s: float = 1.0
    sent: int = 0
    ended: int = 0
    good: int = 0
    refused: int = 0
    failed: int = 0
    tokens: int = 0
    in_flight: int = 0
    ttft_p95_s: float | None = None
    itl_p95_s: float | None = None


class Scraped(msgspec.Struct, kw_only=True):
    """The server's own numbers over time: ``series`` by name (running, waiting, kv_usage, ...), one value for each
    ``at_s``; None where a scrape had no such number."""

    engine: str
    at_s: list[float] = []
    series: dict[str, list[float | None]] = {}


class Level(msgspec.Struct, kw_only=True):
    """One load level of a run: what was asked for, and what came of it. Times in seconds from the level's start.

    ``state``: ``complete``, or ``partial`` (interrupted, or the server went away), with the reason.
    """

    name: str
    """As a person says it: "4 requests/s Poisson", "16 at once"."""
    load: dict[str, object] = {}
    seed: int = 0
    state: str = "complete"
    reason: str | None = None
    elapsed_s: float = 0.0
    window_s: tuple[float, float] = (0.0, 0.0)
    classes: list[ClassFigures] = []
    """The first is of all together."""
    client: ClientHealth = msgspec.field(default_factory=ClientHealth)
    timeline: list[Second] = []
    scraped: Scraped | None = None
    warnings: list[str] = []


class Run(msgspec.Struct, kw_only=True):
    """A run as it is kept and written: ``schema`` changes when a reader would have to."""

    schema: str = "headway.bench/1"
    id: str
    kind: str = "bench"
    started_at: str
    """ISO 8601, UTC."""
    command: str = ""
    note: str = ""
    target: dict[str, object] = {}
    """url, api, model, engine (headway, vllm, sglang, tgi, llama.cpp, unknown), version."""
    workload: dict[str, object] = {}
    machine: dict[str, object] = {}
    versions: dict[str, str] = {}
    definitions: dict[str, str] = msgspec.field(default_factory=DEFINITIONS.copy)
    levels: list[Level] = []
