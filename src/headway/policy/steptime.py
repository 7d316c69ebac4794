"""How long a step takes: predicted from what is in it, learned from the steps that ran.

    time = pace x (f(tokens) + a x sequences + b x decode_context + (c + d x prefill_reads, if there is prefill))

``f`` is increasing and piecewise linear, so that a processor that needs large batches to be efficient (steep, then
flat), one that waits for memory first (flat, then steep) and one with steps in between can all be described. Nothing
in it is negative, so more work never takes less time, and how much work fits a given time can be found.

Two things are learned, each at its own rate. The *costs* (what stands in brackets) belong to model and machine: they
are fitted to samples of every kind of step seen, rare ones included, as relative errors count. The *pace* is how much
slower than that the machine is right now: the median of the latest few steps. It follows a noisy neighbour or a clock
that drops within two steps, and one odd step does not move it. Samples are kept as they would be at pace 1.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection

from headway.policy.stepfile import PACE_MAX, StepTimeState, read, write
from headway.policy.stepfit import PRIOR, Samples
from headway.policy.stepshape import StepShape, is_step
from headway.policy.tail import Tail

__all__ = ("StepShape", "StepTimeModel")

PACE_STEPS = 3
"""Steps whose median is the pace. On a machine with other work, the last steps say far more than those before."""
AROUND_STEPS = 11
"""A step's sample is kept at the median pace of the steps around it: of so many, with itself in the middle."""
REFIT_STEPS = 64
REFIT_UNFAMILIAR_STEPS = 8
"""Steps between fits: all, or those of kinds that the last fit did not know."""
UNSURPRISED = 0.002
"""A fit is put off while no step since the last one was further off than this: only modelled machines are so even."""
JUMP = 1.5
"""By how much a step has to be off to say more about the pace than about its kind, once the costs are known."""
RECENT_STEPS = 1024
"""Steps over which error, coverage and the usual pace are told."""
TIME_MIN_S, TIME_MAX_S = 1e-6, 3600.0


class StepTimeModel:
    """Predicts the time of a step, and learns from each that ran. Deterministic: no clock, no chance.

    Predictions are positive and finite, and never fall when any feature grows (``tail_s``: among steps that only
    decode, and among steps that prefill as well). Before the first sample they are those of a slow machine.
    """

    def __init__(self) -> None:
        self.samples = 0
        self.ignored = 0
        self._pace = 1.0
        self._costs = PRIOR
        self._decode_tail = Tail()
        self._mixed_tail = Tail()
        self._kept = Samples()
        self._steps_since_fit = 0
        self._unfamiliar_since_fit = 0
        self._worst_since_fit = 0.0
        self._latest: deque[tuple[StepShape, float]] = deque(maxlen=AROUND_STEPS)  # those of familiar kinds
        self._paces: deque[float] = deque(maxlen=AROUND_STEPS)  # what each of them says
        self._recent: deque[tuple[StepShape, float]] = deque(maxlen=RECENT_STEPS)  # as in _latest
        self._prompts: deque[tuple[StepShape, float]] = deque(maxlen=PACE_STEPS)  # the latest with prefill
        self._errors: deque[float] = deque(maxlen=RECENT_STEPS)
        self._within: deque[bool] = deque(maxlen=RECENT_STEPS)

    # Asking.

    def predict_s(self, tokens: int, sequences: int, decode_context: int, prefill_reads: float) -> float:
        """The typical time of such a step."""
        return self._pace * self._costs.time_s(tokens, sequences, decode_context, prefill_reads)

    def tail_s(self, tokens: int, sequences: int, decode_context: int, prefill_reads: float) -> float:
        """The time that 95 % of such steps stay within."""
        tail = self._mixed_tail if prefill_reads > 0.0 else self._decode_tail
        return tail.margin * self.predict_s(tokens, sequences, decode_context, prefill_reads)

    def prompt_alone_s(self, tokens: int, prefill_reads: float) -> float:
        """The typical time of a chunk of a prompt on a machine that has nothing else to do.

        The pace is then that of steps some time ago, most likely of decodes, and those may have been slower than costs
        say by another factor than prompts are. So it is theirs or that of the latest prompts, whichever is faster.
        Where those are old and the machine has slowed down since, the first two are taken for quicker than they are.
        """
        return self._prompt_pace() * self._costs.time_s(tokens, 1, 0, prefill_reads)

    def _prompt_pace(self) -> float:
        if len(self._prompts) < PACE_STEPS:
            return self._pace
        return min(self._pace, _median([_bounded(time_s / self._cost_s(shape)) for shape, time_s in self._prompts]))

    def chunk_within(
        self,
        tokens: int,
        sequences: int,
        decode_context: int,
        prefill_reads: float,
        start: int,
        most: int,
        time_s: float,
    ) -> int:
        """The largest p in 0..most such that the step with one more chunk of p tokens after ``start`` stays within
        ``time_s``, by ``tail_s``; 0 if no chunk does."""
        tail_s, sequences = self.tail_s, sequences + 1
        low, high = 0, most + 1  # low fits, high does not
        probe = most  # most of the time all of it fits
        while high - low > 1:
            reads = prefill_reads + probe * (start + probe / 2)
            if tail_s(tokens + probe, sequences, decode_context, reads) <= time_s:
                low = probe
            else:
                high = probe
            probe = (low + high) >> 1
        return low

    @property
    def pace(self) -> float:
        """How many times as long as the fitted costs say, steps take right now."""
        return self._pace

    @property
    def median_error(self) -> float:
        """Median of |predicted - actual| / actual over the latest steps, each predicted before it ran; 0 if none."""
        return sorted(self._errors)[len(self._errors) // 2] if self._errors else 0.0

    @property
    def coverage(self) -> float:
        """Share of the latest steps that stayed within ``tail_s``; 1 if there were none."""
        return sum(self._within) / len(self._within) if self._within else 1.0

    # Learning.

    def observe(self, shape: StepShape, elapsed_s: float) -> None:
        """Learn from a step that took ``elapsed_s`` from plan to apply. What can't be a step's time is ignored."""
        if not (TIME_MIN_S <= elapsed_s <= TIME_MAX_S and is_step(shape)):
            self.ignored += 1
            return
        self.samples += 1
        cost_s = self._cost_s(shape)
        ratio = elapsed_s / (self._pace * cost_s)
        self._judge(shape.prefill_reads > 0.0, ratio)
        self._steps_since_fit += 1
        # A machine that slows down makes the policy plan smaller steps, of kinds that may never have been seen. What is
        # far off then is the pace, or these steps would be taken for slow by nature.
        is_jump = self.samples > REFIT_STEPS and not 1.0 / JUMP < ratio < JUMP
        if is_jump or self._kept.is_familiar(shape):
            self._latest.append((shape, elapsed_s))
            self._paces.append(_bounded(elapsed_s / cost_s))
            self._recent.append((shape, elapsed_s))
            if shape.prefill_reads > 0.0:
                self._prompts.append((shape, elapsed_s))
            self._follow()
            if len(self._latest) == AROUND_STEPS:
                middle, middle_s = self._latest[AROUND_STEPS // 2]
                self._kept.add(middle, middle_s / _median(self._paces))
        else:  # it tells more about its kind than about the pace
            self._kept.add(shape, elapsed_s / (_median(self._paces) if self._paces else self._pace))
            self._unfamiliar_since_fit += 1
        if self._steps_since_fit >= REFIT_STEPS or self._unfamiliar_since_fit >= REFIT_UNFAMILIAR_STEPS:
            if self._worst_since_fit > UNSURPRISED or self._unfamiliar_since_fit:
                self.refit()
            self._steps_since_fit, self._worst_since_fit = 0, 0.0

    def refit(self) -> None:
        """Fit the costs to all that is known. ``observe`` does it every so often."""
        self._steps_since_fit = self._unfamiliar_since_fit = 0
        is_first = self._costs is PRIOR
        self._costs = self._kept.fit(self._costs)
        if is_first:
            self._costs = self._kept.fit(self._costs)  # what is relative to the last fit was relative to a mere guess
        self._paces = deque((_bounded(t / self._cost_s(shape)) for shape, t in self._latest), maxlen=AROUND_STEPS)
        self._follow()

    def calibrated(self) -> None:
        """What was observed so far was chosen to learn from, not served: count errors and margins from here on."""
        self.refit()
        self._decode_tail, self._mixed_tail = Tail(), Tail()
        self._errors.clear()
        self._within.clear()

    # Keeping.

    @property
    def usual_pace(self) -> float:
        """The median pace of the latest steps: that of the machine on the whole, not right now."""
        return _median([_bounded(t / self._cost_s(shape)) for shape, t in self._recent] or [self._pace])

    def to_json(self) -> str:
        """All that predictions and later fits depend on, but not the latest steps: at the machine's usual pace, since
        whoever reads it comes later."""
        tails = (self._decode_tail, self._mixed_tail)
        return write(StepTimeState(self.samples, self.usual_pace, self._costs, tails, tuple(self._kept)))

    @classmethod
    def from_json(cls, text: str) -> StepTimeModel:
        """A model that predicts as the one saved did, at its usual pace. Raises ValueError, with one clear line, on
        anything else."""
        state = read(text)
        model = cls()
        model.samples = state.observed
        model._pace, model._costs = state.pace, state.costs
        model._decode_tail, model._mixed_tail = state.tails
        for shape, time_s in state.samples:
            model._kept.add(shape, time_s)
        model._kept.recognise()
        return model

    # Parts of observe.

    def _judge(self, is_mixed: bool, ratio: float) -> None:
        """Compare a step with what was predicted for it. ``ratio``: actual over predicted."""
        tail = self._mixed_tail if is_mixed else self._decode_tail
        error = abs(1.0 / ratio - 1.0)
        self._errors.append(error)
        if error > self._worst_since_fit:
            self._worst_since_fit = error
        self._within.append(ratio <= tail.margin)
        tail.observe(ratio)

    def _follow(self) -> None:
        if len(self._paces) >= PACE_STEPS:
            self._pace = _median([self._paces[-i] for i in range(1, PACE_STEPS + 1)])

    def _cost_s(self, shape: StepShape) -> float:
        """The time at pace 1."""
        return self._costs.time_s(shape.tokens, shape.sequences, shape.decode_context, shape.prefill_reads)


def _bounded(pace: float) -> float:
    return min(max(pace, 1.0 / PACE_MAX), PACE_MAX)


def _median(values: Collection[float]) -> float:
    return sorted(values)[len(values) // 2]
