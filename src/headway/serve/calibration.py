"""Teach the step-time model what this machine is like before anyone is served: a few seconds of made-up steps."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count, islice

from headway.policy.plan import Chunk, Draw, Executor, ExecutorInfo, StepPlan
from headway.policy.sampling import GREEDY
from headway.policy.steptime import StepShape, StepTimeModel

BUDGET_S = 3.0
TOKENS_MAX = 8192
"""The longest chunk tried; more is left to experience."""
DECODES_MAX = 64
CONTEXTS = (32, 1024)
"""Tokens in the cache before a decode."""
START = 256
"""Tokens in the cache before a chunk that is not a prompt's first, and before decodes beside a chunk."""
MIXES = ((4, 16), (16, 64), (32, 256))
"""Decodes, and the tokens of a chunk beside them."""
REPEAT_SHARE = 0.03
"""A step that takes no more than this share of the budget runs a second time, and the shorter time counts: the first
of its kind may have had to prepare something."""
SURPRISE = 1.25
"""So does one that takes this much longer than 95 % should."""


@dataclass(frozen=True, slots=True, order=True)
class _Kind:
    """A step to try: ``decodes`` after ``context`` tokens each, and a chunk of ``chunk`` tokens after ``start``."""

    tokens: int
    decodes: int
    context: int
    chunk: int
    start: int

    @classmethod
    def of(cls, decodes: int = 0, context: int = 0, chunk: int = 0, start: int = 0) -> _Kind:
        return cls(decodes + chunk, decodes, context, chunk, start)


def calibrate(
    executor: Executor,
    info: ExecutorInfo,
    model: StepTimeModel,
    *,
    budget_s: float = BUDGET_S,
    progress: Callable[[str, float | None], None] | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Run made-up steps of all kinds, and let ``model`` observe how long they take.

    For an executor that has started and serves nobody. Ends after about ``budget_s``: no step is begun that is likely
    to last longer, except the first. What the steps leave in the cache means nothing. Raises ``ExecutorLost`` as the
    executor does. ``progress`` hears what goes on, and how far it is (0 to 1).
    """
    tell = progress or (lambda _stage, _share: None)

    def run(plan: StepPlan) -> float:
        begin_s = clock()
        executor.begin(plan)
        executor.finish()
        return clock() - begin_s

    end_s = clock() + budget_s
    is_first, knows_prefill = True, False
    for plan in _plans(info):
        shape = StepShape.of(plan)
        left_s, tail_s = end_s - clock(), _tail_s(model, shape, knows_prefill)
        if tail_s > left_s and not is_first:
            continue
        tell("measuring the speed", min(max(1.0 - left_s / budget_s, 0.0), 1.0))
        elapsed_s = run(plan)
        is_cheap = elapsed_s <= REPEAT_SHARE * budget_s
        if is_first or ((is_cheap or elapsed_s > SURPRISE * tail_s) and elapsed_s <= end_s - clock()):
            elapsed_s = min(elapsed_s, run(plan))
        is_first = False
        knows_prefill |= shape.prefill_reads > 0.0
        model.observe(shape, elapsed_s)
        model.refit()
    model.calibrated()
    tell("measuring the speed", 1.0)


def _tail_s(model: StepTimeModel, shape: StepShape, knows_prefill: bool) -> float:
    """Before the first chunk, which is a short one, what is assumed of long ones must not keep it from being tried."""
    return model.tail_s(
        shape.tokens, shape.sequences, shape.decode_context, shape.prefill_reads if knows_prefill else 0.0
    )


def _plans(info: ExecutorInfo) -> list[StepPlan]:
    """The steps to try, as far as the executor can run them: a coarse round from small to large, then a finer one."""
    coarse = {_Kind.of(decodes, context) for decodes in _powers(4, DECODES_MAX) for context in CONTEXTS}
    coarse |= {_Kind.of(chunk=chunk) for chunk in _powers(4, TOKENS_MAX)}
    coarse |= {_Kind.of(decodes, START, chunk) for decodes, chunk in MIXES}
    fine = {_Kind.of(decodes, context) for decodes in _powers(2, DECODES_MAX) for context in CONTEXTS}
    fine |= {_Kind.of(chunk=chunk, start=start) for chunk in _powers(2, TOKENS_MAX) for start in (0, START)}
    kinds = [*sorted(coarse), *sorted(fine - coarse)]
    return [plan for number, kind in enumerate(kinds) if (plan := _plan(info, number, kind)) is not None]


def _plan(info: ExecutorInfo, number: int, kind: _Kind) -> StepPlan | None:
    """A step of that kind; None if there is no room for it.

    What is written lies side by side at the front of the cache, since the first write to a page of memory takes far
    longer than all others. What is read is different for each sequence, as it is in earnest.
    """
    size = info.block_size
    spans = [(kind.context, 1)] * kind.decodes + [(kind.start, kind.chunk)] * (kind.chunk > 0)
    read = [start // size for start, _ in spans]
    written = [(start + length - 1) // size - start // size + 1 for start, length in spans]
    if sum(read) + sum(written) > info.kv_blocks or max(map(sum, spans)) > info.context_tokens:
        return None
    to_write, to_read = count(), count(sum(written))
    chunks = []
    for index, (start, length) in enumerate(spans):
        table = (*islice(to_read, read[index]), *islice(to_write, written[index]))
        tokens = tuple((index + position) % info.vocab_size for position in range(length))
        draw = Draw(GREEDY, 0, start + length)
        chunks.append(Chunk(f"calibration-{index}", start, tokens, table, draw))
    return StepPlan(number, tuple(chunks))


def _powers(base: int, most: int) -> list[int]:
    return [base**exponent for exponent in range(most.bit_length()) if base**exponent <= most]
