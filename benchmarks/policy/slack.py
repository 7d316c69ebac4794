"""Conversations at 30, 60 and 90 % of their capacity, and batch work without end: what becomes of the rest?

What is left. A machine with conversations alone is nearly always busy, mostly with small steps that read all weights
for a few tokens; batch work that joins such a step costs little more than itself. So the time that a conversational
token takes away from batch work is what it adds to a large step: its operations and the context it reads, but not the
weights and the host's overhead, which the step has anyway. Summed over all conversational work of a run without batch
work and divided by its time, that is the share ``taken``; 1 - ``taken`` is left.

The bound is the batch throughput of the same machine with the same backlog and nothing else, times what is left. The
throughput alone is that of the best of several step sizes: of those that keep the promised ITL in 95 % of the steps
(``bound``), and of all up to 8192 tokens (``strict_bound``). Both leave out that conversations hold KV blocks and that
their TTFT asks for shorter steps than their ITL does, so neither can quite be reached.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import inf

from benchmarks.policy.figures import Figure, ratio, say
from benchmarks.policy.outcome import Outcome, promised_names
from benchmarks.policy.overload import HARDWARE, capacity_of
from benchmarks.policy.pool import Pool
from benchmarks.policy.setting import HEADWAY, Case, Setting
from benchmarks.policy.trial import Scale
from headway.policy.slo import LATE_GAPS_SHARE
from headway.policy.stepshape import StepShape
from headway.sim.hardware import Hardware
from headway.sim.result import Result, Window
from headway.sim.run import simulate
from headway.sim.workload import Workload

CASE = Case(HARDWARE, "chat+batch")
SHARES = (0.3, 0.6, 0.9)
STEP_TOKENS = (512, 1024, 2048, 4096, 8192)
LARGE_STEP = StepShape(4096, 64, 0, 0.0)
"""To this step the conversations' work is added, to see what it takes."""
CAPACITY = {False: Scale(calls=1000, seeds=(1, 2)), True: Scale(calls=600, seeds=(1,))}
SECONDS = {False: 150.0, True: 50.0}
WARM_UP_SHARE = 0.3
NOBODY = 1e-6
"""A rate at which nobody comes."""


def measure(*, quick: bool, pool: Pool) -> dict[str, Figure]:
    seconds = SECONDS[quick]
    settings = [HEADWAY, *(Setting.static(1024, tokens) for tokens in STEP_TOKENS)]
    alone = dict(zip(settings, pool.map(run_alone, [(setting, seconds) for setting in settings]), strict=True))
    strict = max(each.throughput for each in alone.values())
    within = max(each.throughput for each in alone.values() if each.kept_itl)
    figures: dict[str, Figure] = {
        f"slack_batch_alone_{setting.name}_tok_s": round(each.throughput, 1) for setting, each in alone.items()
    }
    [capacity] = pool.map(capacity_of, [("chat", CAPACITY[quick])])
    figures["slack_conversational_capacity"] = round(capacity, 3)
    tasks = [(share * capacity, seconds) for share in SHARES]
    for share, (outcome, taken) in zip(SHARES, pool.map(run_together, tasks), strict=True):
        key = f"slack_{100 * share:.0f}"
        bound, strict_bound = within * (1.0 - taken), strict * (1.0 - taken)
        figures |= {
            f"{key}_conversational_attainment": round(outcome.attainment, 4),
            f"{key}_taken": round(taken, 4),
            f"{key}_batch_tok_s": round(outcome.batch_throughput, 1),
            f"{key}_batch_over_bound": ratio(outcome.batch_throughput, bound),
            f"{key}_batch_over_strict_bound": ratio(outcome.batch_throughput, strict_bound),
        }
        say(
            f"conversations at {100 * share:.0f} %: in SLO {100 * outcome.attainment:.1f} %, batch "
            f"{outcome.batch_throughput:.0f} tok/s, {ratio(outcome.batch_throughput, bound)} of what is left "
            f"({ratio(outcome.batch_throughput, strict_bound)} with the strict bound)"
        )
    return figures


@dataclass(frozen=True, slots=True)
class Alone:
    """Batch work alone: output tokens a second, and whether 95 % of the steps kept the promised ITL."""

    throughput: float
    kept_itl: bool


def run_alone(setting: Setting, seconds: float) -> Alone:
    """Runs in another process."""
    workload = CASE.tailored()
    itl_s = min(kind.objective.itl_s or float("inf") for kind in workload.traffic)
    meter = Meter(CASE.machine, itl_s)
    outcome = Outcome.of([_run(workload, meter, setting, NOBODY, seconds)], promised_names(workload))
    return Alone(outcome.batch_throughput, meter.long_steps <= LATE_GAPS_SHARE * meter.steps)


def run_together(rate: float, seconds: float) -> tuple[Outcome, float]:
    """With the backlog, and what the conversations of the same run take when they are alone. In another process."""
    workload = CASE.tailored()
    outcome = Outcome.of([_run(workload, CASE.machine, HEADWAY, rate, seconds)], promised_names(workload))
    meter = Meter(CASE.machine)
    _run(replace(workload, backlog=None), meter, HEADWAY, rate, seconds)
    return outcome, meter.added_s / seconds


def _run(workload: Workload, machine: Hardware, setting: Setting, rate: float, seconds: float) -> Result:
    maker = setting.maker(machine, workload)
    window = Window(WARM_UP_SHARE * seconds, seconds)
    return simulate(workload, machine, maker, rate=rate, seconds=seconds, seed=1, window=window, keep_gaps=False)


class Meter:
    """Hardware that adds up what its steps would add to large ones, and counts those longer than ``long_s``."""

    def __init__(self, hardware: Hardware, long_s: float = inf) -> None:
        self.name, self.description, self.source = hardware.name, hardware.description, hardware.source
        self.info, self.noise = hardware.info, hardware.noise
        self.added_s = 0.0
        self.steps = self.long_steps = 0
        self._hardware = hardware
        self._long_s = long_s
        self._large_s = hardware.step_s(LARGE_STEP)

    def step_s(self, shape: StepShape) -> float:
        step_s = self._hardware.step_s(shape)
        self.steps += 1
        self.long_steps += step_s > self._long_s
        together = StepShape(
            LARGE_STEP.tokens + shape.tokens,
            LARGE_STEP.sequences + shape.sequences,
            LARGE_STEP.decode_context + shape.decode_context,
            LARGE_STEP.prefill_reads + shape.prefill_reads,
        )
        self.added_s += self._hardware.step_s(together) - self._large_s
        return step_s
