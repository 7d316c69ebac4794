"""Capacity: the largest offered load of which 95 % are in SLO, by machine, workload and policy.

The grid of static settings is searched for its best point per workload, in hindsight: a point is searched in full only
if it holds at 1.02 times the best rate so far. ``best_single`` is the one setting that is best for all workloads of a
machine (in geometric mean, a workload it can't do at all counting as 1 % of the best), among the points that are best
for some workload and vLLM's defaults.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log
from statistics import geometric_mean

from benchmarks.policy.figures import Figure, ratio, say
from benchmarks.policy.pool import Pool
from benchmarks.policy.setting import AIMD, HEADWAY, PREFILL_FIRST, VLLM, Case, Setting
from benchmarks.policy.trial import FULL, LEAST_SHARE, QUICK, TOLERANCE, Scale, Trials, estimate
from headway.sim.hardware import HARDWARE

WORKLOADS = ("mooncake", "chat+batch", "bursty-chat", "azure-conv", "azure-code", "chat", "mixed", "tight")
"""Those that take longest come first, so that no process is left alone with one at the end."""
RUNNING = (16, 64, 256, 1024)
STEP_TOKENS = (256, 512, 1024, 2048, 4096)
CPU_RUNNING = (4, 16, 64)
CPU_STEP_TOKENS = (16, 32, 64, 128, 256, 1024)
QUICK_WORKLOADS = ("chat", "mixed")
QUICK_HARDWARE = ("h100-llama-8b",)
VLLM_AS_STATIC = Setting.static(256, 2048)
NONE_SHARE = 0.01
FURTHER = 1.15
"""How far beyond what is known a search looks first."""


@dataclass(frozen=True, slots=True)
class Searched:
    """Rates a second. ``static``: those grid points whose capacity was searched in full."""

    case: Case
    others: dict[str, float]
    static: dict[str, float]
    attainment_by_class: dict[str, float]
    batch_throughput: float
    unfinished: int

    @property
    def adaptive(self) -> float:
        return self.others[HEADWAY.name]

    @property
    def best(self) -> str:
        return max(self.static, key=lambda name: self.static[name])


def grid(hardware: str, *, quick: bool) -> list[Setting]:
    """Static settings, from the middle outwards: the best so far is found early, and rules the others out."""
    is_cpu = hardware.startswith("cpu")
    running: tuple[int, ...] = CPU_RUNNING if is_cpu else RUNNING
    tokens: tuple[int, ...] = CPU_STEP_TOKENS if is_cpu else STEP_TOKENS
    if quick:
        running, tokens = running[2:3], tokens[1:4]
    points = [(most, step) for most in sorted(running, reverse=True) for step in tokens]
    middle = tokens[len(tokens) // 2]
    points.sort(key=lambda point: abs(log(point[1] / middle)))
    return [Setting.static(*point) for point in points]


def search(case: Case, scale: Scale, quick: bool) -> Searched:
    """Everything about one case. Runs in another process."""
    expected = estimate(case)
    least = LEAST_SHARE * expected
    trials = Trials(case, HEADWAY, scale)
    others = {HEADWAY.name: trials.capacity(0.6 * expected, expected, least)}
    outcome = trials.outcome(others[HEADWAY.name] or least)
    static: dict[str, float] = {}
    best = 0.0
    for setting in grid(case.hardware, quick=quick):
        trials = Trials(case, setting, scale)
        above = best * (1.0 + TOLERANCE)
        if not best:
            static[setting.name] = trials.capacity(*_around(others[HEADWAY.name] or expected), least)
        elif trials.holds(above):
            static[setting.name] = trials.capacity(above, above * FURTHER, least)
        best = max(static.values())
    for setting in (VLLM, AIMD, PREFILL_FIRST):
        if setting is VLLM and VLLM_AS_STATIC.name in static:
            others[setting.name] = static[VLLM_AS_STATIC.name]
        else:
            others[setting.name] = Trials(case, setting, scale).capacity(*_around(best or expected), least)
    return Searched(case, others, static, outcome.by_class(), outcome.batch_throughput, outcome.unfinished)


def search_one(case: Case, setting: Setting, scale: Scale, near: float) -> float:
    """One point of the grid, in full. Runs in another process."""
    return Trials(case, setting, scale).capacity(*_around(near), LEAST_SHARE * estimate(case))


def measure(*, quick: bool, pool: Pool, hardware: str | None = None) -> dict[str, Figure]:
    machines = (hardware,) if hardware else QUICK_HARDWARE if quick else tuple(HARDWARE)
    cases = [
        Case(machine, workload)
        for workload in (QUICK_WORKLOADS if quick and not hardware else WORKLOADS)
        for machine in machines
    ]
    scale = QUICK if quick else FULL
    found = pool.map(search, [(case, scale, quick) for case in cases])
    figures: dict[str, Figure] = {"capacity_seeds": len(scale.seeds)}
    for each in found:
        figures |= each.case.stated() | {f"{each.case}_calls": scale.calls_of(each.case)} | _figures(each)
    for machine in machines:
        figures |= _single([each for each in found if each.case.hardware == machine], scale, pool)
    return figures


def _figures(found: Searched) -> dict[str, Figure]:
    figures: dict[str, Figure] = {
        f"{found.case}_capacity_{name}": round(rate, 3) for name, rate in found.others.items()
    }
    figures |= {f"{found.case}_capacity_{name}": round(rate, 3) for name, rate in found.static.items()}
    figures[f"{found.case}_best_static"] = found.best
    for name, rate in (("best_static", found.static[found.best]), *found.others.items()):
        if name != HEADWAY.name:
            figures[f"{found.case}_headway_over_{name}"] = ratio(found.adaptive, rate)
    for name, share in found.attainment_by_class.items():
        figures[f"{found.case}_attainment_at_capacity_{name}"] = round(share, 4)
    figures[f"{found.case}_unfinished_at_capacity"] = found.unfinished
    if found.batch_throughput:
        figures[f"{found.case}_batch_tok_s_at_capacity"] = round(found.batch_throughput, 1)
    say(
        f"{found.case!s:34} headway {found.adaptive:7.2f}/s  best static {found.static[found.best]:7.2f}/s "
        f"({found.best}), vllm {found.others[VLLM.name]:.2f}, aimd {found.others[AIMD.name]:.2f}, "
        f"prefill first {found.others[PREFILL_FIRST.name]:.2f}"
    )
    return figures


def _single(found: list[Searched], scale: Scale, pool: Pool) -> dict[str, Figure]:
    """The best setting for all workloads of one machine."""
    settings = {setting.name: setting for setting in grid(found[0].case.hardware, quick=False)}
    shortlist = dict.fromkeys([*(each.best for each in found), VLLM_AS_STATIC.name])
    rates = {(name, each.case): each.static[name] for name in shortlist for each in found if name in each.static}
    missing = [(each, name) for name in shortlist for each in found if (name, each.case) not in rates]
    tasks = [
        (each.case, settings.get(name, VLLM_AS_STATIC), scale, each.static[each.best] or estimate(each.case))
        for each, name in missing
    ]
    for (each, name), rate in zip(missing, pool.map(search_one, tasks), strict=True):
        rates[name, each.case] = rate

    def mean(name: str) -> float:
        shares = [
            max(rates[name, each.case] / each.static[each.best], NONE_SHARE) for each in found if each.static[each.best]
        ]
        return geometric_mean(shares) if shares else 0.0  # no static setting keeps any of the workloads

    single = max(shortlist, key=mean)
    hardware = found[0].case.hardware
    figures: dict[str, Figure] = {
        f"{hardware}_best_single": single,
        f"{hardware}_best_single_of": " ".join(shortlist),
        f"{hardware}_best_single_of_best_static": round(mean(single), 3),
    }
    for each in found:
        figures[f"{each.case}_capacity_best_single"] = round(rates[single, each.case], 3)
        figures[f"{each.case}_headway_over_best_single"] = ratio(each.adaptive, rates[single, each.case])
    say(f"{hardware}: best for all workloads: {single}, {mean(single):.2f} of the best for each")
    return figures


def _around(rate: float) -> tuple[float, float]:
    return rate / FURTHER, rate * (1.0 + TOLERANCE)
