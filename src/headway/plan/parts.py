"""What the time of a step goes to, and from that what binds a replica."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from headway.plan.steptime import GpuMachine, distinct_experts, peak, prompt_tokens
from headway.policy.stepshape import StepShape

WEIGHTS, COMPUTE, KV_READS = "reading weights", "computing tokens", "reading the KV cache"
PROMPT_ATTENTION, ALL_REDUCE, OVERHEAD = "attention of prompts", "all-reduce", "overhead"
PROMPTS, DECODES = "prompts", "decodes"
"""Where only whole steps are known."""

KV_FULL = 0.95
"""With a KV cache as full as this, requests wait for memory."""
PREFILL, DECODE, DECODING, LINK, ENGINE, KV_MEMORY, LATENCY = (
    "prefill compute",
    "decode bandwidth",
    "decoding",
    "link between GPUs",
    "engine overhead",
    "KV memory",
    "latency alone",
)
BUSY = 0.6
"""A replica that is busy less than this when its promise breaks is bound by how long single requests take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """An average step: ``decodes`` at ``context`` positions each, and ``prompt_tokens`` that read ``reads``."""

    decodes: float
    context: float
    prompt_tokens: float
    reads: float

    @property
    def shape(self) -> StepShape:
        decodes, prompt = max(1, round(self.decodes)), round(self.prompt_tokens)
        reads = self.reads if prompt else 0.0
        return StepShape(decodes + prompt, decodes + (1 if prompt else 0), round(decodes * self.context), reads)


def parts(machine: GpuMachine, work: Work) -> dict[str, float]:
    """Shares of the step's time that add up to 1, the largest first. Matrix products, and what little moves beside
    them, are shared out between reading weights and computing in proportion to what either would take alone. What a
    calibration adds to every step is overhead."""
    shape, calibration = work.shape, machine.setup.calibration
    modelled_s = (machine.step_s(shape) - calibration.step_s) / calibration.factor
    prompt = prompt_tokens(shape)
    seconds = {
        KV_READS: machine.kv_reads_s(shape),
        PROMPT_ATTENTION: machine.prefill_attention_s(prompt, shape.prefill_reads) if prompt else 0.0,
        ALL_REDUCE: machine.all_reduces_s(shape.tokens),
        OVERHEAD: machine.overhead_s(shape.sequences),
    }
    products_s = max(0.0, modelled_s - sum(seconds.values()))
    weights_s, compute_s = _products(machine, shape.tokens)
    seconds[WEIGHTS] = products_s * weights_s / (weights_s + compute_s)
    seconds[COMPUTE] = products_s * compute_s / (weights_s + compute_s)
    seconds[OVERHEAD] = max(0.0, seconds[OVERHEAD] + calibration.step_s / calibration.factor)
    whole_s = sum(seconds.values())
    return {name: value / whole_s for name, value in sorted(seconds.items(), key=lambda each: -each[1]) if value > 0.0}


def _products(machine: GpuMachine, tokens: int) -> tuple[float, float]:
    """Seconds of reading the weights that ``tokens`` tokens touch, and of computing them, at the data sheet's rates."""
    setup = machine.setup
    model, experts = setup.model, setup.model.experts
    touched = distinct_experts(experts.count, experts.active, tokens) if experts is not None else 0.0
    read = sum(each.count * each.weights * (touched if each.experts else 1.0) for each in model.matrices(setup.tp))
    operations = 2.0 * tokens * model.active_parameters / setup.tp
    return read * setup.precision.bytes / setup.gpu.bandwidth, operations / peak(setup.gpu, setup.precision)


def resource(shares: Mapping[str, float], *, kv_peak: float, busy: float) -> str:
    """What binds a replica at its capacity, in one name."""
    if kv_peak >= KV_FULL:
        return KV_MEMORY
    if busy < BUSY:
        return LATENCY
    groups = {
        PREFILL: sum(shares.get(each, 0.0) for each in (COMPUTE, PROMPT_ATTENTION, PROMPTS)),
        DECODING if DECODES in shares else DECODE: sum(shares.get(each, 0.0) for each in (WEIGHTS, KV_READS, DECODES)),
        LINK: shares.get(ALL_REDUCE, 0.0),
        ENGINE: shares.get(OVERHEAD, 0.0),
    }
    return max(groups, key=groups.__getitem__)
