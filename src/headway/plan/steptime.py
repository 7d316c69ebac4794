"""Seconds of one step on a GPU, from data sheets and measured rates: matrix products, attention, all-reduces, the rest.

A step holds decodes and chunks of prompts. All its tokens pass the layers' matrix products together; each decode reads
its own context from the KV cache; the tokens of a prompt attend to those before them; GPUs of one replica add up their
results, twice a layer in most models; and the engine adds a constant time per layer, per step and per sequence.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import pairwise

from headway.plan.errors import PlanError
from headway.plan.gpu import Attention, Gemm, Gpu
from headway.plan.links import AllReduceTime, all_reduce
from headway.plan.memory import Memory, memory
from headway.plan.model import Matrix
from headway.plan.precision import Precision
from headway.plan.setup import Setup
from headway.policy.plan import ExecutorInfo
from headway.policy.stepshape import StepShape
from headway.sim.hardware import VOCABULARY

FLAT_GEMM = Gemm(start_s=3e-6, compute=0.7, memory=0.8, p=2.5, assumed=True)
"""For GPUs and formats that nobody measured."""
FLAT_ATTENTION = Attention(start_s=11e-6, decode_memory=0.8, prefill=((512, 0.16), (2048, 0.42), (8192, 0.54)))
ELEMENTWISE_MOVES = 10
"""Times a layer's norms, rotary embedding, activation and residual sums move each token's hidden numbers."""
EXPERT_IMBALANCE = 1.15
"""Rows that the busiest GPU's experts get over the mean. Assumed."""
KEPT_MAX = 1 << 16
"""Numbers of tokens whose times are kept at most."""


def gemm_of(gpu: Gpu, precision: Precision) -> Gemm:
    """Measured rates; for 4-bit floats those of fp8, for integers those of the format they compute as; flat shares at
    last."""
    return next((gpu.gemm[each] for each in _like(precision) if each in gpu.gemm), FLAT_GEMM)


def gemm_is_measured(gpu: Gpu, precision: Precision) -> bool:
    """Whether products of this format, or of one that computes as it does, were measured on the GPU."""
    return not gemm_of(gpu, precision).assumed


def _like(precision: Precision) -> tuple[Precision, ...]:
    return (precision, precision.computes_as, *_LIKE.get(precision, ()))


_LIKE = {Precision.FP4: (Precision.FP8,), Precision.INT8: (Precision.FP8,)}


def peak(gpu: Gpu, precision: Precision) -> float:
    """Operations a second. Raises ``PlanError`` where the GPU has no such units."""
    found = gpu.peaks.get(precision.computes_as)
    if found is None:
        known = ", ".join(gpu.peaks)
        raise PlanError(f"{gpu.title} doesn't compute in {precision}; it does in {known}")
    return found


@dataclass(frozen=True, slots=True)
class Products:
    """Matrix products of one format on one GPU."""

    rates: Gemm
    precision: Precision
    compute: float
    bandwidth: float

    @classmethod
    def on(cls, gpu: Gpu, precision: Precision) -> Products:
        rates = gemm_of(gpu, precision)
        return cls(rates, precision, peak(gpu, precision) * rates.compute, gpu.bandwidth * rates.memory)

    def seconds(self, rows: float, inputs: int, outputs: int, copies: float = 1.0) -> float:
        """Of ``rows`` x ``inputs`` by ``inputs`` x ``outputs``; ``copies`` matrices (experts) share the rows in one
        kernel."""
        operations = 2.0 * rows * inputs * outputs
        moved = copies * self.precision.bytes * inputs * outputs
        moved += rows * (self.precision.computes_as.bytes * inputs + 2.0 * outputs)
        p = self.rates.p
        return self.rates.start_s + math.pow(
            math.pow(operations / self.compute, p) + math.pow(moved / self.bandwidth, p), 1.0 / p
        )


def distinct_experts(count: int, active: int, tokens: float) -> float:
    """Expected number of experts that ``tokens`` tokens touch, each choosing ``active`` of ``count`` evenly."""
    return count * (1.0 - math.pow(1.0 - active / count, tokens))


def prompt_tokens(shape: StepShape) -> int:
    """Of a step's tokens, those of prompts. Prompts beside decodes count as one chunk: a step's features don't say how
    many there are."""
    if not shape.prefill_reads:
        return 0
    return shape.tokens - (shape.sequences - 1 if shape.decode_context else 0)


@dataclass(slots=True)
class GpuMachine:
    """A replica as a simulator's hardware (``sim.hardware.Hardware``). Build it with ``machine``."""

    setup: Setup
    memory: Memory
    max_step_tokens: int
    _products: Products
    _head: Products
    _attention: Attention
    _all_reduce: AllReduceTime
    _matrices: tuple[Matrix, ...]
    _reduce_factor: float = 1.0
    _context_s: float = 0.0
    _windows: tuple[tuple[float, int], ...] = ()
    _attention_start_s: float = 0.0
    _tokens_s: dict[int, float] = field(default_factory=dict)
    _sequences_s: dict[int, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        setup = self.setup
        model, tp = setup.model, setup.tp
        bandwidth = setup.gpu.bandwidth * self._attention.decode_memory
        self._context_s = model.kv_bytes_per_token(setup.kv_precision, tp) / bandwidth
        layer_s = model.kv_bytes(1, setup.kv_precision, tp) / model.layers / bandwidth
        self._windows = tuple((layers * layer_s, positions) for layers, positions in model.windows)
        self._reduce_factor = setup.engine.all_reduce if setup.gpu.link.kind != "pcie" else 1.0
        self._attention_start_s = model.layers * self._attention.start_s

    @property
    def name(self) -> str:
        setup = self.setup
        return f"{setup.gpu.name} x{setup.tp} {setup.model.name} {setup.precision}"

    @property
    def description(self) -> str:
        setup = self.setup
        return f"{setup.model.name} in {setup.precision} on {setup.tp} x {setup.gpu.title}, {setup.engine.title}"

    @property
    def source(self) -> str:
        return "data sheets and measured rates of matrix products, attention and all-reduce; see `headway plan gpus`"

    @property
    def noise(self) -> float:
        return 0.0

    @property
    def info(self) -> ExecutorInfo:
        block = self.setup.engine.block_tokens
        return ExecutorInfo(
            block_size=block,
            kv_blocks=self.memory.kv_tokens // block,
            context_tokens=self.setup.model.context_tokens,
            vocab_size=VOCABULARY,
            description=self.description,
        )

    def step_s(self, shape: StepShape) -> float:
        tokens_s = self._tokens_s.get(shape.tokens)
        if tokens_s is None:
            tokens_s = self._tokens(shape.tokens)
        sequences_s = self._sequences_s.get(shape.sequences)
        if sequences_s is None:
            sequences_s = self._sequences(shape.sequences)
        seconds = tokens_s + sequences_s + self._context_s * shape.decode_context
        if self._windows:
            seconds += self._windowed_s(shape)
        if shape.prefill_reads:
            seconds += self.prefill_attention_s(prompt_tokens(shape), shape.prefill_reads)
        calibration = self.setup.calibration
        return calibration.step_s + calibration.factor * seconds

    def decode_steps_s(self, sequences: int, context: int, steps: int) -> list[float]:
        """See ``sim.hardware.decode_steps_s``."""
        reads = range(context, context + sequences * steps, sequences)
        if self._windows or not steps:
            return [self.step_s(StepShape(sequences, sequences, each, 0.0)) for each in reads]
        self.step_s(StepShape(sequences, sequences, context, 0.0))  # so that both parts below are kept
        fixed_s = self._tokens_s[sequences] + self._sequences_s[sequences]
        context_s, calibration = self._context_s, self.setup.calibration
        step_s, factor = calibration.step_s, calibration.factor
        return [step_s + factor * (fixed_s + context_s * each) for each in reads]

    def _tokens(self, tokens: int) -> float:
        if len(self._tokens_s) >= KEPT_MAX:
            self._tokens_s.clear()
        found = self._tokens_s[tokens] = self.layers_s(tokens) + self._attention_start_s + self.setup.engine.step_s
        return found

    def _sequences(self, sequences: int) -> float:
        if len(self._sequences_s) >= KEPT_MAX:
            self._sequences_s.clear()
        found = self._sequences_s[sequences] = self.head_s(sequences) + self.setup.engine.sequence_s * sequences
        return found

    def _windowed_s(self, shape: StepShape) -> float:
        """Decodes of layers with a window, which read no more than that."""
        decodes = shape.tokens - prompt_tokens(shape)
        if not decodes:
            return 0.0
        context = shape.decode_context / decodes
        return sum(each_s * decodes * min(context, positions) for each_s, positions in self._windows)

    def kv_reads_s(self, shape: StepShape) -> float:
        """Decodes that read their own context from the KV cache."""
        return self._context_s * shape.decode_context + self._windowed_s(shape)

    def overhead_s(self, sequences: int) -> float:
        """What no faster GPU would shorten much: the host's share, and the start of attention kernels."""
        engine = self.setup.engine
        host_s = engine.layer_s * self.setup.model.layers + engine.step_s + engine.sequence_s * sequences
        return host_s + self._attention_start_s

    def layers_s(self, tokens: int) -> float:
        """All layers for ``tokens`` tokens, without attention and the output head."""
        model, engine = self.setup.model, self.setup.engine
        seconds = sum(matrix.count * self.product_s(matrix, tokens) for matrix in self._matrices if not matrix.sampled)
        moved = ELEMENTWISE_MOVES * tokens * model.hidden * 2.0
        seconds += model.layers * (engine.layer_s + moved / self.setup.gpu.bandwidth)
        return seconds + self.all_reduces_s(tokens)

    def all_reduces_s(self, tokens: int) -> float:
        """Of all layers, with results in bf16."""
        model = self.setup.model
        each_s = self._reduce_factor * self._all_reduce.seconds(tokens * model.hidden * 2.0)
        return model.all_reduces * model.layers * each_s

    def product_s(self, matrix: Matrix, tokens: int) -> float:
        """Of one layer."""
        experts = self.setup.model.experts
        if matrix.name == "router":
            return self._head.seconds(tokens, matrix.inputs, matrix.outputs)
        if not matrix.experts or experts is None:
            return self._products.seconds(tokens, matrix.inputs, matrix.outputs)
        touched = distinct_experts(experts.count, experts.active, tokens)
        rows = tokens * experts.active * EXPERT_IMBALANCE
        return self._products.seconds(rows, matrix.inputs, matrix.outputs, touched)

    def head_s(self, sequences: int) -> float:
        """The output head, for sequences that draw a token."""
        return sum(
            self._head.seconds(sequences, matrix.inputs, matrix.outputs) for matrix in self._matrices if matrix.sampled
        )

    def prefill_attention_s(self, tokens: int, reads: float) -> float:
        """``tokens`` of a prompt that read ``reads`` positions together. The share of the peak that is reached grows
        with the length; a chunk counts as a prompt of twice the context its tokens read on average."""
        model, tp = self.setup.model, self.setup.tp
        width = model.head_dim if model.latent is None else model.latent.nope_dim + model.latent.rope_dim
        full = model.layers - sum(layers for layers, _ in model.windows)
        length = 2.0 * reads / max(1, tokens)
        rate = peak(self.setup.gpu, Precision.BF16) * prefill_share(self._attention, length)
        layers_reads = full * reads
        for layers, positions in model.windows:
            layers_reads += layers * min(reads, float(tokens) * positions)
        return 4.0 * model.heads / tp * width * layers_reads / rate


def prefill_share(attention: Attention, length: float) -> float:
    """Share of the bf16 peak for prompts of ``length`` tokens: on a line over log length between measured lengths, in
    proportion to the length below the first."""
    points = attention.prefill
    if length <= points[0][0]:
        return points[0][1] * max(0.25, length / points[0][0])
    for (low, at_low), (high, at_high) in pairwise(points):
        if length <= high:
            return at_low + (at_high - at_low) * math.log(length / low) / math.log(high / low)
    return points[-1][1]


def machine(setup: Setup, max_step_tokens: int | None = None) -> GpuMachine:
    """Raises ``PlanError`` for what can't run: too big, heads that don't divide, no units for the number format, more
    GPUs than a link joins. ``max_step_tokens``: in place of the engine's own."""
    gpu, model = setup.gpu, setup.model
    return GpuMachine(
        setup=setup,
        memory=memory(setup, max_step_tokens),
        max_step_tokens=setup.engine.max_step_tokens if max_step_tokens is None else max_step_tokens,
        _products=Products.on(gpu, setup.precision),
        _head=Products.on(gpu, Precision.BF16),
        _attention=gpu.attention or FLAT_ATTENTION,
        _all_reduce=all_reduce(gpu, setup.tp),
        _matrices=model.matrices(setup.tp),
    )
