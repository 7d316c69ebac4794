"""Small machines, schedulers and workloads for the simulator's tests."""

from __future__ import annotations

from headway.policy.config import SchedulerConfig
from headway.policy.plan import ExecutorInfo
from headway.policy.policies import build
from headway.policy.scheduler import Scheduler
from headway.policy.slo import Objective
from headway.sim.arrivals import Poisson, Process
from headway.sim.hardware import LinearHardware
from headway.sim.lengths import Fixed, Lengths
from headway.sim.run import MakeScheduler
from headway.sim.workload import Synthetic, Traffic, Workload

STEP_S = 0.01
PROMPT, OUTPUT = Fixed(32), Fixed(8)
OBJECTIVE = Objective(ttft_s=0.1, itl_s=0.05)


def machine(
    *, step_s: float = STEP_S, token_s: float = 0.0, kv_blocks: int = 4096, block_size: int = 16
) -> LinearHardware:
    """Steps of ``step_s``, and ``token_s`` more for every token."""
    info = ExecutorInfo(block_size, kv_blocks, context_tokens=8192, vocab_size=1 << 32)
    return LinearHardware(
        name="test",
        description="a machine for tests",
        source="made up",
        info=info,
        constant_s=step_s,
        token_s=token_s,
        sequence_s=0.0,
        decode_context_s=0.0,
        prefill_read_s=0.0,
    )


def static(max_step_tokens: int, *, max_queued_requests: int = 100_000, max_running: int = 256) -> MakeScheduler:
    """Schedulers with the same most tokens in every step."""

    def make(info: ExecutorInfo) -> Scheduler:
        config = SchedulerConfig(
            max_step_tokens=max_step_tokens,
            max_running=max_running,
            max_queued_requests=max_queued_requests,
            max_queued_tokens=1 << 40,
        )
        return Scheduler(info, config, prefix_key=b"tests", policy=build("static"))

    return make


def workload(
    prompt: Lengths = PROMPT,
    output: Lengths = OUTPUT,
    *,
    process: Process | None = None,
    objective: Objective = OBJECTIVE,
) -> Workload:
    source = Synthetic(process or Poisson(), prompt, output)
    kind = Traffic(source=source, service_class="conversational", objective=objective)
    return Workload(name="test", description="one kind of request", traffic=(kind,))
