"""The policy that keeps promises: every step takes as much as still lets everybody be on time.

Time. The slack of the requests that decode is the time of the next step; the step-time model says how many prompt
tokens fit beside them. So the batch size is an outcome: many tokens while promises are loose or few decode, few when
they are tight. Requests without a promise get what is left of that time.

Order. Prompts go by due time. Whoever can't be on time leaves before it costs anything (``ontime``), and while more is
offered than can be done, who brings more work than it is worth isn't let in (``price``).

Correction. Models err, so what is observed moves a margin, slowly and within bounds (``margin``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from heapq import merge
from itertools import islice
from math import ceil, inf

from headway.policy.admission import RETRY_AFTER_MIN_S, bounded_retry_s
from headway.policy.allowance import CHUNK_TOKENS_MIN, Allowance, TimeAllowance
from headway.policy.events import RejectReason
from headway.policy.margin import Margin
from headway.policy.ontime import SPARE_STEPS, PromptSpeed, must_leave, prompt_left
from headway.policy.policy import Load, Refusal, Scene
from headway.policy.price import Bid, BidPrice
from headway.policy.request import Request
from headway.policy.slo import Objective, ServiceClasses, gaps_needed
from headway.policy.steptime import StepShape, StepTimeModel
from headway.policy.tightest import Tightest
from headway.policy.turn import Turn
from headway.policy.waiting import Lane

REVIEW_MOST = 32
"""Of those that wait, so many are looked at; who comes behind them is judged by the sum of all."""
STEP_SHARE_OF_TTFT = 1 / 3
"""A step in which nobody decodes takes at most this share of the tightest TTFT: somebody may come when it has begun."""
DEFERRABLE_SHARES_OF_TTFT = (1 / 12, 1 / 4)
"""The same for a step that is filled up with work that was promised nothing: on a machine full of promises, and on one
that has half its time to spare or more."""
STEP_MAX_S = 0.25
"""A step without any promise to look at."""
TURN_SHARE = 0.2
"""When work that was promised nothing has its turn, it gets so much of the step's time."""
SMOOTHING = 0.05
"""How much the latest step counts in the average of how fast prompts are worked off."""
ITL_MARGIN_MIN = 1.01
"""A step that is planned to end to the microsecond ends late every other time."""
ITL_MARGIN_FIRST = 1.1
"""Before anybody has told what came of it: a promise broken at first is broken, and the margin soon finds its place."""
JITTER_S = 0.004
"""How much later than at the end of its step a token may reach its client, more than the one before it did: there are
others to be written first. Measured with a hundred streams."""
REPLY_S = 0.005
"""From a step's end until its tokens are with the client."""
TRUSTED_SAMPLES = 16
"""With fewer steps observed, no request is called impossible."""
READS_PROBE = 1e6
"""Positions to be read by which the time of one is told."""
BROKEN_MAX = 0.5
"""A prompt may have a long step for itself if that breaks no more promises, on average: to refuse it breaks one."""
EXPECTED_TOKENS = 64
"""How long an answer is taken to get of whose class nothing is known yet."""


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
    looks_at_room = True

    def __init__(self, model: StepTimeModel, classes: ServiceClasses, config: PromiseConfig | None = None) -> None:
        self.model = model
        self.config = config or PromiseConfig()
        self._price = BidPrice(fair=self.config.fair)
        self._tightest = Tightest()
        self._ttft_margin = Margin()
        self._itl_margin = Margin(ITL_MARGIN_MIN, ITL_MARGIN_FIRST)
        self._time_s = self._step_s = STEP_MAX_S
        self._tokens_per_s = 1.0
        self._work_per_s = 0.0
        self._last: TimeAllowance | None = None
        self._prompt_turn = Turn()
        self._deferrable_turn = Turn()
        self._is_told = False
        self.set_classes(classes)

    def set_classes(self, classes: ServiceClasses) -> None:
        promised = [each.objective for each in classes.values()]
        self._default = Objective(
            ttft_s=min((each.ttft_s for each in promised if each.ttft_s), default=None),
            itl_s=min((each.itl_s for each in promised if each.itl_s), default=None),
        )

    # Who comes in.

    def offer(self, now: float, request: Request, scene: Scene) -> Refusal | None:
        if not self.config.batch_fill:
            request.deferrable = False
        if request.deferrable:
            request.lane, request.key = Lane.BATCH, 0.0
            return None
        request.lane, request.key = Lane.TIMELY, request.due_s if self.config.order else 0.0
        if self.config.admission:
            refusal = self._impossible(now, request) or self._crowded_out(now, request, scene)
            if refusal is not None and (refusal.is_final or not self.config.never_shed):
                return refusal
            if refusal is not None:
                request.lane, request.key = Lane.LATE, inf
                return None
        self._tightest.see(now, request.objective)
        return None

    def _crowded_out(self, now: float, request: Request, scene: Scene) -> Refusal | None:
        """Refuse what can't be on time beside what is here already."""
        speed = self._speed(now, scene)
        drain_s = (scene.waiting.timely_tokens + request.uncached) / speed.tokens_per_s
        if self._leaves_no_room(request, scene):
            message = "so many answers are being written that tokens can't come as often as it wants them"
            return Refusal(request, message, bounded_retry_s(drain_s))
        if request.due_s == inf:
            return None
        if self._is_far_behind(request, speed, scene):
            return Refusal(request, "so many are waiting that it would be late", bounded_retry_s(drain_s))
        bid = Bid(now, request.spec.tenant, request.spec.weight, speed.work_s(request) * speed.tokens_per_s)
        fits_the_price = self._price.offer(bid, self._work_per_s)
        if fits_the_price and self._price.crowds(request.spec.tenant):
            fits_the_price = self._leaves_the_others_room(now, request, speed, scene)
        is_idle = scene.step is None and not scene.waiting.lanes[Lane.TIMELY]
        if fits_the_price or is_idle:
            return None
        message = "more is asked for than can be on time, and this request would take more than its share"
        return Refusal(request, message, bounded_retry_s(max(drain_s, RETRY_AFTER_MIN_S * self._price.load)))

    def review(self, now: float, scene: Scene) -> Sequence[Refusal]:
        timely = scene.waiting.lanes[Lane.TIMELY]
        if not timely or not self.config.admission:
            return ()
        late = must_leave(now, self._prompts(scene), self._speed(now, scene), partial(self._alone_s, scene))
        if late:
            self._ttft_margin.lean()
        if self.config.never_shed:
            for request, _ in late:
                scene.waiting.remove(request)
                scene.waiting.add(request, Lane.LATE, inf)
            return ()
        return [
            Refusal(request, "it could not be on time beside those that came before it", bounded_retry_s(late_s))
            for request, late_s in late
        ]

    def _impossible(self, now: float, request: Request) -> Refusal | None:
        """Refuse what can't be on time on an idle machine: for good, unless it is its own deadline that is too near."""
        if self.model.samples < TRUSTED_SAMPLES:
            return None
        objective, tokens = request.objective, request.prompt_tokens
        left, reads = _prompt_work(request)
        pace = max(1.0, self.model.pace)  # a slow moment makes nothing impossible for good
        alone_s = min(self.model.predict_s(left, 1, 0, reads) / pace, self._typical_s(request))
        deadline_s = request.spec.deadline_s
        if deadline_s is not None and now + alone_s > deadline_s:
            message = f"its first token takes {alone_s:.2f} s, and its deadline is in {deadline_s - now:.2f} s"
            return Refusal(request, message, None, is_final=True)
        token_s = self.model.predict_s(1 + CHUNK_TOKENS_MIN, 2, tokens, CHUNK_TOKENS_MIN**2 / 2) / pace
        for what, promised_s, taken_s in (("first", objective.ttft_s, alone_s), ("next", objective.itl_s, token_s)):
            if promised_s is not None and taken_s > promised_s:
                message = (
                    f"on an idle machine its {what} token takes {1000 * taken_s:.0f} ms; {1000 * promised_s:.0f} ms "
                    "are promised: ask for another service_tier, or send fewer tokens"
                )
                return Refusal(request, message, None, RejectReason.IMPOSSIBLE)
        return None

    def _leaves_no_room(self, request: Request, scene: Scene) -> bool:
        """Whether nobody could begin beside those that run and this one, if its tokens are to come in time."""
        itl_s = request.objective.itl_s
        if itl_s is None or self.model.samples < TRUSTED_SAMPLES:
            return False
        beside = [each for each in scene.running if not each.deferrable]
        count, context = len(beside) + 1, sum(len(each.tokens) for each in beside) + len(request.tokens)
        least_s = self.model.predict_s(count + CHUNK_TOKENS_MIN, count + 1, context, CHUNK_TOKENS_MIN**2 / 2)
        return least_s > itl_s

    def _leaves_the_others_room(self, now: float, request: Request, speed: PromptSpeed, scene: Scene) -> bool:
        """Whether behind this one and all before it, once they decode, there is still time for the largest prompt of
        those who ask for no more than their share."""
        decodes = sum(not each.deferrable for each in scene.running) + len(scene.waiting.lanes[Lane.TIMELY]) + 1
        context = sum(len(each.tokens) for each in scene.running) + len(request.tokens)
        step_tokens = self.model.chunk_within(decodes, decodes, context, 0.0, 0, scene.max_step_tokens, self._time_s)
        ahead = scene.waiting.timely_tokens + request.uncached + self._price.quiet_work(now)
        if step_tokens < CHUNK_TOKENS_MIN:
            return False
        steps = ceil(ahead / step_tokens + SPARE_STEPS)
        return speed.free_s + steps * self._step_s <= now + self._ttft_s(now)

    def _is_far_behind(self, request: Request, speed: PromptSpeed, scene: Scene) -> bool:
        """Whether a newcomer's place is behind all that ``review`` looks at, and it would be late behind everybody."""
        timely = scene.waiting.lanes[Lane.TIMELY]
        return (
            len(timely) > REVIEW_MOST
            and request.due_s >= timely[REVIEW_MOST].due_s
            and speed.free_s + (scene.waiting.timely_tokens + request.uncached) / speed.tokens_per_s > request.due_s
        )

    def _prompts(self, scene: Scene) -> Iterator[Request]:
        """Everybody whose answer has not begun, and who has a promise, in order of due times: the first of them."""
        begun = [
            each
            for each in scene.running
            if not each.deferrable and each.lane != Lane.LATE and len(each.tokens) - each.computed - each.planned > 1
        ]
        begun.sort(key=_due)
        return islice(merge(begun, scene.waiting.lanes[Lane.TIMELY], key=_due), len(begun) + REVIEW_MOST)

    def _speed(self, now: float, scene: Scene) -> PromptSpeed:
        model, step = self.model, scene.step
        free_s = now
        if step is None:
            if not scene.running:
                self._set_pace(now, 0, 0, inf, scene)
        else:
            step_s = model.predict_s(step.tokens, step.sequences, step.decode_context, step.prefill_reads)
            free_s = max(now, scene.step_began_s + step_s)
        tokens_per_s = self._tokens_per_s / self._ttft_margin.value
        returning = sum(len(request.tokens) for request in scene.waiting.lanes[Lane.RETURNING])
        read_s = (model.predict_s(1, 1, 0, READS_PROBE) - model.predict_s(1, 1, 0, 0.0)) / READS_PROBE
        free_s += REPLY_S + returning / tokens_per_s
        return PromptSpeed(free_s, tokens_per_s, read_s, self._step_s, room_tokens=scene.room_tokens)

    # What a step takes.

    def allowance(self, now: float, load: Load, scene: Scene) -> Allowance:
        count, context = len(load.decodes), 0
        slack_s = inf
        for request in load.decodes:
            context += len(request.tokens)
            objective = request.objective
            if objective.itl_s is not None and objective.itl_s < slack_s:
                slack_s = objective.itl_s
            if objective.e2e_s is not None:
                slack_s = min(slack_s, self._pace_s(now, request, scene))
        self._set_pace(now, count, context, slack_s, scene)
        time_s = self._time_s
        whole_s = self._whole_prompt_s(now, load, scene, count, context)
        if whole_s > time_s and _broken(load.decodes, scene) <= BROKEN_MAX:
            time_s = whole_s
        deferrable_s = min(time_s, self._ttft_s(now) * self._deferrable_share())
        least_s = self.model.tail_s(count + CHUNK_TOKENS_MIN, count + 1, context, CHUNK_TOKENS_MIN**2 / 2)
        last = self._last
        if self._prompt_turn.is_due(bool(load.prefills), last is not None and last.prompt_tokens > 0):
            time_s = max(time_s, least_s)
        lanes = scene.waiting.lanes
        wanting = load.deferrable_decodes or load.deferrable_prefills or lanes[Lane.BATCH] or lanes[Lane.LATE]
        if self._deferrable_turn.is_due(bool(wanting), last is not None and last.deferrable_tokens > 0):
            deferrable_s = max(time_s, least_s)
            time_s *= 1.0 - TURN_SHARE
        self._last = TimeAllowance(self.model, scene.max_step_tokens, time_s, deferrable_s)
        return self._last

    def _set_pace(self, now: float, decodes: int, context: int, slack_s: float, scene: Scene) -> None:
        """How long a step is beside so many decodes, and how fast prompts then go."""
        time_s = min(max(slack_s / self._itl_margin.value - JITTER_S, slack_s / 2), STEP_MAX_S)
        if not decodes:
            time_s = min(time_s, self._itl_s(now), self._ttft_s(now) * STEP_SHARE_OF_TTFT)
        elif slack_s < STEP_MAX_S and (scene.waiting.lanes[Lane.TIMELY] or scene.waiting.lanes[Lane.BATCH]):
            self._itl_margin.lean()
        fits = self.model.chunk_within(decodes, decodes, context, 0.0, 0, scene.max_step_tokens, time_s)
        # A step is filled to what 95 % of its like stay within; one after the other they take their typical time.
        typical_s = self.model.predict_s(decodes + fits, decodes + 1, context, fits * fits / 2)
        self._time_s, self._step_s = time_s, min(typical_s, time_s)
        self._tokens_per_s = (fits if fits >= CHUNK_TOKENS_MIN else 1) / self._step_s
        weight = SMOOTHING if self._work_per_s else 1.0
        self._work_per_s += weight * (self._tokens_per_s - self._work_per_s)

    def _ttft_s(self, now: float) -> float:
        """The tightest promise of a first token that somebody may come with."""
        seen_s = self._tightest.ttft_s(now)
        return seen_s if seen_s < inf else self._default.ttft_s or inf

    def _itl_s(self, now: float) -> float:
        """The same of the gaps between tokens."""
        seen_s = self._tightest.itl_s(now)
        return seen_s if seen_s < inf else self._default.itl_s or inf

    def _deferrable_share(self) -> float:
        """The fuller the machine is with promises, the less a newcomer may be kept waiting for other work."""
        headroom = 1.0 - min(self._price.load, 1.0)
        least, most = DEFERRABLE_SHARES_OF_TTFT
        return max(least, most * min(1.0, 2.0 * headroom))

    def _pace_s(self, now: float, request: Request, scene: Scene) -> float:
        """The gap at which a request with a promise for its end gets there; no limit if it can't any more."""
        expected = scene.outputs.expected(request) or request.output_tokens + EXPECTED_TOKENS
        left = max(1, min(expected, request.spec.max_tokens) - request.output_tokens)
        pace_s = (request.arrived_s + (request.objective.e2e_s or 0.0) - now) / left
        return pace_s if pace_s > self.model.predict_s(1, 1, len(request.tokens), 0.0) else inf

    def _whole_prompt_s(self, now: float, load: Load, scene: Scene, decodes: int, context: int) -> float:
        """The time of a step with all of the next prompt; 0 if it needn't be one, or would be late so."""
        head = min((*load.prefills, *scene.waiting.lanes[Lane.TIMELY][:1]), key=_due, default=None)
        if head is None or head.due_s == inf:
            return 0.0
        whole_s = self._whole_s(decodes, context, head)
        if now + (whole_s if decodes else self._typical_s(head)) > head.due_s:
            return 0.0
        chunks = ceil(prompt_left(head) / (self._tokens_per_s * self._step_s))
        is_late_in_pieces = now + chunks * self._step_s > head.due_s
        return whole_s if is_late_in_pieces or (not decodes and self._comes_first(now, head)) else 0.0

    def _comes_first(self, now: float, head: Request) -> bool:
        """Whether nobody who comes with a promise of the usual kind will be due before it. Every step has its fixed
        cost, so in pieces it would only take longer."""
        return head.due_s <= now + min(self._ttft_s(now), self._default.ttft_s or inf)

    def _alone_s(self, scene: Scene, request: Request) -> float:
        """The time of a step with the whole of a waiting prompt; ``inf`` if somebody can't spare a long gap for it.

        With nobody beside it that is the typical time: refusing it would be a promise broken for sure, for nobody's
        sake.
        """
        beside = [each for each in scene.running if not each.deferrable]
        if not beside:
            return self._typical_s(request)
        if _broken(beside, scene) > BROKEN_MAX:
            return inf
        return self._whole_s(len(beside), sum(len(each.tokens) for each in beside), request)

    def _typical_s(self, request: Request) -> float:
        """The time that a step with what is left of a prompt, and nothing else, mostly takes."""
        return self.model.prompt_alone_s(*_prompt_work(request))

    def _whole_s(self, decodes: int, context: int, request: Request) -> float:
        """The time of a step that computes what is left of a prompt, and a token for so many others."""
        left, reads = _prompt_work(request)
        return self.model.tail_s(decodes + left, decodes + 1, context, reads)

    def observe(self, now: float, shape: StepShape, elapsed_s: float) -> None:
        self.model.observe(shape, elapsed_s)

    def repeated(self, now: float, shape: StepShape, steps: int, elapsed_s: float) -> None:
        """All of them are learned from as one, of the mean time."""
        self.model.observe(shape, elapsed_s / steps)
        self._work_per_s += (1.0 - (1.0 - SMOOTHING) ** steps) * (self._tokens_per_s - self._work_per_s)

    def finished(self, now: float, request: Request) -> None:
        if not self._is_told:
            promised = request.objective
            self._learn(
                now,
                None if promised.ttft_s is None else request.ttft_kept,
                None if promised.itl_s is None else request.itl_kept,
            )

    def judge(self, now: float, ttft_kept: bool | None, itl_kept: bool | None) -> None:
        self._is_told = True
        self._learn(now, ttft_kept, itl_kept)

    def _learn(self, now: float, ttft_kept: bool | None, itl_kept: bool | None) -> None:
        if ttft_kept is not None and not self.config.never_shed:  # else it is late because nobody is refused
            self._ttft_margin.judge(now, ttft_kept)
        if itl_kept is not None:
            self._itl_margin.judge(now, itl_kept)

    def numbers(self, now: float) -> Mapping[str, float]:
        load = self._price.load_at(now)
        return {
            "step_time_s": self._time_s,
            "prompt_tokens_per_s": self._tokens_per_s,
            "load": load,
            "headroom": max(0.0, 1.0 - load),
            "ttft_margin": self._ttft_margin.value,
            "itl_margin": self._itl_margin.value,
            "model_error": self.model.median_error,
            "model_coverage": self.model.coverage,
            "model_samples": float(self.model.samples),
        }


def _prompt_work(request: Request) -> tuple[int, float]:
    """What is left of a prompt as one chunk: its tokens, and the positions that they read."""
    left = prompt_left(request)
    return left, left * (len(request.tokens) - left / 2)


def _broken(requests: Iterable[Request], scene: Scene) -> float:
    """How many promises a long gap for all of them breaks, on average; more than ``BROKEN_MAX`` is not counted on."""
    broken = 0.0
    for request in requests:
        broken += _risk(request, scene)
        if broken > BROKEN_MAX:
            break
    return broken


def _risk(request: Request, scene: Scene) -> float:
    """The probability that a long gap breaks a promise: one in twenty may be long, if there come to be enough."""
    if request.objective.is_empty or not request.told:
        return 0.0
    if request.objective.itl_s is None:
        return 1.0
    enough = gaps_needed(request.late_gaps + 1) + 1
    if request.told >= enough:
        return 0.0
    if request.spec.max_tokens < enough:
        return 1.0
    share = scene.outputs.share_ending_before(request, enough)
    return 1.0 if share is None else share


def _due(request: Request) -> float:
    return request.due_s
