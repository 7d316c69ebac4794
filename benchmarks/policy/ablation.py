"""What each part of the policy is worth: parts switched on one after the other, on one H100.

``budget`` is the step-time model's budget alone, in order of arrival; then the order by due time, then admission, then
batch work that fills what is left (which is the default). Capacity, and goodput at the capacity of the whole policy
and at twice of it; the same offered load for all. Before them the best of a few static settings for each workload, and
AIMD. Where the capacity is 0, not even a sixteenth of what the machine can do was kept.
"""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.policy.figures import Figure, say
from benchmarks.policy.pool import Pool
from benchmarks.policy.setting import AIMD, HEADWAY, Case, Setting
from benchmarks.policy.trial import FULL, LEAST_SHARE, QUICK, Scale, Trials, estimate
from headway.policy.controller import PromiseConfig

HARDWARE = "h100-llama-8b"
WORKLOADS = ("chat", "bursty-chat", "mixed", "chat+batch")
STATIC = (512, 1024, 2048)
RUNNING = 256
PARTS = (
    Setting("budget", "headway", promise=PromiseConfig(order=False, admission=False, batch_fill=False)),
    Setting("and_order", "headway", promise=PromiseConfig(admission=False, batch_fill=False)),
    Setting("and_admission", "headway", promise=PromiseConfig(batch_fill=False)),
    HEADWAY,
)
QUICK_WORKLOADS = ("chat", "chat+batch")
LOADS = (1.0, 2.0)
LABELS = {"static": "best static", "and_order": "+ order", "and_admission": "+ admission", "headway": "+ batch fill"}


@dataclass(frozen=True, slots=True)
class Worth:
    """Capacity; goodput at each of ``LOADS``, and batch tokens a second at the first of them."""

    capacity: float
    goodput: tuple[float, ...]
    batch_throughput: float


def measure(*, quick: bool, pool: Pool) -> dict[str, Figure]:
    scale = QUICK if quick else FULL
    workloads = QUICK_WORKLOADS if quick else WORKLOADS
    settings = [*(Setting.static(RUNNING, tokens) for tokens in STATIC), AIMD, *PARTS[:-1]]
    wholes = pool.map(capacity_of, [(name, HEADWAY, scale, None) for name in workloads])
    whole = dict(zip(workloads, wholes, strict=True))
    searched = [(name, each, scale, whole[name]) for name in workloads for each in settings]
    capacities = dict(zip(((task[:2]) for task in searched), pool.map(capacity_of, searched), strict=True))
    capacities |= {(name, HEADWAY): rate for name, rate in whole.items()}
    tasks = [(name, setting, scale, whole[name]) for name, setting in capacities]
    goodput = dict(zip(((task[:2]) for task in tasks), pool.map(goodput_of, tasks), strict=True))
    worth = {key: Worth(capacities[key], *goodput[key]) for key in capacities}
    return _figures(worth)


def capacity_of(workload: str, setting: Setting, scale: Scale, near: float | None) -> float:
    """Runs in another process."""
    case = Case(HARDWARE, workload)
    expected = estimate(case)
    bounds = (expected, 1.6 * expected) if not near else (0.7 * near, near)
    return Trials(case, setting, scale).capacity(*bounds, LEAST_SHARE * expected)


def goodput_of(workload: str, setting: Setting, scale: Scale, whole: float) -> tuple[tuple[float, ...], float]:
    """At the same offered loads for all settings; 0 where the whole policy keeps none. Runs in another process."""
    if not whole:
        return (0.0,) * len(LOADS), 0.0
    trials = Trials(Case(HARDWARE, workload), setting, scale)
    outcomes = [trials.outcome(load * whole) for load in LOADS]
    return tuple(outcome.goodput for outcome in outcomes), outcomes[0].batch_throughput


def _figures(worth: dict[tuple[str, Setting], Worth]) -> dict[str, Figure]:
    rows: dict[str, dict[str, Worth]] = {}
    for (workload, setting), each in worth.items():
        row = rows.setdefault("static" if setting.policy == "static" else setting.name, {})
        if workload not in row or each.capacity > row[workload].capacity:
            row[workload] = each
    figures: dict[str, Figure] = {}
    for name, row in rows.items():
        for workload, each in row.items():
            key = f"ablation_{workload}_{name}"
            figures[f"{key}_capacity"] = round(each.capacity, 3)
            for load, goodput in zip(LOADS, each.goodput, strict=True):
                figures[f"{key}_goodput_{load:g}x"] = round(goodput, 3)
            if each.batch_throughput:
                figures[f"{key}_batch_tok_s_1x"] = round(each.batch_throughput, 1)
    workloads = list(dict.fromkeys(workload for workload, _ in worth))
    say(f"| capacity / goodput at 1x / at 2x | {' | '.join(workloads)} |")
    say("|---|" + "---|" * len(workloads))
    for name, row in rows.items():
        cells = (" / ".join(f"{value:.1f}" for value in (each.capacity, *each.goodput)) for each in row.values())
        say(f"| {LABELS.get(name, name)} | {' | '.join(cells)} |")
    return figures
