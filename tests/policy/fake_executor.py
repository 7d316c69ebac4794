"""A fake model on a real paged cache: what it draws depends on every position it reads through the block table.

So a block that was handed to two requests, written too late, or found under the wrong tokens shows as a wrong token.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from zlib import crc32

from headway.policy.events import FinishReason
from headway.policy.plan import Chunk, DrawnToken, ExecutorInfo, ExecutorLost, FailedDraw, StepPlan, StepResult
from headway.policy.request import RequestSpec

STEP_S = 0.01


def key_value(previous: int, token: int) -> int:
    """What the cache holds for a token: depends on all tokens before it, as a layer's keys and values do."""
    return crc32(array("q", (previous, token)).tobytes())


def draw(seed: int, values: list[int], vocab_size: int) -> int:
    return crc32(array("q", (seed, *values)).tobytes()) % vocab_size


def oracle(spec: RequestSpec, vocab_size: int) -> tuple[list[int], FinishReason]:
    """What a request's answer must be, whatever else goes on: its tokens (no stop token) and how it ends."""
    values: list[int] = []
    for token in spec.prompt:
        values.append(key_value(values[-1] if values else 0, token))
    output: list[int] = []
    while len(output) < spec.max_tokens:
        token = draw(spec.sampling.seed, values, vocab_size)
        if token in spec.sampling.stop_token_ids and len(output) >= spec.sampling.min_tokens:
            return output, FinishReason.STOP
        output.append(token)
        values.append(key_value(values[-1], token))
    return output, FinishReason.LENGTH


@dataclass
class FakeExecutor:
    """Runs plans on a dictionary of cache slots. The cache is written when a step is finished, as late as can be."""

    info: ExecutorInfo
    failing: set[str] = field(default_factory=set)
    slots: dict[int, int] = field(default_factory=dict)
    plan: StepPlan | None = None
    lost: bool = False

    def start(self) -> ExecutorInfo:
        self.slots.clear()
        self.plan, self.lost = None, False
        return self.info

    def begin(self, plan: StepPlan) -> None:
        if self.lost:
            raise ExecutorLost
        assert self.plan is None, "a step is in flight"
        self.plan = plan

    def finish(self) -> StepResult:
        if self.lost:
            raise ExecutorLost
        assert self.plan is not None, "no step is in flight"
        plan, self.plan = self.plan, None
        return self.run(plan)

    def stop(self) -> None:
        self.lost = True

    def run(self, plan: StepPlan) -> StepResult:
        for chunk in plan.chunks:  # all writes come first: chunks of one step share a forward pass
            self._write(chunk)
        drawn: list[DrawnToken] = []
        failed: list[FailedDraw] = []
        for chunk in plan.chunks:
            if chunk.request_id in self.failing:
                failed.append(FailedDraw(chunk.request_id, "logits that are not numbers"))
            elif chunk.draw is not None:
                end = chunk.start + len(chunk.tokens)
                values = [self.slots.get(self._slot(chunk, position), -1) for position in range(end)]
                token = draw(chunk.draw.params.seed, values, self.info.vocab_size)
                drawn.append(DrawnToken(chunk.request_id, token))
        return StepResult(plan.step_id, tuple(drawn), tuple(failed), elapsed_s=STEP_S)

    def _write(self, chunk: Chunk) -> None:
        previous = self.slots.get(self._slot(chunk, chunk.start - 1), -1) if chunk.start else 0
        for position, token in enumerate(chunk.tokens, start=chunk.start):
            previous = key_value(previous, token)
            self.slots[self._slot(chunk, position)] = previous

    def _slot(self, chunk: Chunk, position: int) -> int:
        size = self.info.block_size
        block = chunk.block_table[position // size]
        assert 0 <= block < self.info.kv_blocks, f"no block {block}"
        return block * size + position % size
