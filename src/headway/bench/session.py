"""A run of ``headway bench``: look at the server, offer each level, and keep what was measured, whatever happens.

After every level all of it is written again, so that nothing that was measured is lost to what comes after: an
interrupt, a server that dies, a full disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import platform
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from headway import __version__
from headway.bench.discover import ServerInfo, discover
from headway.bench.figures import Run
from headway.bench.interrupts import interrupts
from headway.bench.keeper import Files, Keeper
from headway.bench.live import Live
from headway.bench.loads import Load
from headway.bench.preflight import settle
from headway.bench.processes import ProcessError, processes_for
from headway.bench.report.table import print_run
from headway.bench.run import Setting, run_level
from headway.bench.sender import TIMEOUT_S
from headway.bench.store import new_id
from headway.bench.target import Api, Target
from headway.bench.tokens import Tokens
from headway.bench.tokens_local import bundled, from_file
from headway.bench.tokens_server import from_server
from headway.bench.workload import parse
from headway.bench.workload_interface import Workload, WorkloadError
from headway.policy.slo import NO_PROMISE, Objective

EXIT_OK, EXIT_FAILED, EXIT_USAGE, EXIT_CLIENT_BOUND, EXIT_INTERRUPTED = 0, 1, 2, 3, 130

LEVEL_SEEDS = 1000
"""Seeds of a run's levels: each has prompts of its own, or the second level would find the first's in the cache."""
PREFLIGHT_LEVEL = LEVEL_SEEDS - 1
USUAL = ("chat", "short")
"""Workloads for who names none."""
SECRETS = re.compile(
    r"""((?:api[-_]?key|[-_]token|password|secret|bearer)['"]?(?:=|\s+)['"]*)[^\s'"]+""", re.IGNORECASE
)
"""In a command line: how a server that is to be started gets its keys."""
AUTO, SERVER, BUNDLED = "auto", "server", "bundled"
"""What may count tokens, besides a file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """What was asked for. ``objectives`` by service class; ``default_class``: of requests that name none."""

    target: Target
    workload: str | None
    loads: Sequence[Load]
    objectives: Mapping[str, Objective] = field(default_factory=dict)
    default_class: str = ""
    tokenizer: str = AUTO
    seed: int = 0
    processes: int | None = None
    timeout_s: float = TIMEOUT_S
    warm_up_s: float = 0.0
    is_streaming: bool = True
    scrapes: bool = True
    note: str = ""

    def __post_init__(self) -> None:
        if not 0.0 < self.timeout_s <= 86_400.0:
            raise ValueError(f"timeout-s must be above 0 and at most 86400, not {self.timeout_s:g}")
        if not 0.0 <= self.warm_up_s <= 86_400.0:
            raise ValueError(f"warm-up-s must be 0 to 86400, not {self.warm_up_s:g}")
        if self.processes is not None and not 1 <= self.processes <= 64:
            raise ValueError(f"processes must be 1 to 64, not {self.processes}")

    def level_seed(self, level: int) -> int:
        return self.seed * LEVEL_SEEDS + level


def run_session(session: Session, files: Files, *, quiet: bool = False) -> int:
    """Measure and report; the exit code. What goes wrong is one line on standard error."""
    console = Console(stderr=True, quiet=quiet)
    keeper = Keeper(files)
    is_interrupted = False
    try:
        with asyncio.Runner() as runner:
            is_interrupted = runner.run(_measure(session, keeper, console))
    except (ValueError, ProcessError) as error:
        keeper.fail(str(error))
        if isinstance(error, ValueError) and not keeper.records:
            print(f"headway: {error}", file=sys.stderr)
            return EXIT_USAGE
    except asyncio.CancelledError:
        is_interrupted = True
    run = keeper.run
    if run is None or not run.levels:
        for line in keeper.said:
            print(line, file=sys.stderr)
        return EXIT_INTERRUPTED if is_interrupted else EXIT_FAILED
    keeper.finish()
    if not files.is_piped:
        print_run(Console(), run)
    for line in keeper.said:
        print(line, file=sys.stderr)
    if is_interrupted:
        return EXIT_INTERRUPTED
    if keeper.has_failed or any(level.state != "complete" for level in run.levels):
        return EXIT_FAILED
    return EXIT_CLIENT_BOUND if any(level.client.bound for level in run.levels) else EXIT_OK


async def _measure(session: Session, keeper: Keeper, console: Console) -> bool:
    """Whether it was interrupted. Raises ``TargetError`` or ValueError while nothing has been measured."""
    stop = asyncio.Event()
    with interrupts(stop, lambda: keeper.run is not None):
        setting, run = await prepare(session, console)
        keeper.run = run
        for number, load in enumerate(session.loads):
            title = f"{number + 1} of {len(session.loads)}:" if len(session.loads) > 1 else ""
            with Live(
                console, load.name, setting.objectives, load.seconds, default=setting.default, title=title
            ) as live:
                level, records = await run_level(setting, load, seed=session.level_seed(number), live=live, stop=stop)
            run.levels.append(level)
            keeper.keep(records)
            if level.state != "complete" or stop.is_set():
                break
    return stop.is_set() and run.levels[-1].reason in (None, "interrupted")


async def prepare(session: Session, console: Console) -> tuple[Setting, Run]:
    """Everything before the first level. Raises ``TargetError`` or ValueError, one line each."""
    info = await asyncio.to_thread(discover, session.target)
    target = info.target(session.target)
    tokens = await asyncio.to_thread(choose_tokens, session.tokenizer, target, info)
    workload = choose_workload(session.workload, tokens, target.api, info.max_model_len)
    first = next(workload.calls(session.level_seed(PREFLIGHT_LEVEL)))
    settled = await settle(target, first, is_streaming=session.is_streaming, timeout_s=session.timeout_s)
    for line in settled.given_up:
        console.print(line, style="yellow", highlight=False)
    setting = Setting(
        target=target,
        workload=workload,
        objectives=session.objectives,
        default=session.objectives.get(session.default_class, NO_PROMISE),
        dialect=settled.dialect,
        template_tokens=settled.template_tokens,
        timeout_s=session.timeout_s,
        warm_up_s=session.warm_up_s,
        processes=session.processes or processes_for(session.loads),
        engine=info.engine if session.scrapes and info.has_metrics else None,
    )
    started_at = datetime.now(UTC).isoformat(timespec="seconds")
    run = Run(
        id=new_id(started_at),
        started_at=started_at,
        command=command_line(sys.argv[1:]),
        note=session.note,
        target={
            "url": target.url,
            "api": target.api,
            "model": target.model,
            "engine": info.engine,
            "version": info.version,
            "max_model_len": info.max_model_len,
            "streaming": session.is_streaming,
            "given_up": list(settled.given_up),
        },
        workload=workload.describe() | {"seed": session.seed, "template_tokens": settled.template_tokens},
        machine=describe_machine(),
        versions={"headway": __version__, "python": platform.python_version()},
    )
    console.print(
        f"{info.engine} {info.version or ''} at {target.url}, model {target.model}", highlight=False, markup=False
    )
    return setting, run


def command_line(arguments: Sequence[str]) -> str:
    """As it was written, to be kept: without what must not be."""
    return SECRETS.sub(r"\1***", shlex.join(["headway", *arguments]))


def choose_tokens(name: str, target: Target, info: ServerInfo) -> Tokens:
    """Raises ``TokensError``. ``auto``: the server's own where it has /tokenize, else the bundled one."""
    if name == SERVER or (name == AUTO and info.has_tokenize):
        return from_server(target)
    return bundled() if name in (AUTO, BUNDLED) else from_file(Path(name))


def choose_workload(spec: str | None, tokens: Tokens, api: Api, context: int | None) -> Workload:
    """Raises ``WorkloadError``. None: the first of ``USUAL`` that fits the server's context."""
    if spec is not None:
        return parse(spec, tokens, api=api, context=context)
    for usual in USUAL[:-1]:
        with contextlib.suppress(WorkloadError):
            return parse(usual, tokens, api=api, context=context)
    return parse(USUAL[-1], tokens, api=api, context=context)


def describe_machine() -> dict[str, object]:
    """The client's: latencies include it."""
    return {"system": f"{platform.system()} {platform.release()}", "processor": _cpu_name(), "cores": os.cpu_count()}


def _cpu_name() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
