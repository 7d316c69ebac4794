"""Policies to be beaten, selectable and never the default: fixed caps, and caps moved by what was observed.

None of them knows what was promised to whom; all serve in order of arrival and refuse only at the hard caps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from headway.policy.allowance import Allowance, TokenAllowance
from headway.policy.policy import Load, Refusal, Scene
from headway.policy.request import Request
from headway.policy.slo import TARGET_ATTAINMENT, ServiceClasses
from headway.policy.steptime import StepShape
from headway.policy.waiting import Lane


class FirstComeFirstServed:
    """Everybody is equal, and waits in order of arrival. What a step takes is left to who inherits."""

    prompts_first = False
    looks_at_room = False

    def set_classes(self, classes: ServiceClasses) -> None:
        """They are all the same to it."""

    def offer(self, now: float, request: Request, scene: Scene) -> Refusal | None:
        request.deferrable = False
        request.lane, request.key = Lane.TIMELY, 0.0
        return None

    def review(self, now: float, scene: Scene) -> Sequence[Refusal]:
        return ()

    def observe(self, now: float, shape: StepShape, elapsed_s: float) -> None:
        """Learns nothing from it."""

    def repeated(self, now: float, shape: StepShape, steps: int, elapsed_s: float) -> None:
        """Learns nothing from it."""

    def finished(self, now: float, request: Request) -> None:
        """Learns nothing from it."""

    def judge(self, now: float, ttft_kept: bool | None, itl_kept: bool | None) -> None:
        """Learns nothing from it."""

    def numbers(self, now: float) -> Mapping[str, float]:
        return {}


class StaticPolicy(FirstComeFirstServed):
    """The same number of tokens for every step, decodes first: what every engine does today, vLLM's V1 among them.

    (The cap on sequences is the scheduler's ``max_running``.) With ``prompts_first`` a step that prefills does nothing
    else, as vLLM's first scheduler did.
    """

    def __init__(self, *, prompts_first: bool = False) -> None:
        self.prompts_first = prompts_first

    def allowance(self, now: float, load: Load, scene: Scene) -> Allowance:
        return TokenAllowance(scene.max_step_tokens, self.prompts_first)


class AimdPolicy(FirstComeFirstServed):
    """Caps on sequences and tokens that grow by a step while requests are in time, and shrink by a share when not.

    The classic of congestion control (Chiu and Jain, 1989) on attainment over the last ``WINDOW`` requests finished.
    """

    WINDOW = 32
    TOKENS_MIN = 16
    TOKENS_STEP = 16
    SHARE = 0.75

    TOKENS_FIRST = 256

    def __init__(self) -> None:
        self._tokens = float(self.TOKENS_FIRST)
        self._in_slo = 0
        self._seen = 0

    def allowance(self, now: float, load: Load, scene: Scene) -> Allowance:
        self._tokens = min(self._tokens, scene.max_step_tokens)
        return TokenAllowance(int(self._tokens))

    def finished(self, now: float, request: Request) -> None:
        self._seen += 1
        self._in_slo += request.broken(now) is None
        if self._seen < self.WINDOW:
            return
        if self._in_slo >= TARGET_ATTAINMENT * self._seen:
            self._tokens += self.TOKENS_STEP
        else:
            self._tokens = max(self._tokens * self.SHARE, self.TOKENS_MIN)
        self._seen = self._in_slo = 0
