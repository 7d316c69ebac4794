"""The named workloads."""

from __future__ import annotations

from dataclasses import replace

from headway.policy.slo import CONVERSATIONAL, INTERACTIVE, Objective
from headway.sim.arrivals import Gamma, Poisson
from headway.sim.lengths import Lognormal
from headway.sim.traces import load
from headway.sim.workload import Backlog, Synthetic, Traffic, Workload

_CHAT_PROMPT = Lognormal(512, 1.0, 16, 4096)
_CHAT_OUTPUT = Lognormal(200, 0.8, 4, 1200)

_CHAT = Traffic(
    source=Synthetic(Poisson(), _CHAT_PROMPT, _CHAT_OUTPUT),
    service_class=CONVERSATIONAL.name,
    objective=CONVERSATIONAL.objective,
)
_BURSTY_CHAT = replace(_CHAT, source=Synthetic(Gamma(4.0), _CHAT_PROMPT, _CHAT_OUTPUT))
_EXPERIMENT = Objective(ttft_s=0.3, itl_s=0.05)


def _drawn() -> tuple[Workload, ...]:
    return (
        Workload(
            name="experiment",
            description="chat with TTFT 300 ms and ITL 50 ms, the case of the design's first experiment",
            traffic=(replace(_CHAT, objective=_EXPERIMENT),),
        ),
        Workload(
            name="bursty-experiment",
            description="the same, arriving in bursts (CV 4)",
            traffic=(replace(_BURSTY_CHAT, objective=_EXPERIMENT),),
        ),
        Workload(
            name="chat",
            description="steady chat: Poisson, prompts around 512 tokens, answers around 200",
            traffic=(_CHAT,),
        ),
        Workload(name="bursty-chat", description="the same chat in bursts (CV 4)", traffic=(_BURSTY_CHAT,)),
        Workload(
            name="tight",
            description="the same chat with ITL 30 ms",
            traffic=(replace(_CHAT, objective=Objective(ttft_s=0.3, itl_s=0.03)),),
        ),
        Workload(
            name="mixed",
            description="85 % short chat prompts, 15 % documents of 2,000 to 8,000 tokens with TTFT 1 s",
            traffic=(
                Traffic(
                    source=Synthetic(Poisson(), Lognormal(256, 0.8, 16, 1024), Lognormal(200, 0.8, 4, 1200)),
                    service_class=CONVERSATIONAL.name,
                    objective=CONVERSATIONAL.objective,
                    share=0.85,
                ),
                Traffic(
                    source=Synthetic(Poisson(), Lognormal(4000, 0.4, 2000, 8000), Lognormal(150, 0.6, 4, 600)),
                    service_class=INTERACTIVE.name,
                    objective=Objective(ttft_s=1.0, itl_s=0.1),
                    share=0.15,
                ),
            ),
        ),
        Workload(
            name="chat+batch",
            description="steady chat, and documents without end in the batch class",
            traffic=(_CHAT,),
            backlog=Backlog(
                Traffic(
                    source=Synthetic(Poisson(), Lognormal(1024, 0.8, 64, 4096), Lognormal(256, 0.6, 16, 1024)),
                    service_class="batch",
                ),
                depth=256,
            ),
        ),
    )


def _replayed(name: str) -> Workload:
    file, description, objective = _TRACES[name]
    traffic = Traffic(source=load(file), service_class=CONVERSATIONAL.name, objective=objective)
    return Workload(name=name, description=description, traffic=(traffic,))


_TRACES = {
    "azure-conv": (
        "azure_conv",
        "Azure's conversation trace of 2023 (CC-BY 4.0, Splitwise)",
        CONVERSATIONAL.objective,
    ),
    "azure-code": (
        "azure_code",
        "Azure's code trace of 2023: bursts of long prompts, short answers, TTFT 1 s (CC-BY 4.0, Splitwise)",
        Objective(ttft_s=1.0, itl_s=0.1),
    ),
    "mooncake": (
        "mooncake_conversation",
        "Mooncake's conversation trace: prompts of 12,000 tokens that share prefixes, TTFT 10 s (Apache-2.0)",
        Objective(ttft_s=10.0, itl_s=0.1),
    ),
}


def descriptions() -> dict[str, str]:
    """What there is: every workload's description by its name."""
    drawn = {each.name: each.description for each in _drawn()}
    return drawn | {name: description for name, (_, description, _) in _TRACES.items()}


def named(name: str) -> Workload:
    """The workload of this name. Raises KeyError if there is none."""
    if name in _TRACES:
        return _replayed(name)
    return {each.name: each for each in _drawn()}[name]
