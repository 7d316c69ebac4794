"""A run of ``headway tune``: the server, the procedure, and what becomes of its results, whatever happens."""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
from rich.console import Console

from headway.bench.export import ExportError, write_file, write_out
from headway.bench.figures import Level
from headway.bench.interrupts import interrupts
from headway.bench.keeper import Files, Keeper
from headway.bench.live import Live
from headway.bench.loads import Load
from headway.bench.processes import ProcessError
from headway.bench.record import Record
from headway.bench.run import Setting, run_level
from headway.bench.session import (
    EXIT_CLIENT_BOUND,
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_OK,
    EXIT_USAGE,
    Session,
    prepare,
)
from headway.policy.slo import Objective
from headway.tune.admin import Admin
from headway.tune.configs import Chosen, configs
from headway.tune.engines import Concurrency, Engine, HeadwayCaps, Interrupted, Knobs, Restarted, interruptible
from headway.tune.observe import Promise
from headway.tune.probe import Found
from headway.tune.procedure import Plan, Procedure
from headway.tune.process import StartError
from headway.tune.report import tune_page
from headway.tune.result import Tuned
from headway.tune.show import ConsoleShow

CLASSES_LOOKED_AT = 64
"""Calls of the workload that are looked at for the classes they name."""
INTERRUPTED = "interrupted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """``session``: as of ``bench``; its loads are not used but for how many processes they take. ``command`` or
    ``admin``: how a batch is set; neither: by requests at once. ``tokens``: of a step, where the command takes them."""

    session: Session
    plan: Plan
    command: str | None = None
    admin: Admin | None = None
    json: Path | None = None
    html: Path | None = None
    store: Path | None = None

    @property
    def is_piped(self) -> bool:
        return self.json == Path("-")


@dataclass
class _State:
    """What there is so far; kept when the rest fails."""

    keeper: Keeper
    tuned: Tuned | None = None
    said: list[str] = field(default_factory=list)
    has_failed: bool = False


def run_tune(asked: Asked, *, quiet: bool = False) -> int:
    """Search and report; the exit code. What goes wrong is one line on standard error."""
    console = Console(stderr=True, quiet=quiet)
    state = _State(Keeper(Files(store=asked.store)))
    failure, unmeasured = None, EXIT_USAGE
    try:
        with asyncio.Runner() as runner:
            runner.run(_tune(asked, state, console))
    except ValueError as error:
        failure = str(error)
    except (StartError, ProcessError) as error:
        failure, unmeasured = str(error), EXIT_FAILED
    except asyncio.CancelledError:
        failure, unmeasured = INTERRUPTED, EXIT_INTERRUPTED
    tuned = state.tuned
    if tuned is None or not tuned.run.levels:
        if failure is None and tuned is not None and tuned.reason is not None:
            failure, unmeasured = tuned.reason, EXIT_INTERRUPTED if tuned.reason == INTERRUPTED else EXIT_FAILED
        print(f"headway: {failure or 'nothing was measured'}", file=sys.stderr)
        return unmeasured
    if failure is not None:
        print(f"headway: {failure}", file=sys.stderr)
        tuned.state, tuned.reason = "partial", tuned.reason or failure.splitlines()[0]
    _finish(asked, state, tuned)
    return _exit_code(tuned, has_failed=state.has_failed or state.keeper.has_failed)


def _exit_code(tuned: Tuned, *, has_failed: bool) -> int:
    if tuned.reason == INTERRUPTED:
        return EXIT_INTERRUPTED
    if has_failed or tuned.state != "complete":
        return EXIT_FAILED
    return EXIT_CLIENT_BOUND if tuned.batch is not None and tuned.batch.found == Found.CLIENT else EXIT_OK


async def _tune(asked: Asked, state: _State, console: Console) -> None:
    stop = asyncio.Event()
    show = ConsoleShow(console)
    with interrupts(stop, lambda: state.tuned is not None):
        engine = await _engine(asked, show.say)
        try:
            if engine.is_restarted:  # before anything can be asked of it
                await interruptible(engine.use(Knobs(batch=1, tokens=asked.plan.tokens)), stop)
            setting, run = await prepare(asked.session, console)
            run.kind = "tune"
            state.keeper.run, state.tuned = run, Tuned(run=run, how=engine.how)
            procedure = Procedure(
                plan=asked.plan,
                promise=_promise(asked.session, setting),
                engine=engine,
                measure=_measure(asked.session, setting, console, stop),
                show=show,
                tuned=state.tuned,
                keep=lambda records: _keep(asked, state, records),
                stop=stop,
                clock=time.monotonic,
            )
            try:
                await procedure.run()
            finally:
                _configure(state.tuned, procedure)
        except Interrupted:
            raise asyncio.CancelledError from None
        finally:
            await engine.close()


async def _engine(asked: Asked, say: Callable[[str], None]) -> Engine:
    """Raises ``TargetError`` or ``CommandError``."""
    session = asked.session
    if asked.command is not None:
        return Restarted(asked.command, session.target, say)
    if asked.admin is not None:
        default = session.objectives[session.default_class]
        # Requests that name no class are of whichever has that tier: all of them get the promise that is measured.
        promised = {name: default for name in session.objectives if not session.objectives[name].is_empty}
        return await HeadwayCaps.at(asked.admin, promised)
    return Concurrency()


def _promise(session: Session, setting: Setting) -> Promise:
    """For the classes that the workload names, if any."""
    calls = setting.workload.calls(session.level_seed(0))
    names = {call.service_class for call, _ in zip(calls, range(CLASSES_LOOKED_AT), strict=False)}
    return Promise(setting.default, session.objectives, tuple(sorted(name for name in names if name)))


def _measure(
    session: Session, setting: Setting, console: Console, stop: asyncio.Event
) -> Callable[[Load, int], asyncio.Future[tuple[Level, list[Record]]]]:
    async def measure(load: Load, number: int) -> tuple[Level, list[Record]]:
        with Live(console, load.name, setting.objectives, load.seconds, default=setting.default) as live:
            return await run_level(setting, load, seed=session.level_seed(number), live=live, stop=stop)

    return lambda load, number: asyncio.ensure_future(measure(load, number))


def _configure(tuned: Tuned, procedure: Procedure) -> None:
    if tuned.batch is None or tuned.batch.load is None:
        return
    promise = procedure.promise
    chosen = Chosen(
        batch=int(tuned.batch.load),
        tokens=tuned.tokens,
        rate=tuned.rate.load if tuned.rate is not None else None,
        longest=procedure.longest,
        model=str(tuned.run.target.get("model", "MODEL")),
        objectives=_promised(promise),
        found=Found(tuned.batch.found),
    )
    tuned.configs = configs(chosen)


def _promised(promise: Promise) -> Mapping[str, Objective]:
    """By class; where requests name none, they are of the class that such requests are of."""
    named = {name: objective for name, objective in promise.held() if name}
    return named or {name: each for name, each in promise.objectives.items() if each == promise.default}


def _keep(asked: Asked, state: _State, records: list[Record]) -> None:
    """After every level: nothing that was measured is lost to what comes after."""
    state.keeper.keep(records)
    path, tuned = asked.json, state.tuned
    if path is not None and tuned is not None and not asked.is_piped:
        _try(state, lambda: write_file(path, [tuned_to_json(tuned)]))


def tuned_to_json(tuned: Tuned) -> bytes:
    return msgspec.json.format(msgspec.json.encode(tuned), indent=1) + b"\n"


def _finish(asked: Asked, state: _State, tuned: Tuned) -> None:
    state.said = []
    state.has_failed = False
    data = tuned_to_json(tuned)
    if asked.is_piped:
        is_kept = _try(state, lambda: write_out(data))
    else:
        is_kept = asked.json is None or _write(state, asked.json, data, "all figures")
    if not is_kept:
        _rescue(state, tuned, data)
    if asked.html is not None:
        text = tune_page(tuned, dict(enumerate(state.keeper.records)))
        _write(state, asked.html, text.encode(), "the report")
    if not asked.is_piped:
        _try(state, lambda: write_out(_text_of(tuned).encode()))
    for line in [*state.keeper.said, *state.said]:
        print(line, file=sys.stderr)


def _rescue(state: _State, tuned: Tuned, data: bytes) -> None:
    """What could not be written where it was wanted: the store has the levels, but not what follows from them."""
    path = Path(tempfile.gettempdir()) / f"headway-tune-{tuned.run.id}.json"
    _write(state, path, data, "all figures, as they could not be written where they were to be")


def _try(state: _State, write: Callable[[], None]) -> bool:
    try:
        write()
    except ExportError as error:
        state.has_failed = True
        state.said.append(f"headway: {error}")
        return False
    return True


def _write(state: _State, path: Path, data: bytes, what: str) -> bool:
    is_written = _try(state, lambda: write_file(path, [data]))
    if is_written:
        state.said.append(f"{path}: {what}")
    return is_written


def _text_of(tuned: Tuned) -> str:
    """What was found, and how to serve so."""
    engine = str(tuned.run.target.get("engine", ""))
    parts = [
        tuned.batch.sentence if tuned.batch is not None else "",
        tuned.rate.sentence if tuned.rate is not None else "",
        f"what binds: {tuned.binding['resource']}, {tuned.binding['why']}" if tuned.binding else "",
        f"not complete: {tuned.reason}" if tuned.reason is not None else "",
    ]
    lines = [f"{each}\n" for each in parts if each]
    lines += [
        f"\n# {name}\n{text}" for name, text in tuned.configs.items() if name == engine or engine not in tuned.configs
    ]
    others = [name for name in tuned.configs if name != engine]
    if engine in tuned.configs and others:
        lines.append(f"\nFor {', '.join(others)}: in the JSON and the report.\n")
    return "".join(lines)
