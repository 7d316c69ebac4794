"""What is compared: ways to schedule, and workloads whose promises fit the machine."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import islice

from headway.policy.controller import PromiseConfig
from headway.policy.plan import ExecutorInfo
from headway.policy.policies import VLLM_STEP_TOKENS, build, default_step_tokens
from headway.policy.scheduler import Scheduler, SchedulerConfig
from headway.policy.slo import Objective, ServiceClass, ServiceClasses
from headway.policy.stepshape import StepShape
from headway.policy.steptime import StepTimeModel
from headway.sim.arrivals import Gamma
from headway.sim.hardware import HARDWARE, Hardware
from headway.sim.run import MakeScheduler
from headway.sim.workload import Synthetic, Traffic, Workload
from headway.sim.workloads import named
from headway.simulate import PREFIX_KEY, calibrated

LENGTHS = {"cpu-smollm2-135m": 1 / 16}
"""All lengths are scaled by this where a machine is too slow for the traffic of a large one."""
TTFT_S = {"mooncake": 5.0}
"""Promised in place of the workload's own."""
FACTORS = (1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 20.0)
PROMPT_SHARE_OF_TTFT = 0.5
DECODE_SHARE_OF_ITL = 0.4
PROMPTS_DRAWN = 2000
CHUNK_TOKENS = 2048


@dataclass(frozen=True, slots=True)
class Setting:
    """A policy with its caps; None is the policy's own. ``promise`` is for ``headway`` alone."""

    name: str
    policy: str
    max_running: int | None = None
    max_step_tokens: int | None = None
    promise: PromiseConfig | None = None

    def __str__(self) -> str:
        return self.name

    @classmethod
    def static(cls, max_running: int, max_step_tokens: int) -> Setting:
        return cls(f"static_{max_running}x{max_step_tokens}", "static", max_running, max_step_tokens)

    def maker(self, hardware: Hardware, workload: Workload) -> MakeScheduler:
        """Schedulers, each as new, that were told the workload's promises and have measured the hardware."""
        model = calibrated(hardware).to_json()
        classes = promised_classes(workload)
        caps = SchedulerConfig(
            max_step_tokens=self.max_step_tokens or default_step_tokens(self.policy),
            max_running=self.max_running or SchedulerConfig().max_running,
        )

        def make(info: ExecutorInfo) -> Scheduler:
            policy = build(self.policy, model=StepTimeModel.from_json(model), classes=classes, promise=self.promise)
            return Scheduler(info, caps, prefix_key=PREFIX_KEY, policy=policy)

        return make


HEADWAY = Setting("headway", "headway")
FAIR = Setting("headway_fair", "headway", promise=PromiseConfig(fair=True))
VLLM = Setting("vllm_256x2048", "vllm", 256, VLLM_STEP_TOKENS)
AIMD = Setting("aimd", "aimd")
PREFILL_FIRST = Setting("prefill_first_256x2048", "prefill-first", 256, VLLM_STEP_TOKENS)


def promised_classes(workload: Workload) -> ServiceClasses:
    """The classes as the operator of a server for this workload would state them (batch is always there)."""
    objectives = {kind.service_class: kind.objective for kind in workload.traffic}
    return ServiceClasses(ServiceClass(name=name, objective=objective) for name, objective in objectives.items())


@dataclass(frozen=True, slots=True)
class Case:
    """One workload on one machine, by their names: what is handed to another process."""

    hardware: str
    workload: str

    def __str__(self) -> str:
        return f"{self.hardware}_{self.workload}"

    @property
    def machine(self) -> Hardware:
        return HARDWARE[self.hardware]

    def tailored(self) -> Workload:
        """The workload, with lengths and promises that the machine can keep when it is idle.

        TTFT is stretched by the least of ``FACTORS`` with which the 95th percentile of prompts, alone on the machine
        and with nothing cached, takes at most half of it; and so does an average burst, where prompts come in bursts:
        at CV 4 a burst is 16 prompts at one moment, whatever the rate. ITL is stretched until one decode alone takes
        0.4 of it.
        """
        workload = named(self.workload)
        if self.hardware in LENGTHS:
            workload = workload.scaled(lengths=LENGTHS[self.hardware])
        return replace(workload, traffic=tuple(self._kept_when_idle(kind) for kind in workload.traffic))

    def _kept_when_idle(self, kind: Traffic) -> Traffic:
        machine, promised = self.machine, kind.objective
        ttft_s, itl_s = TTFT_S.get(self.workload, promised.ttft_s), promised.itl_s
        prompts = sorted(size.prompt_tokens for _, size in islice(kind.source.draws("prompts"), PROMPTS_DRAWN))
        p95 = prompts[int(0.95 * len(prompts))]
        if ttft_s is not None:
            burst_s = burst_size(kind) * sum(prompt_s(machine, prompt) for prompt in prompts) / len(prompts)
            ttft_s *= _least(max(prompt_s(machine, p95), burst_s), ttft_s * PROMPT_SHARE_OF_TTFT)
        if itl_s is not None:
            itl_s *= _least(machine.step_s(StepShape(1, 1, p95, 0.0)), itl_s * DECODE_SHARE_OF_ITL)
        return replace(kind, objective=Objective(ttft_s=ttft_s, itl_s=itl_s, e2e_s=promised.e2e_s))

    def stated(self) -> dict[str, float | str]:
        """What was made of the workload, for the output."""
        figures: dict[str, float | str] = {f"{self}_lengths": LENGTHS.get(self.hardware, 1.0)}
        for kind in self.tailored().traffic:
            for name, value in (("ttft", kind.objective.ttft_s), ("itl", kind.objective.itl_s)):
                if value is not None:
                    figures[f"{self}_{kind.service_class}_{name}_ms"] = round(1000 * value, 1)
        return figures


def prompt_s(hardware: Hardware, tokens: int) -> float:
    """How long a prompt takes alone, in chunks of ``CHUNK_TOKENS``."""
    seconds = 0.0
    for start in range(0, tokens, CHUNK_TOKENS):
        chunk = min(CHUNK_TOKENS, tokens - start)
        seconds += hardware.step_s(StepShape(chunk, 1, 0, chunk * (start + chunk / 2)))
    return seconds


def burst_size(kind: Traffic) -> float:
    """How many come at about one moment, on average: CV squared, for arrivals in bursts."""
    if isinstance(kind.source, Synthetic) and isinstance(kind.source.process, Gamma):
        return kind.source.process.cv**2
    return 1.0


def hardware_sources() -> dict[str, str]:
    return {f"hardware_{name}": f"{each.description}; {each.source}" for name, each in HARDWARE.items()}


def _least(value: float, bound: float) -> float:
    """The least factor that brings the bound to the value; the largest if none does."""
    return next((factor for factor in FACTORS if value <= factor * bound), FACTORS[-1])
