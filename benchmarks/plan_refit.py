"""What the planner fits, fitted again without a source or a GPU: what is left of its accuracy if none of the points it
is judged by had a say in its constants.

Free are, for each engine of today, seconds a layer, a step, a sequence and a request, its factor on all-reduces and
TensorRT-LLM's memory besides; for the GPUs whose serving rates were fitted, the shares of the peak that matrix products
reach; and the bandwidth of all-reduces over PCIe. The search starts from what short measurements say (``MEASURED``,
``L40S``) and from constants that were set by hand before any point was looked at (``Constants()``, ``PCIE``). It takes
one constant after the other from a few values, by the least median error of the points that are left in.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from benchmarks.plan_predict import Predictor, Unpredictable
from benchmarks.plan_scores import Figure, Scored
from headway.plan.catalogue import find_gpu
from headway.plan.engine import Engine
from headway.plan.gpu import AllReduce, Gemm, Gpu
from headway.plan.precision import Precision

FIGURES = (Figure.TPOT, Figure.THROUGHPUT, Figure.STATIC_E2E, Figure.TTFT)
LEAST = 10
"""Points of an engine that must be left to choose by; with fewer it keeps what the search starts from."""
ROUNDS = 2


@dataclass(frozen=True, slots=True)
class Constants:
    """Of an engine: microseconds a layer, milliseconds a step, microseconds a sequence, milliseconds a request.
    ``other_gb``: of TensorRT-LLM alone; others' is from the KV blocks that they report."""

    layer_us: float = 12.0
    step_ms: float = 0.4
    sequence_us: float = 2.0
    request_ms: float = 10.0
    all_reduce: float = 1.0
    other_gb: float = 1.5

    def of(self, engine: Engine) -> Engine:
        return replace(
            engine,
            layer_s=self.layer_us * 1e-6,
            step_s=self.step_ms * 1e-3,
            sequence_s=self.sequence_us * 1e-6,
            request_s=self.request_ms * 1e-3,
            all_reduce=self.all_reduce,
            other_bytes=self.other_gb * 1e9 if engine.name.startswith("trtllm") else engine.other_bytes,
        )


@dataclass(frozen=True, slots=True)
class Rates:
    """Factors on the measured computing shares of bf16 and fp8 products, and what is added to the exponent of fp8.
    ``pcie``: share of the link's bandwidth that all-reduces reach; None: what was measured or set by hand."""

    bf16: float = 1.0
    fp8: float = 1.0
    fp8_p: float = 0.0
    pcie: float | None = None


START = Constants()
_HOST = [{"layer_us": layer, "step_ms": step} for layer in (4.0, 12.0, 20.0, 28.0) for step in (0.4, 1.0, 2.0)]
_OTHERS = (
    [{"all_reduce": each} for each in (1.0, 1.5, 2.0)],
    [{"sequence_us": each} for each in (2.0, 7.0, 20.0, 50.0)],
    [{"request_ms": each} for each in (5.0, 10.0, 20.0)],
    [{"other_gb": each} for each in (1.5, 2.5, 3.5, 4.5)],
)
PRODUCTS = [
    {"bf16": bf16, "fp8": fp8, "fp8_p": p}
    for bf16 in (1.0, 0.9, 0.8)
    for fp8, p in ((1.0, 0.0), (1.15, 0.1), (1.3, 0.1))
]
_OVER_PCIE = [{"pcie": each} for each in (None, 0.25, 0.35, 0.45, 0.6)]
PCIE = 0.35
PCIE_START_S = {2: 12e-6, 4: 20e-6, 8: 28e-6}
L40S = AllReduce(start_s={2: 5.6e-6, 4: 14e-6, 8: 27e-6}, bus={2: 20e9, 4: 5e9, 8: 2e9})
"""As aiconfigurator measured it on one host (Apache-2.0, 2026-08)."""
MEASURED: dict[str, dict[Precision, tuple[float, float, float]]] = {
    "h100-sxm": {Precision.BF16: (3.7e-6, 0.816, 3.17), Precision.FP8: (6.6e-6, 0.504, 1.05)},
    "h200-sxm": {Precision.BF16: (4.0e-6, 0.82, 3.3), Precision.FP8: (7.0e-6, 0.526, 1.0)},
    "b200-sxm": {Precision.BF16: (3.6e-6, 0.718, 2.7), Precision.FP8: (7.0e-6, 0.425, 1.17)},
    "l40s": {Precision.FP8: (2.5e-6, 0.535, 1.1)},
}
"""Start, computing share and exponent, fitted on aiconfigurator's measured products (Apache-2.0, 2026-08)."""


def with_rates(gpu: Gpu, rates: Rates) -> Gpu:
    gemm = {
        each: _product(found, each, MEASURED[gpu.name][each], rates) if each in MEASURED.get(gpu.name, {}) else found
        for each, found in gpu.gemm.items()
    }
    link = gpu.link
    if link.kind == "pcie":
        bus = link.bandwidth * (PCIE if rates.pcie is None else rates.pcie)
        shared = AllReduce(start_s=PCIE_START_S, bus=dict.fromkeys(PCIE_START_S, bus))
        link = replace(link, all_reduce=L40S if gpu.name == "l40s" and rates.pcie is None else shared)
    return replace(gpu, gemm=gemm, link=link)


def _product(gemm: Gemm, precision: Precision, measured: tuple[float, float, float], rates: Rates) -> Gemm:
    start_s, compute, p = measured
    if precision is Precision.BF16:
        return replace(gemm, start_s=start_s, compute=compute * rates.bf16, p=p)
    return replace(gemm, start_s=start_s, compute=compute * rates.fp8, p=p + rates.fp8_p)


Fitted = tuple[Rates, Mapping[str, Constants]]


class Refit:
    """Over ``scored`` points; predictions are kept, since many choices are tried for each."""

    def __init__(self, scored: Sequence[Scored], catalogue: Mapping[str, Gpu]) -> None:
        self.scored = scored
        self._gpus = [
            catalogue[each.gpu] if each.gpu in catalogue else find_gpu(each.gpu, catalogue) for each in scored
        ]
        self._kept: dict[tuple[int, Rates, Constants], float | None] = {}

    def left_out(self, key: Callable[[Scored], str]) -> list[Scored]:
        """Every group predicted with constants that were fitted without it."""
        found = []
        for name in sorted({key(each) for each in self.scored}):
            fitted = self.fit([at for at, each in enumerate(self.scored) if key(each) != name])
            for at, each in enumerate(self.scored):
                value = self.value(at, fitted) if key(each) == name else None
                if value is not None:
                    found.append(replace(each, predicted=value))
        return found

    def unfitted(self) -> list[Scored]:
        """With measured rates and constants set by hand: no point had a say in anything."""
        nothing: Fitted = (Rates(), {each.point.engine: START for each in self.scored})
        values = [(each, self.value(at, nothing)) for at, each in enumerate(self.scored)]
        return [replace(each, predicted=value) for each, value in values if value is not None]

    def fit(self, within: Sequence[int]) -> Fitted:
        rates = Rates()
        constants = {each.point.engine: START for each in self.scored}
        for _ in range(ROUNDS):  # rates first: engines' constants would make up for wrong ones, and keep them
            for choices in (PRODUCTS, _OVER_PCIE):
                options = [replace(rates, **each) for each in choices]
                rates = min(options, key=lambda each: self.miss(within, (each, constants)))
            for engine in sorted(constants):
                own = [at for at in within if self.scored[at].point.engine == engine]
                if len(own) >= LEAST:
                    constants[engine] = self._constants(own, rates, constants[engine])
        return rates, constants

    def _constants(self, own: Sequence[int], rates: Rates, constants: Constants) -> Constants:
        engine = self.scored[own[0]].point.engine
        for changes in (_HOST, *_OTHERS):
            choices = [replace(constants, **each) for each in changes]
            constants = min(choices, key=lambda each: self.miss(own, (rates, {engine: each})))
        return constants

    def miss(self, within: Sequence[int], fitted: Fitted) -> float:
        """Mean over figures of the median absolute log ratio, so that a figure with many points does not rule."""
        logs: dict[str, list[float]] = {figure: [] for figure in FIGURES}
        for at in within:
            figure, measured = self.scored[at].figure, self.scored[at].point.value
            value = self.value(at, fitted) if figure in logs else None
            if value is not None:
                logs[figure].append(abs(math.log(value / measured)))
        return (
            statistics.fmean(statistics.median(each) for each in logs.values() if each) if any(logs.values()) else 0.0
        )

    def value(self, at: int, fitted: Fitted) -> float | None:
        rates, point, gpu = fitted[0], self.scored[at].point, self._gpus[at]
        constants = fitted[1][point.engine]
        if gpu.name not in MEASURED:  # then these say nothing of it
            rates = Rates(pcie=rates.pcie)
        if gpu.link.kind != "pcie":
            rates = replace(rates, pcie=None)
        key = (at, rates, constants)
        if key not in self._kept:
            catalogue = {gpu.name: with_rates(gpu, rates)}
            try:
                self._kept[key] = Predictor(catalogue, adjust=constants.of).predict(point).value
            except Unpredictable:
                self._kept[key] = None
        return self._kept[key]
