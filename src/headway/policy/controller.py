"""The policy that keeps promises: every step takes as much as still lets everybody be on time.

Time. The slack of the requests that decode is the time of the next step; the step-time model says how many prompt
tokens fit beside them. So the batch size is an outcome: many tokens while promises are loose or few decode, few when
they are tight. Requests without a promise get what is left of that time.

Order. Prompts go by due time. Whoever can't be on time leaves before it costs anything (``ontime``), and while more is
offered than can be done, who brings more work than it is worth isn't let in (``price``).

Correction. Models err, so what is observed moves a margin: slowly, within bounds, and only while the limit matters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

from headway.policy.allowance import Allowance, TimeAllowance
from headway.policy.events import Rejected, RejectReason
from headway.policy.ontime import PromptSpeed, must_leave, prompt_work_s
from headway.policy.policy import Leaving, Load, Scene
from headway.policy.price import BidPrice
from headway.policy.request import Request
from headway.policy.slo import ServiceClasses
from headway.policy.steptime import StepShape, StepTimeModel
from headway.policy.waiting import Lane

RETRY_MIN_S = 1.0
RETRY_MAX_S = 60.0
REVIEW_MOST = 64
"""Of those that wait, so many are looked at before a step; a newcomer is checked against all."""
STEP_SHARE_OF_TTFT = 1 / 3
"""A step without decodes takes at most this share of the tightest TTFT: somebody may come the moment it began."""
BATCH_STEP_SHARE_OF_TTFT = 1 / 4
STARVED_STEPS = 20
"""If so many steps in a row had no room for requests without a promise, the next one is theirs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PromiseConfig:
    """What an operator may choose.

    ``never_shed``: nobody is refused for being late; they are served after those that can be on time.
    ``fair``: in overload, long prompts are refused no more often than short ones, at the price of fewer in all.
    ``order``, ``admission``, ``batch_fill`` switch parts off, to measure what each is worth.
    """

    never_shed: bool = False
    fair: bool = False
    order: bool = True
    admission: bool = True
    batch_fill: bool = True


class PromisePolicy:
    """See the module. ``model`` is shared with whoever calibrates it."""

    prompts_first = False

    def __init__(
        self,
        model: StepTimeModel,
        classes: ServiceClasses,
        config: PromiseConfig | None = None,
    ) -> None:
        self.model = model
        self.config = config or PromiseConfig()
        self.price = BidPrice(fair=self.config.fair)
        self.time_s = 0.0
        self._starved = 0
        self._tokens_per_s = 1.0
        self._newcomer: Request | None = None
        self.set_classes(classes)

    def set_classes(self, classes: ServiceClasses) -> None:
        promised = [each.objective for each in classes.values() if not each.is_batch]
        self._ttft_s = min((each.ttft_s for each in promised if each.ttft_s is not None), default=inf)
        self._itl_s = min((each.itl_s for each in promised if each.itl_s is not None), default=inf)

    # Who comes in.

    def offer(self, now: float, request: Request, scene: Scene) -> Rejected | None:
        request.lane, request.key = Lane.TIMELY, request.due_s if self.config.order else 0.0
        if not self.config.batch_fill:
            request.deferrable = False
        if request.deferrable:
            request.lane, request.key = Lane.BATCH, 0.0
            return None
        if not self.config.admission or request.due_s == inf:
            return None
        speed = self._speed(now, scene)
        work_s = prompt_work_s(speed, request)
        if not self.price.offer(now, request.spec.tenant, work_s, request.spec.weight) and not self.config.never_shed:
            retry_s = _bounded(RETRY_MIN_S * self.price.load)
            if request.spec.may_demote:
                request.demote()
                request.lane, request.key = Lane.BATCH, 0.0
                return None
            message = "more is asked for than can be on time; this request is among the longest"
            return Rejected(request.request_id, RejectReason.OVERLOADED, message, retry_after_s=retry_s)
        return None

    def review(self, now: float, scene: Scene) -> Sequence[Leaving]:
        timely = scene.waiting.lanes[Lane.TIMELY]
        if not timely or not self.config.admission:
            return ()
        speed = self._speed(now, scene)
        late = must_leave(now, timely, speed, REVIEW_MOST)
        if self.config.never_shed:
            for request, _ in late:
                scene.waiting.remove(request)
                scene.waiting.add(request, Lane.LATE)
            return ()
        return [
            Leaving(request, f"it would be late by {late_s:.2f} s", _bounded(late_s * self.price.load))
            for request, late_s in late
        ]

    # What a step takes.

    def allowance(self, now: float, load: Load, scene: Scene) -> Allowance:
        count = len(load.decodes)
        context = 0
        itl_s = inf
        for request in load.decodes:
            context += len(request.tokens)
            if request.objective.itl_s is not None and request.objective.itl_s < itl_s:
                itl_s = request.objective.itl_s
        time_s = min(itl_s, max(self._ttft_s * STEP_SHARE_OF_TTFT, 0.0)) if count == 0 else itl_s
        if time_s == inf:
            time_s = 0.1
        self.time_s = time_s
        fits = self.model.chunk_within(count, count, context, 0.0, 0, scene.max_step_tokens, time_s)
        self._tokens_per_s = max(fits, 1) / time_s
        deferrable_s = min(time_s, self._ttft_s * BATCH_STEP_SHARE_OF_TTFT)
        return TimeAllowance(self.model, scene.max_step_tokens, time_s, deferrable_s)

    def observe(self, now: float, shape: StepShape, elapsed_s: float) -> None:
        self.model.observe(shape, elapsed_s)

    def finished(self, now: float, request: Request, in_slo: bool) -> None:
        pass

    def _speed(self, now: float, scene: Scene) -> PromptSpeed:
        free_s = now
        if scene.step is not None:
            of = scene.step
            free_s = scene.step_began_s + self.model.predict_s(
                of.tokens, of.sequences, of.decode_context, of.prefill_reads
            )
        model = self.model
        read_s = max(0.0, model.predict_s(1, 1, 0, 1e6) - model.predict_s(1, 1, 0, 0.0)) / 1e6
        begun = 0.0
        for request in scene.running:
            left = len(request.tokens) - request.computed - request.planned
            if left > 1 and not request.deferrable:
                begun += left
        for request in scene.waiting.lanes[Lane.RETURNING]:
            begun += len(request.tokens)
        return PromptSpeed(max(free_s, now) + begun / self._tokens_per_s, self._tokens_per_s, read_s, self.time_s)


def _bounded(seconds: float) -> float:
    return min(max(seconds, RETRY_MIN_S), RETRY_MAX_S)
