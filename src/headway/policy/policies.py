"""The scheduling policies by name."""

from __future__ import annotations

from headway.policy.baselines import AimdPolicy, StaticPolicy
from headway.policy.config import SchedulerConfig
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

VLLM_STEP_TOKENS = 2048


VLLM_CONFIG = SchedulerConfig(
    max_step_tokens=VLLM_STEP_TOKENS,
    max_running=256,
    kv_watermark=0.0,
    kv_deferrable_watermark=0.0,
    kv_foresight=False,
    max_preemptions=1 << 30,
)
"""The limits of a vLLM server of early 2026 (V1, 0.19) on a small GPU, for its policy: no KV block is kept back, nobody
is spared from preemption, and a request starts when what it has so far fits."""


def default_step_tokens(name: str) -> int:
    """The cap on a step's tokens where none is given: for ``headway`` far above what any promise leaves room for."""
    return SchedulerConfig().max_step_tokens if name == "headway" else VLLM_STEP_TOKENS


def build(
    name: str,
    *,
    model: StepTimeModel | None = None,
    classes: ServiceClasses | None = None,
    promise: PromiseConfig | None = None,
) -> Policy:
    """A new policy; all but its name is for ``headway`` alone. Raises ValueError unless it is one of ``POLICIES``."""
    match name:
        case "headway":
            return PromisePolicy(model or StepTimeModel(), classes or ServiceClasses(), promise)
        case "static" | "vllm":
            return StaticPolicy()
        case "prefill-first":
            return StaticPolicy(prompts_first=True)
        case "aimd":
            return AimdPolicy()
    raise ValueError(f"there is no policy {name!r}; there are {', '.join(POLICIES)}")
