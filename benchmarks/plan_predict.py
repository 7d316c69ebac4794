"""What the planner says of a point: its closed formulas, told in the terms in which the point was measured."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

from benchmarks.plan_names import gpu_name
from benchmarks.plan_point import Load, Metric, Point
from headway.plan.catalogue import find_gpu
from headway.plan.engine import UNCALIBRATED, Calibration, Engine
from headway.plan.engines import find_engine
from headway.plan.errors import PlanError
from headway.plan.gpu import Gpu
from headway.plan.known_models import find_model
from headway.plan.model import ModelShape
from headway.plan.setup import Setup
from headway.plan.steady import (
    Steady,
    batch_prefill_s,
    closed_loop,
    decode_s,
    low_load_ttft_s,
    max_batch,
    max_throughput,
    static_batch,
)
from headway.plan.steptime import GpuMachine, machine

LITTLE_ROUNDS = 30
"""Of the fixed point that says how many requests of an open loop are under way."""


class Unpredictable(Exception):
    """Why there is no prediction: a reason that many points can share."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """``value`` in the point's unit. ``round_s`` is a time that takes ``steps`` steps, which calibration is fitted to:
    with the point's own value it is ``measured_round_s``."""

    value: float
    steps: float
    round_s: float
    setup: Setup
    weight_share: float

    def measured_round_s(self, point: Point) -> float:
        """``round_s`` as it would have been for the point's measured value."""
        if point.metric is Metric.THROUGHPUT:
            return self.round_s * self.value / point.value
        return self.round_s * point.value / self.value


Adjust = Callable[[Engine], Engine]


class Predictor:
    """``adjust`` changes engines' constants; ``calibration`` applies to all points it is asked for."""

    def __init__(self, catalogue: Mapping[str, Gpu], *, adjust: Adjust | None = None) -> None:
        self._catalogue = catalogue
        self._adjust = adjust

    def setup(self, point: Point, calibration: Calibration = UNCALIBRATED) -> Setup:
        """Raises ``Unpredictable`` for a model, GPU or engine that the planner doesn't know."""
        try:
            gpu = find_gpu(gpu_name(point.gpu), self._catalogue)
        except PlanError:
            raise Unpredictable(f"GPU not in the catalogue: {point.gpu}") from None
        try:
            engine = find_engine(point.engine)
        except PlanError:
            raise Unpredictable(f"engine not known: {point.engine}") from None
        if self._adjust is not None:
            engine = self._adjust(engine)
        if point.is_bare:
            engine = replace(engine, request_s=0.0)
        return Setup(
            model=_model(point.model),
            gpu=gpu,
            engine=engine,
            tp=point.tp,
            replicas=point.replicas,
            precision=point.precision,
            kv_precision=point.kv_precision,
            calibration=calibration,
        )

    def predict(self, point: Point, calibration: Calibration = UNCALIBRATED) -> Prediction:
        """Raises ``Unpredictable``."""
        setup = self.setup(point, calibration)
        try:
            on = machine(setup, point.max_step_tokens)
            value, steps, round_s = _PREDICT[point.load](on, point)
        except PlanError as error:
            raise Unpredictable(f"refused by the planner: {_shared(str(error))}") from None
        if not (math.isfinite(value) and value > 0.0):
            raise Unpredictable("the planner's figure is not above zero")
        return Prediction(value, steps, round_s, setup, on.memory.weight_share)


def _shared(text: str) -> str:
    for part in ("doesn't fit", "doesn't hold one sequence", "doesn't compute in", "divide", "joins"):
        if part in text:
            return f"... {part} ..."
    return text


@lru_cache(maxsize=512)
def _model(name: str) -> ModelShape:
    try:
        return find_model(name)
    except PlanError:
        raise Unpredictable(f"model not known: {name}") from None


Answer = tuple[float, float, float]
"""The value, and a time with the number of steps it takes."""


def _static(on: GpuMachine, point: Point) -> Answer:
    assert point.batch is not None
    batch, isl, osl = math.ceil(point.batch / point.replicas), round(point.isl), round(point.osl)
    if point.metric in (Metric.TTFT, Metric.PREFILL):
        if point.is_bare or batch > 1:
            seconds = batch_prefill_s(on, batch, isl)
        else:
            seconds = low_load_ttft_s(on, isl)
        return seconds, max(1.0, batch * isl / on.max_step_tokens), seconds
    if point.metric in (Metric.TPOT, Metric.GAP):
        seconds = decode_s(on, batch, isl + osl / 2)
        return seconds, 1.0, seconds
    e2e_s = _static_e2e_s(on, batch, isl, osl)
    steps = osl * e2e_s / _static_e2e_s(on, min(batch, _held(on, isl, osl)), isl, osl)
    if point.metric is Metric.E2E:
        return e2e_s, steps, e2e_s
    return point.batch * osl / e2e_s, steps, e2e_s


def _held(on: GpuMachine, isl: int, osl: int) -> int:
    return max(1, math.floor(max_batch(on, isl + osl, 0)))


def _static_e2e_s(on: GpuMachine, batch: int, isl: int, osl: int) -> float:
    """A batch that the KV cache doesn't hold runs as batches of what it holds, one after the other."""
    held = _held(on, isl, osl)
    if batch <= held:
        return static_batch(on, batch, isl, osl).e2e_s
    return batch / held * static_batch(on, held, isl, osl).e2e_s


def _closed(on: GpuMachine, point: Point) -> Answer:
    assert point.batch is not None
    concurrency, isl, osl = max(1.0, point.batch / point.replicas), round(point.isl), round(point.osl)
    steady = closed_loop(on, concurrency, isl, osl)
    return _of_steady(on, point, steady, concurrency)


def _of_steady(on: GpuMachine, point: Point, steady: Steady, concurrency: float) -> Answer:
    isl, osl = round(point.isl), round(point.osl)
    match point.metric:
        case Metric.THROUGHPUT:
            return steady.output_tokens_s * point.replicas, 1.0, steady.decoding / steady.output_tokens_s
        case Metric.GAP:
            seconds = decode_s(on, steady.decoding, isl + osl / 2)
            return seconds, 1.0, seconds
        case Metric.TPOT:
            return steady.tpot_s, 1.0, steady.tpot_s
        case Metric.E2E:
            return steady.e2e_s, float(osl), steady.e2e_s
        case Metric.TTFT | Metric.PREFILL:
            seconds = steady.ttft_s
            if point.burst:
                seconds += point.burst * (_burst_ttft_s(on, math.ceil(concurrency), isl) - seconds)
            return seconds, max(1.0, isl / on.max_step_tokens), seconds


def _burst_ttft_s(on: GpuMachine, requests: int, isl: int) -> float:
    """Mean over requests that come at once to an idle replica: a prompt waits for those before it."""
    steps = math.ceil(requests * isl / on.max_step_tokens)
    each_s = batch_prefill_s(on, requests, isl) / steps
    done = sum(math.ceil(count * isl / on.max_step_tokens) for count in range(1, requests + 1)) / requests
    return on.setup.engine.request_s + done * each_s


def _maximum(on: GpuMachine, point: Point) -> Answer:
    if point.metric is not Metric.THROUGHPUT:
        raise Unpredictable("latency at maximum load: needs a simulated queue")
    steady = max_throughput(on, round(point.isl), round(point.osl), point.batch)
    return steady.output_tokens_s * point.replicas, 1.0, steady.decoding / steady.output_tokens_s


def _open(on: GpuMachine, point: Point) -> Answer:
    """Means over stages, weighted by their requests; in each, Little's law says how many are under way."""
    answers = [(_at_rate(on, point, rate / point.replicas), rate * seconds) for rate, seconds in point.rates]
    weight = sum(each for _, each in answers)
    parts = zip(*(answer for answer, _ in answers), strict=True)
    value, steps, round_s = (
        sum(part * each for part, (_, each) in zip(column, answers, strict=True)) / weight for column in parts
    )
    return value, steps, round_s


def _at_rate(on: GpuMachine, point: Point, rate: float) -> Answer:
    isl, osl = round(point.isl), round(point.osl)
    most = min(max_batch(on, isl, osl), on.setup.engine.max_sequences, point.batch or math.inf)
    under_way = 1.0
    for _ in range(LITTLE_ROUNDS):
        steady = closed_loop(on, max(1.0, under_way), isl, osl)
        if rate * steady.e2e_s > most:
            raise Unpredictable("arrivals at a rate over capacity, or bursts: needs a simulated queue")
        under_way = 0.5 * (under_way + rate * steady.e2e_s)
    return _of_steady(on, point, steady, max(1.0, under_way))


_PREDICT: dict[Load, Callable[[GpuMachine, Point], Answer]] = {
    Load.STATIC: _static,
    Load.CLOSED: _closed,
    Load.MAXIMUM: _maximum,
    Load.OPEN: _open,
}
