"""Closed formulas for a replica that has settled: no queueing theory, no percentiles; means of equal requests.

They are what published benchmarks measure, and what a search prunes with. The simulator must agree where lengths and
arrivals vary little.
"""

from __future__ import annotations

from dataclasses import dataclass

from headway.plan.errors import PlanError
from headway.plan.steptime import GpuMachine
from headway.policy.stepshape import StepShape

ROUNDS = 40
"""Of a fixed-point iteration at most; it settles in fewer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Steady:
    """Means. ``tpot_s``: between output tokens of one request, after the first. ``ttft_s``: with waiting for a place.
    ``output_tokens_s``: of the replica. ``decoding``: sequences that decode at once. ``limit``: what holds it there:
    "load", "kv cache" or "sequences". ``e2e_s``: of one request."""

    tpot_s: float
    ttft_s: float
    e2e_s: float
    output_tokens_s: float
    decoding: float
    limit: str


def decode_s(machine: GpuMachine, batch: float, context: float) -> float:
    """A step of ``batch`` decodes that read ``context`` positions each; between whole batches on a line."""
    low = max(1, int(batch))
    at_low = machine.step_s(StepShape(low, low, round(low * context), 0.0))
    if batch <= low:
        return at_low
    at_high = machine.step_s(StepShape(low + 1, low + 1, round((low + 1) * context), 0.0))
    return at_low + (batch - low) * (at_high - at_low)


def mixed_s(machine: GpuMachine, batch: float, context: float, tokens: int, start: int = 0) -> float:
    """A step of ``batch`` decodes and a chunk of ``tokens`` prompt tokens after ``start``."""
    decodes = round(batch)
    reads = tokens * (start + tokens / 2)
    return machine.step_s(StepShape(decodes + tokens, decodes + 1, round(decodes * context), reads))


def prefill_s(machine: GpuMachine, isl: int, batch: float = 0.0, context: float = 0.0, cached: int = 0) -> float:
    """The steps that compute a prompt, in chunks of ``max_step_tokens``, beside ``batch`` decodes."""
    room = max(1, machine.max_step_tokens - round(batch))
    seconds, start = 0.0, min(cached, isl - 1)
    while start < isl:
        tokens = min(room, isl - start)
        seconds += mixed_s(machine, batch, context, tokens, start)
        start += tokens
    return seconds


def low_load_ttft_s(machine: GpuMachine, isl: int, cached: int = 0) -> float:
    """From arrival at an idle replica to the first token; ``cached`` tokens of the prompt are in the prefix cache."""
    return machine.setup.engine.request_s + prefill_s(machine, isl, cached=cached)


def static_batch(machine: GpuMachine, batch: int, isl: int, osl: int) -> Steady:
    """``batch`` requests start together, and the next when all have ended. Raises ``PlanError`` where the KV cache
    doesn't hold them."""
    held = max_batch(machine, isl + osl, 0)
    if batch > held:
        raise PlanError(f"the KV cache holds {held:.0f} sequences of {isl + osl} tokens, not a batch of {batch}")
    prompts_s = batch_prefill_s(machine, batch, isl)
    tpot_s = decode_s(machine, batch, isl + osl / 2)
    e2e_s = prompts_s + (osl - 1) * tpot_s
    return Steady(
        tpot_s=tpot_s,
        ttft_s=prompts_s,
        e2e_s=e2e_s,
        output_tokens_s=batch * osl / e2e_s,
        decoding=batch,
        limit="load",
    )


def batch_prefill_s(machine: GpuMachine, batch: int, isl: int) -> float:
    """``batch`` whole prompts, as many in each step as it holds tokens."""
    each = max(1, machine.max_step_tokens // isl)
    if isl > machine.max_step_tokens:
        return batch * prefill_s(machine, isl)
    full, rest = divmod(batch, each)
    seconds = 0.0
    for count, times in ((each, full), (rest, 1)):
        if count and times:
            seconds += times * machine.step_s(StepShape(count * isl, count, 0, count * isl * isl / 2))
    return seconds


def max_batch(machine: GpuMachine, isl: int, osl: int) -> float:
    """Sequences that the KV cache holds at once, each with its prompt and what the engine holds of its output."""
    setup = machine.setup
    tokens = isl + max(1, round(setup.engine.held_output * osl))
    per_sequence = setup.model.kv_bytes(tokens, setup.kv_precision, setup.tp)
    return machine.memory.kv_bytes / per_sequence


def prompt_s(machine: GpuMachine, decoding: float, isl: int, osl: int) -> float:
    """What a prompt adds to the steps that compute it beside ``decoding`` sequences. Where several arrive in each step,
    they share it."""
    context = isl + osl / 2
    alone_s = decode_s(machine, decoding, context) if decoding else 0.0
    room = max(1, machine.max_step_tokens - round(decoding))
    if isl > room:
        return prefill_s(machine, isl, decoding, context) - -(-isl // room) * alone_s
    count = min(max(1, round(decoding / max(1, osl - 1))), room // isl)
    decodes = round(decoding)
    shape = StepShape(decodes + count * isl, decodes + count, round(decodes * context), count * isl * isl / 2)
    return (machine.step_s(shape) - alone_s) / count


def tpot_s(machine: GpuMachine, decoding: float, isl: int, osl: int) -> float:
    """Mean time between tokens of ``decoding`` sequences while each that ends is followed by another whose prompt is
    computed beside them."""
    arriving = max(0.0, decoding - 1.0) / max(1, osl - 1)
    alone_s = decode_s(machine, decoding, isl + osl / 2)
    return alone_s + (arriving * prompt_s(machine, decoding, isl, osl) if arriving else 0.0)


def closed_loop(machine: GpuMachine, concurrency: float, isl: int, osl: int) -> Steady:
    """``concurrency`` clients, each of which sends its next request when the last has ended. Raises ``PlanError``
    where not one sequence fits."""
    engine = machine.setup.engine
    held = max_batch(machine, isl, osl)
    if held < 1.0:
        raise PlanError(f"the KV cache doesn't hold one sequence of {isl + osl} tokens; use more GPUs or fewer bits")
    places = min(held, engine.max_sequences)
    running = min(concurrency, places)
    decoding = running
    for _ in range(ROUNDS):
        each_s = tpot_s(machine, decoding, isl, osl)
        alone_s = decode_s(machine, decoding, isl + osl / 2)
        first_s = prefill_s(machine, isl, decoding - 1.0, isl + osl / 2) + 0.5 * alone_s * min(1.0, decoding - 1.0)
        stay_s = first_s + (osl - 1) * each_s
        outside_s = engine.request_s
        share = (osl - 1) * each_s / (stay_s + (outside_s if running < places else 0.0))
        settled = max(1.0, running * share) if osl > 1 else 1.0
        if abs(settled - decoding) < 1e-3 * decoding:
            break
        decoding = 0.5 * (decoding + settled)
    busy_s = (osl - 1) * alone_s / running + prompt_s(machine, decoding if osl > 1 else 0.0, isl, osl)
    rate = min(running / stay_s, concurrency / (stay_s + outside_s), 1.0 / busy_s)
    e2e_s = concurrency / rate
    return Steady(
        tpot_s=each_s,
        ttft_s=e2e_s - (osl - 1) * each_s,
        e2e_s=e2e_s,
        output_tokens_s=rate * osl,
        decoding=decoding,
        limit="load" if concurrency <= places else "kv cache" if held <= engine.max_sequences else "sequences",
    )


def max_throughput(machine: GpuMachine, isl: int, osl: int, max_sequences: int | None = None) -> Steady:
    """With more requests waiting than the replica holds at once."""
    held = max_batch(machine, isl, osl)
    return closed_loop(machine, min(held, max_sequences or machine.setup.engine.max_sequences), isl, osl)
