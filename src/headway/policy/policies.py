"""The scheduling policies by name."""

from __future__ import annotations

from headway.policy.baselines import AimdPolicy, StaticPolicy
from headway.policy.controller import PromiseConfig, PromisePolicy
from headway.policy.policy import Policy
from headway.policy.slo import ServiceClasses
from headway.policy.steptime import StepTimeModel

POLICIES = {
    "headway": "keeps the promises: adaptive steps, order by due time, admission (the default)",
    "static": "the same most tokens in every step, in order of arrival",
    "aimd": "the same, with the number of tokens moved by attainment",
    "prefill-first": "prompts before everything else, and no decode beside them",
    "vllm": "vLLM's defaults: 2048 tokens a step, in order of arrival",
}

PROMISE_TOKENS = 8192
STATIC_TOKENS = 2048


def build(
    name: str,
    *,
    token_limit: int | None = None,
    model: StepTimeModel | None = None,
    classes: ServiceClasses | None = None,
    promise: PromiseConfig | None = None,
) -> Policy:
    """A new policy. ``token_limit``: the most tokens of a step (None: the policy's own default); the rest is for
    ``headway`` alone. Raises ValueError for a name that isn't one of ``POLICIES``."""
    match name:
        case "headway":
            return PromisePolicy(
                model or StepTimeModel(), classes or ServiceClasses(), token_limit or PROMISE_TOKENS, promise
            )
        case "static" | "vllm":
            return StaticPolicy(token_limit or STATIC_TOKENS)
        case "prefill-first":
            return StaticPolicy(token_limit or STATIC_TOKENS, prompts_first=True)
        case "aimd":
            return AimdPolicy(token_limit or STATIC_TOKENS)
    raise ValueError(f"there is no policy {name!r}; there are {', '.join(POLICIES)}")
