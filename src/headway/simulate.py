"""``headway simulate``: what a policy would do with a load on some hardware, in virtual time."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, TypeVar

from cyclopts import Parameter
from rich import box
from rich.console import Console
from rich.table import Table

from headway.policy.plan import ExecutorInfo
from headway.policy.policies import POLICIES, build, default_step_tokens
from headway.policy.scheduler import Scheduler, SchedulerConfig
from headway.policy.steptime import StepTimeModel
from headway.serve.calibration import BUDGET_S, calibrate
from headway.sim.executor import VirtualExecutor
from headway.sim.hardware import HARDWARE, Hardware, Noisy
from headway.sim.result import Result, Summary
from headway.sim.run import MakeScheduler, simulate
from headway.sim.workload import Workload
from headway.sim.workloads import descriptions, named

PREFIX_KEY = b"simulated"
"""There is nobody to hide cached prefixes from, and the same key gives the same run."""

T = TypeVar("T")

EXIT_USAGE = 2
SCALE_MAX = 1000.0
PROGRESS_AFTER_S = 2.0
PROGRESS_EVERY_S = 0.5


def command(
    *,
    hardware: str = "h100-llama-8b",
    workload: str = "chat",
    rate: float = 10.0,
    seconds: float = 60.0,
    policy: str = "headway",
    max_step_tokens: int | None = None,
    max_running: int | None = None,
    lengths: float = 1.0,
    promise: float = 1.0,
    noise: float = 0.0,
    seed: int = 0,
    json_file: Annotated[Path | None, Parameter(name="--json", allow_leading_hyphen=True)] = None,
    list_names: Annotated[bool, Parameter(name="--list")] = False,
) -> int:
    """See what a policy would do with a load on some hardware: the server's own scheduler, in virtual time.

    Parameters
    ----------
    hardware
        The machine with the model on it (see --list).
    workload
        What is asked for (see --list).
    rate
        Requests a second. A trace is stretched to it.
    seconds
        How long requests come, in virtual time. The first and the last tenth are cut from the figures.
    policy
        How requests are scheduled (see --list).
    max_step_tokens
        Most tokens in a step; the policy's own if not given.
    max_running
        Most requests in a step; the server's own if not given.
    lengths
        Multiply all lengths of prompts and answers by this, for a machine that is slower or faster.
    promise
        Multiply all promised times by this.
    noise
        How much the time of a step varies: sigma of a lognormal factor with median 1.
    seed
        The same seed gives the same run.
    json_file
        Write all figures to this file; - is standard output, in place of the table.
    list_names
        Say what hardware, workloads and policies there are, and do nothing.
    """
    if list_names:
        _print_names(Console())
        return 0
    asked = {"hardware": hardware, "workload": workload, "rate": rate, "seconds": seconds, "policy": policy}
    asked |= {"max_step_tokens": max_step_tokens, "max_running": max_running}
    asked |= {"lengths": lengths, "promise": promise, "noise": noise, "seed": seed}
    progress = _Progress(seconds)
    try:
        machine = Noisy(_known("hardware", hardware, HARDWARE), noise)
        maker = scheduler_maker(policy, machine, max_step_tokens, max_running)
        load = _workload(workload, lengths, promise)
        result = simulate(load, machine, maker, rate=rate, seconds=seconds, seed=seed, on_progress=progress.at)
        progress.end()
        if json_file is not None:
            _write({"simulated": asked, "source": machine.source, **result.figures()}, json_file)
    except (ValueError, OSError) as error:
        print(f"headway: {error}", file=sys.stderr)
        return EXIT_USAGE
    if json_file != Path("-"):
        console = Console()
        console.print(f"{policy} on {machine.description}, {workload} at {rate:g} requests a second")
        _print_table(result, progress.wall_s, console)
    return 0


def calibrated(hardware: Hardware, budget_s: float = BUDGET_S) -> StepTimeModel:
    """What a server knows about this hardware when it has started: the same made-up steps are measured."""
    executor, model = VirtualExecutor(hardware), StepTimeModel()
    calibrate(executor, executor.start(), model, clock=executor.clock, budget_s=budget_s)
    return model


def scheduler_maker(
    policy: str,
    hardware: Hardware,
    max_step_tokens: int | None = None,
    max_running: int | None = None,
    *,
    budget_s: float = BUDGET_S,
    limits: SchedulerConfig | None = None,
) -> MakeScheduler:
    """Schedulers of a named policy, each as new, that know what ``budget_s`` of measuring teach. ``limits``: other than
    a server's own. Raises ValueError for a policy or a limit that can't be."""
    config = limits or SchedulerConfig(max_step_tokens=default_step_tokens(policy))
    if max_step_tokens is not None:
        config = replace(config, max_step_tokens=max_step_tokens)
    if max_running is not None:
        config = replace(config, max_running=max_running)
    model = calibrated(hardware, budget_s).to_json()

    def make(info: ExecutorInfo) -> Scheduler:
        chosen = build(policy, model=StepTimeModel.from_json(model))
        return Scheduler(info, config, prefix_key=PREFIX_KEY, policy=chosen)

    return make


def _workload(name: str, lengths: float, promise: float) -> Workload:
    if not (0.0 < lengths <= SCALE_MAX and 0.0 < promise <= SCALE_MAX):
        raise ValueError(f"lengths and promise must be above 0 and at most {SCALE_MAX:g}, not {lengths}, {promise}")
    _known("workload", name, descriptions())
    return named(name).scaled(lengths=lengths, promise=promise)


def _known(kind: str, name: str, names: Mapping[str, T]) -> T:
    if name not in names:
        raise ValueError(f"there is no {kind} {name!r}; there are {', '.join(names)}")
    return names[name]


class _Progress:
    """A line on a terminal's standard error, once a run has taken a while."""

    def __init__(self, seconds: float) -> None:
        self.wall_s = 0.0
        self._seconds = seconds
        self._began_s = time.monotonic()
        self._next_s = self._began_s + PROGRESS_AFTER_S
        self._shown = False

    def at(self, virtual_s: float) -> None:
        if time.monotonic() >= self._next_s and sys.stderr.isatty():
            self._next_s = time.monotonic() + PROGRESS_EVERY_S
            self._shown = True
            print(f"{virtual_s:.0f} of {self._seconds:.0f} s ...", end="\x1b[K\r", file=sys.stderr, flush=True)

    def end(self) -> None:
        self.wall_s = time.monotonic() - self._began_s
        if self._shown:
            print(end="\x1b[K", file=sys.stderr, flush=True)


def _write(figures: dict[str, object], path: Path) -> None:
    text = json.dumps(figures, indent=2) + "\n"
    if path == Path("-"):
        sys.stdout.write(text)
    else:
        path.write_text(text, encoding="utf-8")


def _print_names(console: Console) -> None:
    table = Table(box=box.SIMPLE, show_header=False)
    for kind, names in (
        ("hardware", {name: each.description for name, each in HARDWARE.items()}),
        ("workload", descriptions()),
        ("policy", POLICIES),
    ):
        for name, description in names.items():
            table.add_row(kind, f"[bold]{name}[/]", description)
    console.print(table)


def _print_table(result: Result, wall_s: float, console: Console) -> None:
    """Figures down, classes across: a run has many of the ones and few of the others."""
    table = Table(box=box.SIMPLE)
    table.add_column("")
    for name in result.classes:
        table.add_column(name, justify="right")
    columns = [_figures(result.summary(name)) for name in result.classes]
    for label, *values in zip(LABELS, *columns, strict=True):
        table.add_row(label, *values)
    console.print(table)
    speed = result.seconds / max(wall_s, 1e-9)
    console.print(
        f"Over requests that came from {result.window.start_s:g} to {result.window.end_s:g} s.\n"
        f"{result.steps} steps in {wall_s:.1f} s, {speed:.0f} times faster than real time."
    )


LABELS = (
    "offered",
    "admitted",
    "in SLO, of all offered",
    "in SLO, of those admitted",
    "goodput (in SLO)",
    "throughput",
    "TTFT p95",
    "ITL p95",
    "end to end p95",
)


def _figures(summary: Summary) -> tuple[str, ...]:
    """One for each label."""

    def share(value: float | None) -> str:
        return "-" if value is None else f"{100 * value:.1f} %"

    def ms(value: float | None) -> str:
        return "-" if value is None else f"{1000 * value:.0f} ms"

    return (
        f"{summary.offered_rate:.2f}/s",
        share(summary.admitted / summary.offered if summary.offered else None),
        share(summary.attainment),
        share(summary.attainment_admitted),
        f"{summary.goodput:.2f}/s",
        f"{summary.throughput:.0f} tok/s",
        ms(summary.ttft.p95),
        ms(summary.itl.p95),
        ms(summary.e2e.p95),
    )
