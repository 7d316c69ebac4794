"""Cases for ``benchmarks.tune``: machines, workloads and promises, each drawn from its seed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from random import Random

from benchmarks.tune_truth import Sizes, closed_level
from headway.policy.plan import ExecutorInfo
from headway.policy.slo import NO_PROMISE, Objective
from headway.sim.hardware import Hardware, LinearHardware, Noisy

KV_TOKENS = 200_000
CONTEXT_TOKENS = 4096
BLOCK_SIZE = 64
PLACES = (20, 80)
"""About where the operating points lie: requests at once. Further down 5 % of them are no whole request."""
STEP_S = (0.020, 0.100)
"""How long steps there last, prefills included: long beside what HTTP adds, a millisecond or two."""
BINDING, SLACK = (1.0, 1.04), (1.25, 1.8)
"""What is promised, over the p95 at that place: of the part that is to be broken first, and of the other."""
KINDS = ("ttft", "itl", "e2e")
ROUGH_REQUESTS = 1500


@dataclass(frozen=True, slots=True)
class Case:
    """``binding``: the part of the promise that is drawn to be broken first."""

    seed: int
    machine: LinearHardware
    noise: float
    sizes: Sizes
    objective: Objective
    binding: str

    @property
    def hardware(self) -> Hardware:
        return Noisy(self.machine, self.noise)

    @property
    def slo(self) -> str:
        """As ``--slo`` has it, without the class: every part is said, since classes have promises of their own."""
        parts = (("ttft", self.objective.ttft_s), ("itl", self.objective.itl_s), ("e2e", self.objective.e2e_s))
        return ",".join(f"{name}={'none' if value is None else f'{1000 * value:g}'}" for name, value in parts)

    def record(self) -> str:
        """The machine as a file for ``headway serve --engine sim:FILE.toml``."""
        machine, info = self.machine, self.machine.info
        return f"""
name = "{machine.name}"
description = "{machine.description}"
kv_tokens = {info.kv_blocks * info.block_size}
context_tokens = {info.context_tokens}
block_size = {info.block_size}

[linear]
constant_s = {machine.constant_s!r}
token_s = {machine.token_s!r}
sequence_s = {machine.sequence_s!r}
decode_context_s = {machine.decode_context_s!r}
prefill_read_s = {machine.prefill_read_s!r}
"""


def draw_case(seed: int) -> Case:
    """The same for the same seed. Takes a second or two: the promise is drawn around what the machine can keep."""
    random = Random(f"case {seed}")
    place = round(_between(random, *PLACES))
    sizes = Sizes((random.randint(8, 32), random.randint(48, 160)), (random.randint(6, 10), random.randint(16, 40)))
    machine = _machine(random, place, sizes, seed)
    noise = random.choice((0.0, 0.03))
    binding = KINDS[seed % len(KINDS)]
    there = closed_level(Noisy(machine, noise), sizes, NO_PROMISE, place, ROUGH_REQUESTS).tails
    other = "ttft" if binding == "e2e" else random.choice([kind for kind in KINDS if kind != binding])
    targets = {
        binding: getattr(there, f"{binding}_s") * random.uniform(*BINDING),
        other: getattr(there, f"{other}_s") * random.uniform(*SLACK),
    }
    objective = Objective(**{f"{kind}_s": round(value, 4) for kind, value in targets.items()})
    return Case(seed, machine, noise, sizes, objective, binding)


def _machine(random: Random, place: int, sizes: Sizes, seed: int) -> LinearHardware:
    """Shares of a step at ``place``: constant, tokens, sequences, context. The whole step lasts some ``STEP_S``."""
    step_s = _between(random, *STEP_S)
    shares = [random.uniform(*share) for share in ((0.15, 0.4), (0.2, 0.5), (0.05, 0.3), (0.05, 0.3))]
    constant, token, sequence, context = (step_s * share / sum(shares) for share in shares)
    prompt, output = sum(sizes.prompt) / 2, sum(sizes.output) / 2
    tokens = place * (1.0 + prompt / output)
    info = ExecutorInfo(BLOCK_SIZE, KV_TOKENS // BLOCK_SIZE, CONTEXT_TOKENS, 1 << 32, f"simulated machine {seed}")
    return LinearHardware(
        name=f"case-{seed}",
        description=f"machine {seed}",
        source="drawn",
        info=info,
        constant_s=constant,
        token_s=token / tokens,
        sequence_s=sequence / (place * (1.0 + 1.0 / output)),
        decode_context_s=context / (place * (prompt + output / 2)),
        prefill_read_s=0.1 * token / tokens / prompt,
    )


def _between(random: Random, low: float, high: float) -> float:
    """Log-uniform."""
    return math.exp(random.uniform(math.log(low), math.log(high)))
