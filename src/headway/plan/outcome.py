"""What a plan is: the form that is shown, written as JSON, and drawn. Plain values: seconds, bytes, US dollars."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

import msgspec

from headway.plan.errors import PlanError

SCHEMA = "headway.plan/"
SCHEMA_VERSION = 1


class Figure(msgspec.Struct, frozen=True):
    """A simulated value; ``low`` to ``high`` hold it over other draws of the load, at 90 % (Student's t over seeds).
    None where one seed can't tell. The model's own error is another thing: see ``Trust``."""

    value: float
    low: float | None = None
    high: float | None = None


class BandRecord(msgspec.Struct, frozen=True):
    """90 % of measured values lie from ``low`` to ``high`` times the prediction, by ``source``."""

    low: float
    high: float
    source: str


class Trust(msgspec.Struct, frozen=True, kw_only=True):
    """How far the hardware model is right here. ``level``: "supported", "fragile" or "not supported"."""

    level: str
    reasons: tuple[str, ...] = ()
    tpot: BandRecord | None = None
    throughput: BandRecord | None = None
    ttft: BandRecord | None = None


class PromiseRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What a class is promised at p95, in seconds; None: nothing of this kind. ``share``: of the requests."""

    service_class: str
    share: float
    ttft_s: float | None = None
    itl_s: float | None = None
    e2e_s: float | None = None


class LoadRecord(msgspec.Struct, frozen=True, kw_only=True):
    """``name`` as it was written. Means are over a sample of the requests that were simulated."""

    name: str
    description: str
    rate: float
    prompt_tokens_mean: float
    prompt_tokens_p95: float
    output_tokens_mean: float
    output_tokens_p95: float
    shares_prefixes: bool
    promises: tuple[PromiseRecord, ...]
    notes: tuple[str, ...] = ()


class ModelRecord(msgspec.Struct, frozen=True, kw_only=True):
    """Parameters are None where a server's step times alone are known."""

    name: str
    parameters: float | None = None
    active_parameters: float | None = None
    context_tokens: int
    source: str = ""


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """``target``: share of the offered requests of each class that must be in SLO. ``requests``: arrivals in one
    simulated run of one seed. ``calibration``: what it was measured on, or None for data sheets alone."""

    model: ModelRecord
    load: LoadRecord
    gpus: tuple[str, ...]
    max_gpus: int
    precisions: tuple[str, ...]
    engine: str
    policy: str
    router: str
    target: float
    seeds: int
    requests: int
    calibration: str | None = None


class PriceRecord(msgspec.Struct, frozen=True):
    """For one GPU."""

    usd_per_hour: float
    provider: str
    date: str | None


class MemoryRecord(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes of one GPU, and tokens that one replica's KV cache holds."""

    gpu_bytes: float
    weight_bytes: float
    activation_bytes: float
    other_bytes: float
    kv_bytes: float
    kv_tokens: int


class ClassForecast(msgspec.Struct, frozen=True, kw_only=True):
    """Of the requests of one class; None where there was no value. ``itl`` is over gaps, the others over requests.
    ``refused``: share of the offered requests that were turned away."""

    service_class: str
    offered: int
    attainment: Figure
    refused: float
    ttft_p50_s: Figure | None = None
    ttft_p95_s: Figure | None = None
    ttft_p99_s: Figure | None = None
    itl_p50_s: Figure | None = None
    itl_p95_s: Figure | None = None
    itl_p99_s: Figure | None = None
    e2e_p50_s: Figure | None = None
    e2e_p95_s: Figure | None = None
    e2e_p99_s: Figure | None = None


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """What one replica does, on average over the run. ``busy``: share of the time in which a step runs. ``kv_peak``:
    largest share of the KV cache in use. ``parts``: shares of the steps' time by what they are spent on."""

    busy: float
    batch: float
    batch_peak: int
    step_tokens: float
    kv_mean: float
    kv_peak: float
    prefix_hits: float
    parts: dict[str, float]


class Forecast(msgspec.Struct, frozen=True, kw_only=True):
    """A set-up under a load. ``keeps``: every class that is promised something has attainment at the target.
    ``is_beyond``: the load is above what closed formulas allow for long, so that it is not kept, whatever a run of some
    minutes shows. ``tokens_per_s``: output tokens of all replicas together. ``user_tokens_per_s``: of the median
    request, after its first token."""

    rate: float
    replicas: int
    keeps: bool
    attainment: Figure
    classes: tuple[ClassForecast, ...]
    tokens_per_s: Figure
    prompt_tokens_per_s: float
    user_tokens_per_s: float
    usage: Usage
    is_beyond: bool = False


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """One replica at one load of its own, as tried while its capacity was sought."""

    rate: float
    attainment: float
    keeps: bool
    tokens_per_s_per_gpu: float
    user_tokens_per_s: float
    ttft_p95_s: float | None
    itl_p95_s: float | None


class Binding(msgspec.Struct, frozen=True, kw_only=True):
    """What keeps one replica from taking more. ``resource``: a short name ("decode bandwidth", "prefill compute", "KV
    memory", ...). ``promise``: the part that would be broken first ("ttft", "itl", "e2e"), where that can be told.
    ``said``: one line for people."""

    resource: str
    promise: str | None
    said: str


class Option(msgspec.Struct, frozen=True, kw_only=True):
    """A set-up that keeps the promise at the load. ``capacity``: requests a second that one replica keeps (at least,
    if ``is_at_least``: more was not tried); ``fits_until``: that all keep together, and ``_low`` to ``_high`` if the
    model is off by its band. ``sure``: it keeps the load where all steps are as slow as that. Dollars are None without
    a price. ``points``: in order of rate. ``memory`` is None, and formats are empty, for a machine of which step times
    alone are known."""

    gpu: str
    gpu_title: str
    tp: int
    replicas: int
    precision: str
    kv_precision: str
    capacity: Figure
    is_at_least: bool = False
    fits_until: float
    fits_until_low: float | None
    fits_until_high: float | None
    sure: bool
    forecast: Forecast
    binding: Binding
    trust: Trust
    memory: MemoryRecord | None
    points: tuple[Point, ...]
    price: PriceRecord | None = None
    usd_per_hour: float | None = None
    usd_per_million_output_tokens: float | None = None
    usd_per_million_tokens: float | None = None
    power_w: float | None = None
    notes: tuple[str, ...] = ()

    @property
    def gpus(self) -> int:
        return self.tp * self.replicas


class Why(StrEnum):
    NO_MEMORY = "does not fit"
    UNSUPPORTED = "not supported"
    TOO_SLOW = "too slow"  # the promise is broken at the lowest load
    TOO_MANY = "too many GPUs"
    DEARER = "dearer"  # not simulated: the closest bound on its cost is above what was found


class Rejected(msgspec.Struct, frozen=True, kw_only=True):
    """A set-up that is no answer, and why; ``gpus``: the fewest that could do, where known. ``part`` of a promise is
    ``least_s`` at the least on an idle replica, where that is why."""

    gpu: str
    gpu_title: str
    tp: int
    precision: str
    why: Why
    reason: str
    gpus: int | None = None
    usd_per_hour: float | None = None
    part: str | None = None
    least_s: float | None = None


class FrontPoint(msgspec.Struct, frozen=True, kw_only=True):
    """A point of the Pareto front: no other has more tokens a second both per GPU and per user. By closed formulas for
    a replica that ``concurrency`` requests of mean length keep busy; ``rate``: requests a second that it then ends."""

    gpu: str
    tp: int
    precision: str
    concurrency: int = 0
    rate: float
    tokens_per_s_per_gpu: float
    user_tokens_per_s: float
    usd_per_million_output_tokens: float | None


class WhatIf(msgspec.Struct, frozen=True, kw_only=True):
    """``asked`` as written, as "rate=2x". ``winner``: the best set-up under that load or promise; None: it could not
    be simulated. ``needed``: the cheapest set-up that would keep it, of the same catalogue; None: none does.
    ``said``: one line for people."""

    asked: str
    load: LoadRecord
    winner: Forecast | None
    keeps: bool
    needed: Option | None
    said: str


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """What the search took."""

    wall_s: float
    cpu_s: float
    processes: int
    considered: int
    simulated_requests: int


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """``options``: those that keep the promise, the cheapest first. ``best_effort``: where there is none, one line on
    what comes closest. ``notes``: what whoever reads this must know."""

    schema: str = f"{SCHEMA}{SCHEMA_VERSION}"
    headway: str = ""
    made_at: str = ""
    asked: Asked
    options: tuple[Option, ...]
    front: tuple[FrontPoint, ...]
    rejected: tuple[Rejected, ...]
    what_ifs: tuple[WhatIf, ...] = ()
    best_effort: str | None = None
    notes: tuple[str, ...] = ()
    cost: Cost

    @property
    def best(self) -> Option | None:
        return self.options[0] if self.options else None


class _Head(msgspec.Struct):
    schema: str


def to_json(plan: Plan) -> bytes:
    return msgspec.json.format(msgspec.json.encode(plan), indent=1) + b"\n"


def from_json(data: bytes, source: str = "it") -> Plan:
    """Raises ``PlanError``, naming ``source``, for anything but a plan of a schema that is known here."""
    try:
        schema = msgspec.json.decode(data, type=_Head).schema
    except msgspec.MsgspecError:
        raise PlanError(f"{source} is no plan: it is not JSON with a schema") from None
    version = schema.removeprefix(SCHEMA)
    if not schema.startswith(SCHEMA) or not version.isdecimal():
        raise PlanError(f"{source} is no plan: its schema is {schema[:64]!r}")
    if int(version) > SCHEMA_VERSION:
        raise PlanError(f"{source} was written by a newer Headway (schema {version}; this one reads {SCHEMA_VERSION})")
    try:
        return msgspec.json.decode(data, type=Plan)
    except msgspec.MsgspecError as error:
        raise PlanError(f"{source} is a damaged plan: {error}") from None


def read_plan(path: Path) -> Plan:
    """Raises ``PlanError``."""
    try:
        return from_json(path.read_bytes(), str(path))
    except OSError as error:
        raise PlanError(f"{path}: {error.strerror or error}") from None
