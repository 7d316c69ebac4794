"""Conversations at 30, 60 and 90 % of their capacity, and batch work without end: what becomes of the rest?

What is left. A machine with conversations alone is nearly always busy, mostly with small steps that read all weights
for a few tokens; batch work that joins such a step costs little more than itself. So the time that a conversation
takes away from batch work is what it adds to large steps: its operations and the context it reads, but not the weights
and the host's overhead, which those steps have anyway. Summed over the conversations served and divided by the time
they came in, that is the share ``taken``; 1 - ``taken`` is left.

The bound is the batch throughput of the same machine with the same backlog and nothing else, times what is left. The
throughput alone is that of the best of several step sizes: of those that keep the promised ITL in 95 % of the steps
(``bound``), and of all up to 8192 tokens (``strict_bound``). Both leave out that conversations hold KV blocks and that
their TTFT asks for shorter steps than their ITL does, so neither can quite be reached. Close to capacity next to
nothing is left and the ratio says little; ``machine_used`` is ``taken`` plus the batch throughput over that alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from benchmarks.policy.figures import Figure, ratio, say
from benchmarks.policy.outcome import Outcome, promised_names
from benchmarks.policy.overload import HARDWARE, capacity_of
from benchmarks.policy.pool import Pool
from benchmarks.policy.setting import HEADWAY, Case, Setting
from benchmarks.policy.trial import FULL, QUICK
from headway.policy.slo import LATE_GAPS_SHARE
from headway.policy.stepshape import StepShape
from headway.sim.hardware import Hardware
from headway.sim.record import Record
from headway.sim.result import Window
from headway.sim.run import simulate
from headway.sim.workload import Workload

CASE = Case(HARDWARE, "chat+batch")
SHARES = (0.3, 0.6, 0.9)
STEP_TOKENS = (512, 1024, 2048, 4096, 8192)
LARGE_STEP_TOKENS = 4096
"""To a step of so many the work of a conversation is added, to see what it takes."""
SECONDS = {False: 150.0, True: 50.0}
WARM_UP_SHARE = 0.3
NOBODY = 1e-6
"""A rate at which nobody comes."""


def measure(*, quick: bool, pool: Pool) -> dict[str, Figure]:
    seconds = SECONDS[quick]
    settings = [HEADWAY, *(Setting.static(1024, tokens) for tokens in STEP_TOKENS)]
    alone = dict(zip(settings, pool.map(run_alone, [(setting, seconds) for setting in settings]), strict=True))
    strict = max(each.throughput for each in alone.values())
    within = max((each.throughput for each in alone.values() if each.kept_itl), default=0.0)
    figures: dict[str, Figure] = {
        f"slack_batch_alone_{setting.name}_tok_s": round(each.throughput, 1) for setting, each in alone.items()
    }
    [capacity] = pool.map(capacity_of, [("chat", QUICK if quick else FULL)])
    figures["slack_conversational_capacity"] = round(capacity, 3)
    if not capacity:
        say("conversations alone are not kept at any load, so there is no share of it to look at")
        return figures
    tasks = [(share * capacity, seconds) for share in SHARES]
    for share, (outcome, taken) in zip(SHARES, pool.map(run_together, tasks), strict=True):
        key = f"slack_{100 * share:.0f}"
        bound, strict_bound = within * (1.0 - taken), strict * (1.0 - taken)
        used = taken + (outcome.batch_throughput / strict if strict else 0.0)
        figures |= {
            f"{key}_conversational_attainment": round(outcome.attainment, 4),
            f"{key}_taken": round(taken, 4),
            f"{key}_batch_tok_s": round(outcome.batch_throughput, 1),
            f"{key}_batch_over_bound": ratio(outcome.batch_throughput, bound),
            f"{key}_batch_over_strict_bound": ratio(outcome.batch_throughput, strict_bound),
            f"{key}_machine_used": round(used, 4),
        }
        say(
            f"conversations at {100 * share:.0f} %: in SLO {100 * outcome.attainment:.1f} %, batch "
            f"{outcome.batch_throughput:.0f} tok/s, {ratio(outcome.batch_throughput, bound)} of what is left "
            f"({ratio(outcome.batch_throughput, strict_bound)} with the strict bound), "
            f"{100 * used:.0f} % of the machine used"
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
    watched = Watched(CASE.machine, min(kind.objective.itl_s or inf for kind in workload.traffic))
    outcome = _run(workload, watched, setting, NOBODY, seconds)
    return Alone(outcome.batch_throughput, watched.long_steps <= LATE_GAPS_SHARE * watched.steps)


def run_together(rate: float, seconds: float) -> tuple[Outcome, float]:
    """Conversations beside the backlog, and the share of the machine that they took. Runs in another process."""
    outcome = _run(CASE.tailored(), CASE.machine, HEADWAY, rate, seconds)
    return outcome, sum(map(added_s, outcome.records)) / outcome.seconds


def added_s(record: Record) -> float:
    """What the tokens of one call add to large steps."""
    prompt, output = record.prompt_tokens - record.cached_tokens, record.output_tokens
    if not output:
        return 0.0  # it was refused
    context = round(output * (record.prompt_tokens + output / 2))
    reads = prompt * (record.cached_tokens + prompt / 2)
    large = StepShape(LARGE_STEP_TOKENS, 1, 0, 0.0)
    together = StepShape(LARGE_STEP_TOKENS + prompt + output, 1 + output, context, reads)
    return CASE.machine.step_s(together) - CASE.machine.step_s(large)


def _run(workload: Workload, machine: Hardware, setting: Setting, rate: float, seconds: float) -> Outcome:
    maker = setting.maker(CASE.machine, workload)
    window = Window(WARM_UP_SHARE * seconds, seconds)
    result = simulate(workload, machine, maker, rate=rate, seconds=seconds, seed=1, window=window, keep_gaps=False)
    return Outcome.of([result], promised_names(workload))


class Watched:
    """Hardware that counts its steps, and those longer than ``long_s``."""

    def __init__(self, hardware: Hardware, long_s: float) -> None:
        self.name, self.description, self.source = hardware.name, hardware.description, hardware.source
        self.info, self.noise = hardware.info, hardware.noise
        self.steps = self.long_steps = 0
        self._hardware = hardware
        self._long_s = long_s

    def step_s(self, shape: StepShape) -> float:
        step_s = self._hardware.step_s(shape)
        self.steps += 1
        self.long_steps += step_s > self._long_s
        return step_s
