"""What no scheduler can do better on a machine: closed bounds on one replica, to leave out what can't be before it is
simulated.

All of them are from single steps. A promise that alone, on an idle machine, more requests would break than may be can't
be kept at any load; and no rate above ``rate_max`` can be served for long, because the work of its requests takes more
than the time there is, even in the batches that use the machine best.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from headway.policy.slo import Objective
from headway.policy.stepshape import StepShape
from headway.sim.hardware import Hardware
from headway.sim.workload import Call

CHUNKS = (512, 2048, 8192)
"""Tokens of prompts that a step may take beside its decodes, where not every step takes its share."""
RUNNING_MAX = 1024
MIXES = 24
"""How many batch sizes are tried."""
USABLE = 0.95
"""Share of the closed bound beyond which no promise is kept: requests come at random, and queues grow without end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """Of one replica. ``rate_max``: requests a second that it can't exceed for long. ``batch``: decodes at once there.
    ``lives``: rates up to that, and how long an answer takes at each. ``ttft_s``, ``itl_s``, ``e2e_s``: that
    ``target`` of the promised requests have at least on an idle machine. ``broken``: the parts of the promise that
    they break: class, part, the least value, what is promised."""

    rate_max: float
    batch: int
    lives: tuple[tuple[float, float], ...]
    ttft_s: float
    itl_s: float
    e2e_s: float
    broken: tuple[tuple[str, str, float, float], ...]

    def replicas_at_least(self, rate: float) -> int:
        return max(1, math.ceil(rate / (USABLE * self.rate_max) - 1e-9))

    def life_s(self, rate: float) -> float:
        """Of an answer, in the smallest batch that serves the rate."""
        return next((life_s for at, life_s in self.lives if at >= rate), self.lives[-1][1])


def bounds(hardware: Hardware, calls: Sequence[Call], *, target: float, request_s: float = 0.0) -> Bounds:
    """From a sample of the ``calls``. ``request_s``: before a request can be scheduled."""
    promised = [call for call in calls if not call.objective.is_empty]
    fresh = fresh_tokens(calls)
    alone = {
        id(call): alone_s(hardware, call, tokens, request_s)
        for call, tokens in zip(calls, fresh, strict=True)
        if not call.objective.is_empty
    }
    broken: list[tuple[str, str, float, float]] = []
    for name in dict.fromkeys(call.service_class for call in promised):
        mine = [call for call in promised if call.service_class == name]
        broken += _broken(name, mine[0].objective, [alone[id(call)] for call in mine], target)
    columns = list(zip(*alone.values(), strict=True)) or [(0.0,), (0.0,), (0.0,)]
    ttft_s, itl_s, e2e_s = (_least(column, target) for column in columns)
    rates = _rates(hardware, calls, fresh, _loosest_itl_s(promised), target)
    rate, batch, _ = max(rates)
    return Bounds(
        rate_max=rate,
        batch=batch,
        lives=tuple((at, life_s + ttft_s) for at, _, life_s in rates),
        ttft_s=ttft_s,
        itl_s=itl_s,
        e2e_s=e2e_s,
        broken=tuple(broken),
    )


def alone_s(hardware: Hardware, call: Call, fresh: int, request_s: float) -> tuple[float, float, float]:
    """TTFT, ITL and end to end of a request that is alone, with ``fresh`` tokens of its prompt to compute, in one
    step."""
    prompt, output = call.size.prompt_tokens, call.size.output_tokens
    reads = fresh * (prompt - fresh + fresh / 2)
    ttft_s = request_s + hardware.step_s(StepShape(fresh, 1, 0, reads))
    itl_s = hardware.step_s(StepShape(1, 1, prompt + output // 2, 0.0))
    return ttft_s, itl_s, ttft_s + (output - 1) * itl_s


def _broken(
    name: str, objective: Objective, alone: Sequence[tuple[float, float, float]], target: float
) -> list[tuple[str, str, float, float]]:
    """Class, part, its least value that ``target`` of the requests keep, and what is promised."""
    found = []
    for part, column in zip(("ttft", "itl", "e2e"), zip(*alone, strict=True), strict=True):
        promised_s: float | None = getattr(objective, f"{part}_s")
        least_s = _least(column, target)
        if promised_s is not None and least_s > promised_s:
            found.append((name, part, least_s, promised_s))
    return found


def _least(values: Sequence[float], target: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(target * len(ordered)))]


def _loosest_itl_s(calls: Sequence[Call]) -> float | None:
    promised = [call.objective.itl_s for call in calls if call.objective.itl_s is not None]
    return max(promised) if promised else None


def _rates(
    hardware: Hardware, calls: Sequence[Call], fresh: Sequence[int], itl_s: float | None, target: float
) -> list[tuple[float, int, float]]:
    """Requests a second that ever larger batches serve, the batches, and how long an answer takes in them. So that this
    stays a bound, the loosest ITL counts, and the dearest requests, as many as may be refused, cost nothing."""
    prompt = sum(call.size.prompt_tokens for call in calls) / len(calls)
    output = sum(call.size.output_tokens for call in calls) / len(calls)
    context = prompt + output / 2
    most = max(1, min(RUNNING_MAX, int(hardware.info.kv_blocks * hardware.info.block_size / max(context, 1.0))))
    found: list[tuple[float, int, float]] = []
    for batch in sorted({max(1, round(most ** (n / (MIXES - 1)))) for n in range(MIXES)}):
        decode = StepShape(batch, batch, round(batch * context), 0.0)
        step_s = hardware.step_s(decode)
        if itl_s is not None and step_s > itl_s and batch > 1:
            break
        share = max(1, round(batch * sum(fresh) / len(fresh) / output))  # that every step takes if all take as much
        chunks = (share, *(each for each in CHUNKS if each > share))
        token_s = min((hardware.step_s(_beside(decode, chunk, prompt)) - step_s) / chunk for chunk in chunks)
        costs = sorted(
            call.size.output_tokens * step_s / batch + tokens * token_s
            for call, tokens in zip(calls, fresh, strict=True)
        )
        request_s = sum(costs[: math.ceil(target * len(costs))]) / len(costs)
        found.append((1.0 / request_s, batch, batch * request_s))
    return found


def _beside(decode: StepShape, tokens: int, prompt: float) -> StepShape:
    return StepShape(decode.tokens + tokens, decode.sequences + 1, decode.decode_context, tokens * prompt / 2)


def fresh_tokens(calls: Sequence[Call]) -> list[int]:
    """Prompt tokens of each that no call before had: what an endless prefix cache would leave to compute."""
    seen: set[tuple[int, ...]] = set()
    fresh: list[int] = []
    for call in calls:
        size, shared = call.size, 0
        for end in range(1, len(size.prefix) + 1):
            key = size.prefix[max(0, end - 2) : end]  # a label and the one before it
            shared += size.prefix_block if key in seen else 0
            seen.add(key)
        fresh.append(max(1, size.prompt_tokens - shared))
    return fresh
