"""What an engine adds to the arithmetic: time on the host, and memory that it keeps from the KV cache."""

from __future__ import annotations

from dataclasses import dataclass

from headway.plan.precision import Precision


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """``layer_s``: per layer and step beside matrix products, attention and all-reduce (norms, rotary, launches).
    ``step_s``: per step (scheduler, sampling, launches). ``sequence_s``: per sequence and step. ``request_s``: from a
    request's arrival until it can be scheduled (HTTP, tokenising).

    ``utilisation``: share of a GPU's memory that it takes. ``other_bytes``: of that, on each GPU, what is neither
    weights, activations nor KV cache. ``block_tokens``: of its KV cache. ``max_step_tokens``: tokens of one step at
    most, which sizes activations. ``kv_share``: of the memory then left, what becomes KV cache. ``max_sequences``: of
    one step at most. ``held_output``: share of its output's room that a running sequence holds on average: 0.5 where
    blocks are taken as they are needed, 1.0 where they are reserved.

    ``all_reduce``: times what the fastest kernels take over NVLink. ``eager``: launches every kernel from the host.
    ``since``: when engines of this kind came up. ``source``: where the numbers are from.
    """

    name: str
    title: str
    since: str
    layer_s: float
    step_s: float
    sequence_s: float
    request_s: float
    utilisation: float
    other_bytes: float
    block_tokens: int
    max_step_tokens: int
    source: str
    kv_share: float = 1.0
    max_sequences: int = 1024
    held_output: float = 0.5
    all_reduce: float = 1.0
    eager: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """Two numbers that a short measurement fixes: predicted seconds of a step are ``step_s`` + ``factor`` * what the
    model says. ``band``: of what is then predicted, half width in log space at 90 %. They hold for the GPU, engine,
    model, tensor parallelism and number formats that were measured (``setup.is_measured``).
    """

    step_s: float = 0.0
    factor: float = 1.0
    band: float | None = None
    gpu: str = ""
    engine: str = ""
    model: str = ""
    tp: int = 1
    precision: Precision = Precision.BF16
    kv_precision: Precision = Precision.BF16
    engine_version: str = ""
    driver: str = ""
    date: str = ""
    source: str = ""


UNCALIBRATED = Calibration()
