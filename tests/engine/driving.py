"""Running requests through the real scheduler, in the many ways that must not change an answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from headway.policy.events import Event, Finished, FinishReason, Preempted, Scheduled, TokenOut
from headway.policy.plan import ExecutorInfo, StepPlan, StepResult
from headway.policy.request import RequestSpec
from headway.policy.sampling import GREEDY, SamplingParams
from headway.policy.scheduler import Scheduler, SchedulerConfig

Run = Callable[[StepPlan], StepResult]

STEPS_MAX = 2000
SCARCE_BLOCKS = 13
"""Cache blocks (of 4) in which any one request of these tests fits, and all of them together don't."""


@dataclass(frozen=True)
class Way:
    """How requests are served. All ways give the same tokens."""

    chunked: bool = False
    cached: bool = False
    preempted: bool = False


@dataclass(frozen=True)
class Served:
    answers: tuple[tuple[int, ...], ...]
    cached_tokens: int
    preemptions: int
    longest_chunk: int


def serve(
    run: Run,
    info: ExecutorInfo,
    prompts: Sequence[tuple[int, ...]],
    max_tokens: int,
    way: Way,
    sampling: SamplingParams = GREEDY,
) -> Served:
    """Serve all prompts at once, one way.

    Cached: they were served before, so their full blocks are found. Preempted: a lone request loses its executor half
    way; several get a cache too small for all.
    """
    scarce = way.preempted and len(prompts) > 1
    scheduler = Scheduler(
        replace(info, kv_blocks=SCARCE_BLOCKS) if scarce else info,
        SchedulerConfig(max_step_tokens=6 if way.chunked else 4096, kv_lookahead_tokens=0, kv_watermark=0.0),
        prefix_key=b"0123456789abcdef",
    )
    if way.cached:
        for index, prompt in enumerate(prompts):
            _submit(scheduler, f"warm-{index}", prompt, 1, sampling)
            _drive(scheduler, run, lose_at=None)
    for index, prompt in enumerate(prompts):
        _submit(scheduler, f"request-{index}", prompt, max_tokens, sampling)
    events, longest = _drive(scheduler, run, lose_at=max_tokens // 2 if way.preempted and not scarce else None)
    finished = [event for event in events if isinstance(event, Finished)]
    assert [event.reason for event in finished] == [FinishReason.LENGTH] * len(prompts)
    answers = []
    for index in range(len(prompts)):
        tokens = [each for each in events if isinstance(each, TokenOut) and each.request_id == f"request-{index}"]
        assert [token.index for token in tokens] == list(range(max_tokens))
        answers.append(tuple(token.token for token in tokens))
    return Served(
        answers=tuple(answers),
        cached_tokens=sum(each.cached_tokens for each in events if isinstance(each, Scheduled) and not each.resumed),
        preemptions=sum(isinstance(each, Preempted) for each in events),
        longest_chunk=longest,
    )


def _submit(
    scheduler: Scheduler, request_id: str, prompt: tuple[int, ...], max_tokens: int, sampling: SamplingParams
) -> None:
    spec = RequestSpec(request_id=request_id, prompt=prompt, max_tokens=max_tokens, sampling=sampling)
    scheduler.submit(0.0, spec)


def _drive(scheduler: Scheduler, run: Run, *, lose_at: int | None) -> tuple[list[Event], int]:
    """Step until nothing is left. After ``lose_at`` tokens the executor is lost, once. Also the longest chunk run."""
    events: list[Event] = []
    longest = 0
    for _ in range(STEPS_MAX):
        plan = scheduler.plan(0.0)
        if plan is None:
            assert scheduler.idle
            return events, longest
        longest = max(longest, *(len(chunk.tokens) for chunk in plan.chunks))
        events += scheduler.apply(0.0, run(plan))
        if lose_at is not None and sum(isinstance(event, TokenOut) for event in events) >= lose_at:
            events += scheduler.executor_lost(0.0)
            lose_at = None
    raise AssertionError(f"not done after {STEPS_MAX} steps")
