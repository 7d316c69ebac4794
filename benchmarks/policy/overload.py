"""More than the machine can do: the design's first experiment again, loads to four times capacity, and the way back.

``experiment``: 2,500 calls, figures over all of them and the span of their arrivals. In SLO as in the design's table:
TTFT within 300 ms and *every* gap within 50 ms; beside it, by Headway's definition, where 95 % of the gaps count.

``cliff``: goodput at 0.5 to 4 times capacity against that at capacity, for Poisson arrivals and bursts (CV 4).

``recovery``: 0.7 times capacity, then twice of it, then 0.7 times again, with clients that retry as the OpenAI SDK
does. Back to normal is when, from then on for 5 s (bursts: 30 s), 95 % of the calls are in SLO at the first try.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from math import ceil

from benchmarks.policy.figures import Figure, ratio, say
from benchmarks.policy.outcome import Outcome, promised_names
from benchmarks.policy.pool import Pool
from benchmarks.policy.setting import FAIR, HEADWAY, VLLM, Case, Setting
from benchmarks.policy.trial import FULL, LEAST_SHARE, QUICK, Scale, Trials, estimate
from headway.policy.slo import TARGET_ATTAINMENT
from headway.sim.arrivals import Stages, Steady
from headway.sim.clients import OPENAI_SDK
from headway.sim.result import Result, Window
from headway.sim.run import simulate
from headway.sim.workloads import named

HARDWARE = "h100-llama-8b"
EXPERIMENT_CALLS = 2500
EXPERIMENT_STATIC = (2048, 512)
TABLE = {
    ("experiment", 18.0): 17.5,
    ("experiment", 22.0): 21.2,
    ("experiment", 30.0): 26.4,
    ("experiment", 45.0): 33.3,
    ("experiment", 80.0): 45.5,
    ("bursty-experiment", 18.0): 16.4,
    ("bursty-experiment", 45.0): 32.8,
    ("bursty-experiment", 80.0): 44.2,
}
"""In SLO a second of the design's experiment with Moore-Hodgson, by workload and offered rate."""
PROCESSES = {"poisson": "chat", "cv4": "bursty-chat"}
LOADS = (0.5, 1.0, 1.5, 2.0, 3.0, 4.0)
QUICK_LOADS = (1.0, 2.0)
CLIFF_SECONDS = {False: 100.0, True: 30.0}
"""Of load, in virtual time."""
LULL, RUSH = 0.7, 2.0
STAGES_S = (30.0, 40.0, 90.0)
NORMAL_S = {"poisson": 5.0, "cv4": 30.0}
LOOK_EVERY_S = 0.25


def measure(*, quick: bool, pool: Pool) -> dict[str, Figure]:
    figures = _experiment(quick, pool)
    scale = QUICK if quick else FULL
    capacities = pool.map(capacity_of, [(name, scale) for name in PROCESSES.values()])
    rates = dict(zip(PROCESSES, capacities, strict=True))
    for process, rate in rates.items():
        figures[f"cliff_{process}_capacity"] = round(rate, 3)
        if not rate:
            say(f"{process}: no load is kept at all, so there is no cliff to look at")
    rates = {process: rate for process, rate in rates.items() if rate}
    figures |= _cliff(rates, quick, pool)
    for each in pool.map(
        recover, [(name, each, rate) for name, rate in rates.items() for each in (HEADWAY, FAIR, VLLM)]
    ):
        figures |= each
    return figures


def capacity_of(workload: str, scale: Scale) -> float:
    """That of the adaptive policy. Runs in another process."""
    case = Case(HARDWARE, workload)
    expected = estimate(case)
    return Trials(case, HEADWAY, scale).capacity(expected, 1.6 * expected, LEAST_SHARE * expected)


# The design's experiment.


def _experiment(quick: bool, pool: Pool) -> dict[str, Figure]:
    settings = [HEADWAY, FAIR, *(Setting.static(1024, tokens) for tokens in EXPERIMENT_STATIC)]
    points = [point for point in TABLE if not quick or point[1] in (18.0, 45.0)]
    tasks = [(Case(HARDWARE, name), rate, setting) for name, rate in points for setting in settings]
    figures: dict[str, Figure] = {}
    for (case, rate, setting), outcome in zip(tasks, pool.map(run_experiment, tasks), strict=True):
        key = f"{case.workload}_{rate:g}_{setting.name}"
        figures[f"{key}_goodput_every_gap"] = round(outcome.goodput_every_gap, 2)
        figures[f"{key}_goodput"] = round(outcome.goodput, 2)
        figures[f"{key}_attainment_admitted"] = round(outcome.attainment_admitted, 4)
        figures[f"{key}_worst_gap_ms"] = round(1000 * outcome.worst_gap_s(), 1)
        if setting.name == HEADWAY.name:
            figures[f"{key}_over_table"] = ratio(outcome.goodput_every_gap, TABLE[case.workload, rate])
        say(
            f"{case.workload:18} {rate:3g}/s {setting.name:16} in SLO {outcome.goodput:5.1f}/s, every gap "
            f"{outcome.goodput_every_gap:5.1f}/s (table {TABLE[case.workload, rate]}), "
            f"of admitted {100 * outcome.attainment_admitted:.1f} %"
        )
    return figures


def run_experiment(case: Case, rate: float, setting: Setting) -> Outcome:
    """Exactly so many calls, with the promises of the design. Runs in another process."""
    workload, machine = named(case.workload), case.machine
    [last] = islice(workload.calls(Steady(rate), 1), EXPERIMENT_CALLS - 1, EXPERIMENT_CALLS)
    seconds = last.at_s + 1e-6
    window = Window(0.0, seconds)
    maker = setting.maker(machine, workload)
    result = simulate(workload, machine, maker, rate=rate, seconds=seconds, seed=1, window=window, keep_gaps=False)
    return Outcome.of([result], promised_names(workload))


# Loads around capacity and far beyond it.


def _cliff(rates: dict[str, float], quick: bool, pool: Pool) -> dict[str, Figure]:
    loads = QUICK_LOADS if quick else LOADS
    settings = (HEADWAY, FAIR, VLLM)
    tasks = [
        (PROCESSES[process], load, setting, rate, CLIFF_SECONDS[quick])
        for process, rate in rates.items()
        for setting in settings
        for load in loads
    ]
    outcomes = dict(zip((task[:3] for task in tasks), pool.map(run_cliff, tasks), strict=True))
    figures: dict[str, Figure] = {}
    for process in rates:
        workload = PROCESSES[process]
        for setting in settings:
            at_capacity = outcomes[workload, 1.0, setting].goodput
            for load in loads:
                outcome = outcomes[workload, load, setting]
                key = f"cliff_{process}_{load:g}x_{setting.name}"
                figures[f"{key}_goodput"] = round(outcome.goodput, 3)
                figures[f"{key}_goodput_over_capacity"] = ratio(outcome.goodput, at_capacity)
                figures[f"{key}_tokens_in_slo"] = round(outcome.tokens_in_slo, 1)
                figures[f"{key}_attainment"] = round(outcome.attainment, 4)
                figures[f"{key}_attainment_admitted"] = round(outcome.attainment_admitted, 4)
                for bucket, share in outcome.by_length().items():
                    figures[f"{key}_attainment_prompt_{bucket}"] = round(share, 4)
                say(
                    f"{process:8} {load:3g}x {setting.name:16} in SLO {outcome.goodput:6.2f}/s "
                    f"({ratio(outcome.goodput, at_capacity)} of capacity), of admitted "
                    f"{100 * outcome.attainment_admitted:5.1f} %, by length "
                    + " ".join(f"{100 * share:.0f}" for share in outcome.by_length().values())
                )
        for load in loads:
            fair, plain = outcomes[workload, load, FAIR], outcomes[workload, load, HEADWAY]
            figures[f"cliff_{process}_{load:g}x_fair_over_headway"] = ratio(fair.goodput, plain.goodput)
    return figures


def run_cliff(workload: str, load: float, setting: Setting, capacity: float, seconds: float) -> Outcome:
    """Runs in another process."""
    scale = Scale(ceil(seconds * capacity * load), 0.0, FULL.seeds)
    return Trials(Case(HARDWARE, workload), setting, scale).outcome(load * capacity)


# And back.


def recover(process: str, setting: Setting, capacity: float) -> dict[str, Figure]:
    """Runs in another process."""
    case = Case(HARDWARE, PROCESSES[process])
    workload, machine = case.tailored(), case.machine
    rates = (LULL * capacity, RUSH * capacity, LULL * capacity)
    seconds, dropped_s = sum(STAGES_S), sum(STAGES_S[:2])
    result = simulate(
        workload,
        machine,
        setting.maker(machine, workload),
        rate=Stages(tuple(zip(STAGES_S, rates, strict=True))),
        seconds=seconds,
        seed=1,
        client=OPENAI_SDK,
        window=Window(0.0, seconds),
        keep_gaps=False,
    )
    normal_s = _normal_after_s(result, dropped_s, seconds, NORMAL_S[process])
    rush = [each for each in result.records if STAGES_S[0] <= each.arrived_s < dropped_s]
    key = f"recovery_{process}_{setting.name}"
    say(f"back to normal, {process:8} {setting.name:22} {'never' if normal_s is None else f'{normal_s:.2f} s'}")
    return {
        f"{key}_normal_after_s": normal_s,
        f"{key}_rush_in_slo_share": ratio(sum(each.in_slo for each in rush), len(rush), 4),
        f"{key}_rush_in_slo_at_first_try_share": ratio(
            sum(each.in_slo and each.attempts == 1 for each in rush), len(rush), 4
        ),
        f"{key}_rush_tries_a_call": ratio(sum(each.attempts for each in rush), len(rush)),
    }


def _normal_after_s(result: Result, dropped_s: float, end_s: float, span_s: float) -> float | None:
    """From the drop to the first moment whose next ``span_s`` are normal; None if there is none."""
    looks = round((end_s - span_s - dropped_s) / LOOK_EVERY_S)
    for look in range(looks):
        begin_s = dropped_s + look * LOOK_EVERY_S
        kept = [
            each.in_slo and each.attempts == 1
            for each in result.records
            if begin_s <= each.arrived_s < begin_s + span_s
        ]
        if _enough(kept):
            return look * LOOK_EVERY_S
    return None


def _enough(kept: Sequence[bool]) -> bool:
    """Where nobody came there is nothing to call normal."""
    return bool(kept) and sum(kept) >= TARGET_ATTAINMENT * len(kept)
