"""Hardware as a formula: how long one step takes, from the exact features of the step.

Two forms. A roofline counts the bytes and operations of a model on a data sheet's bandwidth and peak, each times the
share that is reached in practice. A linear record holds coefficients fitted to measured steps. The time of a step is
the whole cycle, from one plan to the next, so the host's own overhead (planning, launching) is part of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from headway.policy.plan import ExecutorInfo
from headway.policy.stepshape import StepShape

QUERY_TILE_TOKENS = 64
"""A prefill chunk reads the keys and values of its context once for each tile of so many of its tokens."""

NOISE_MAX = 2.0

VOCABULARY = 1 << 32
"""Simulated tokens are labels: every request has its own, so that none shares a prefix by chance."""


class Hardware(Protocol):
    """A machine with a model on it. ``step_s`` is a step's typical time; ``noise`` is how much steps vary (see
    ``Noisy``), 0 for not at all."""

    @property
    def name(self) -> str: ...

    @property
    def description(self) -> str: ...

    @property
    def source(self) -> str: ...

    @property
    def info(self) -> ExecutorInfo: ...

    @property
    def noise(self) -> float: ...

    def step_s(self, shape: StepShape) -> float: ...


DecodeSteps = Callable[[int, int, int], list[float]]
"""A method ``decode_steps_s`` that hardware may have: a quicker way to say, to the last bit, what the function says."""


def decode_steps_s(hardware: Hardware, sequences: int, context: int, steps: int) -> list[float]:
    """How long each of so many steps takes in which the same sequences decode: the first reads ``context`` positions,
    every one after it ``sequences`` more than the one before."""
    quick: DecodeSteps | None = getattr(hardware, "decode_steps_s", None)
    if quick is not None:
        return quick(sequences, context, steps)
    step_s = hardware.step_s
    reads = range(context, context + sequences * steps, sequences)
    return [step_s(StepShape(sequences, sequences, each, 0.0)) for each in reads]


@dataclass(frozen=True, slots=True, kw_only=True)
class RooflineHardware:
    """A step is bound by reading the weights or by computing the tokens, whichever takes longer; attention is on top.

    Seconds = ``overhead_s`` + max(weight bytes / bandwidth, operations per token * tokens / peak)
    + KV bytes per token / bandwidth for each token of context that a decode reads, and for each that a tile of a
    prefill chunk reads.
    """

    name: str
    description: str
    source: str
    info: ExecutorInfo
    overhead_s: float
    weight_bytes: float
    flops_per_token: float
    kv_bytes_per_token: float
    bandwidth: float
    bandwidth_share: float
    peak_flops: float
    peak_share: float

    @property
    def noise(self) -> float:
        return 0.0

    def step_s(self, shape: StepShape) -> float:
        bandwidth = self.bandwidth * self.bandwidth_share
        compute_s = self.flops_per_token * shape.tokens / (self.peak_flops * self.peak_share)
        context = shape.decode_context + shape.prefill_reads / QUERY_TILE_TOKENS
        attention_s = self.kv_bytes_per_token * context / bandwidth
        return self.overhead_s + max(self.weight_bytes / bandwidth, compute_s) + attention_s

    def decode_steps_s(self, sequences: int, context: int, steps: int) -> list[float]:
        bandwidth = self.bandwidth * self.bandwidth_share
        compute_s = self.flops_per_token * sequences / (self.peak_flops * self.peak_share)
        rest_s, bytes_each = self.overhead_s + max(self.weight_bytes / bandwidth, compute_s), self.kv_bytes_per_token
        reads = range(context, context + sequences * steps, sequences)
        return [rest_s + bytes_each * float(each) / bandwidth for each in reads]


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearHardware:
    """A step is a sum: a constant, and so much per token, per sequence, per token of context read."""

    name: str
    description: str
    source: str
    info: ExecutorInfo
    constant_s: float
    token_s: float
    sequence_s: float
    decode_context_s: float
    prefill_read_s: float

    @property
    def noise(self) -> float:
        return 0.0

    def step_s(self, shape: StepShape) -> float:
        return (
            self.constant_s
            + self.token_s * shape.tokens
            + self.sequence_s * shape.sequences
            + self.decode_context_s * shape.decode_context
            + self.prefill_read_s * shape.prefill_reads
        )


@dataclass(frozen=True, slots=True)
class Noisy:
    """Hardware whose steps vary: ``noise`` is the sigma of the lognormal factor (median 1) on each one's time."""

    hardware: Hardware
    noise: float

    def __post_init__(self) -> None:
        if not 0.0 <= self.noise <= NOISE_MAX:
            raise ValueError(f"noise must be from 0 to {NOISE_MAX:g}, not {self.noise}")

    @property
    def name(self) -> str:
        return self.hardware.name

    @property
    def description(self) -> str:
        return self.hardware.description

    @property
    def source(self) -> str:
        return self.hardware.source

    @property
    def info(self) -> ExecutorInfo:
        return self.hardware.info

    def step_s(self, shape: StepShape) -> float:
        return self.hardware.step_s(shape)

    def decode_steps_s(self, sequences: int, context: int, steps: int) -> list[float]:
        return decode_steps_s(self.hardware, sequences, context, steps)


def _info(kv_tokens: int, context_tokens: int, description: str, block_size: int = 64) -> ExecutorInfo:
    return ExecutorInfo(
        block_size=block_size,
        kv_blocks=kv_tokens // block_size,
        context_tokens=context_tokens,
        vocab_size=VOCABULARY,
        description=description,
    )


_H100_LLAMA_8B = RooflineHardware(
    name="h100-llama-8b",
    description="Llama 3 8B in bfloat16 on one H100 80GB SXM",
    source="data sheet: 3.35 TB/s, 989 TFLOP/s dense; 85 % and 55 % of them reached, KV pool and overhead are assumed",
    info=_info(300_000, 131_072, "simulated H100 80GB SXM, Llama 3 8B"),
    overhead_s=0.0015,
    weight_bytes=16e9,
    flops_per_token=16e9,
    kv_bytes_per_token=131_072,  # 2 * 32 layers * 8 heads * 128 * 2 bytes
    bandwidth=3.35e12,
    bandwidth_share=0.85,
    peak_flops=989e12,
    peak_share=0.55,
)

_A100_LLAMA_8B = replace(
    _H100_LLAMA_8B,
    name="a100-llama-8b",
    description="Llama 3 8B in bfloat16 on one A100 80GB SXM",
    source="data sheet: 2.039 TB/s, 312 TFLOP/s dense; shares, KV pool and overhead as for the H100, which is assumed",
    info=_info(300_000, 131_072, "simulated A100 80GB SXM, Llama 3 8B"),
    bandwidth=2.039e12,
    peak_flops=312e12,
)

_CPU_SMOLLM2 = LinearHardware(
    name="cpu-smollm2-135m",
    description="SmolLM2 135M in bfloat16 on two AVX2 cores",
    source="fitted by eye to a few measured steps: 1, 4, 16 decodes take 24, 30, 59 ms, 128 prompt tokens 190 ms",
    info=_info(65_536, 8_192, "simulated CPU with two AVX2 cores, SmolLM2 135M", block_size=16),
    constant_s=0.0205,
    token_s=0.00130,
    sequence_s=0.0008,
    decode_context_s=1.0e-6,
    prefill_read_s=2.0e-7,
)

HARDWARE: dict[str, Hardware] = {each.name: each for each in (_H100_LLAMA_8B, _A100_LLAMA_8B, _CPU_SMOLLM2)}
"""The named records, by name."""
