"""``headway plan``: which GPUs keep a promise at a load, and at what cost. Parsing and wiring.

Exit codes: 0 a set-up keeps it, 1 none does (or a file can't be written), 2 what was asked can't be meant, 130 Ctrl-C.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import msgspec
from cyclopts import App, Group, Parameter
from rich.console import Console

from headway import __version__
from headway.plan.calibration_file import load as load_calibration
from headway.plan.catalogue import find_gpu, gpus, parse_price, priced
from headway.plan.check import check
from headway.plan.engine import UNCALIBRATED, Calibration
from headway.plan.engines import find_engine
from headway.plan.errors import PlanError
from headway.plan.gpu import Gpu
from headway.plan.known_models import find_model
from headway.plan.lists import show_gpus, show_models, show_workloads
from headway.plan.load import rate_of, read_demand
from headway.plan.outcome import Plan
from headway.plan.pool import Processes
from headway.plan.predictor import Simulated
from headway.plan.progress import Shown
from headway.plan.question import ROUTERS, Question, change_of, classes_of, kv_precision_of, precisions_of
from headway.plan.results import EXIT_INTERRUPTED, EXIT_OK, EXIT_USAGE, check_outputs, write
from headway.plan.search import OPTIONS, OPTIONS_QUICK, search
from headway.plan.usual import consumer_notes, price_notes, usual
from headway.policy.policies import POLICIES

REQUESTS, SEEDS, TOLERANCE = 500, 3, 0.08
QUICK_REQUESTS, QUICK_SEEDS, QUICK_TOLERANCE = 300, 1, 0.15

_LOAD = Group("Load and promise", sort_key=1)
_SET_UPS = Group("Set-ups", sort_key=2)
_SEARCH = Group("Search", sort_key=3)
_RESULTS = Group("Results", sort_key=4)

app = App(
    name="plan",
    help="Which GPUs keep a promise at a load, how many, and at what cost.",
    default_parameter=Parameter(negative=()),
)


@app.default
def plan(
    model: Annotated[str, Parameter(group=_LOAD)],
    /,
    *,
    workload: Annotated[str, Parameter(group=_LOAD)] = "chat",
    rate: Annotated[str | None, Parameter(group=_LOAD, allow_leading_hyphen=True)] = None,
    slo: Annotated[tuple[str, ...], Parameter(group=_LOAD)] = (),
    cv: Annotated[float | None, Parameter(group=_LOAD)] = None,
    what_if: Annotated[tuple[str, ...], Parameter(group=_LOAD)] = (),
    gpu: Annotated[tuple[str, ...], Parameter(group=_SET_UPS)] = (),
    max_gpus: Annotated[int, Parameter(group=_SET_UPS)] = 16,
    tp: Annotated[tuple[int, ...], Parameter(group=_SET_UPS)] = (),
    precision: Annotated[tuple[str, ...], Parameter(group=_SET_UPS)] = ("bf16", "fp8"),
    kv_precision: Annotated[str, Parameter(group=_SET_UPS)] = "bf16",
    engine: Annotated[str, Parameter(group=_SET_UPS)] = "headway",
    policy: Annotated[str | None, Parameter(group=_SET_UPS)] = None,
    router: Annotated[str, Parameter(group=_SET_UPS)] = ROUTERS[0],
    price: Annotated[tuple[str, ...], Parameter(group=_SET_UPS)] = (),
    gpus_file: Annotated[Path | None, Parameter(group=_SET_UPS)] = None,
    calibration: Annotated[Path | None, Parameter(group=_SET_UPS)] = None,
    quick: Annotated[bool, Parameter(group=_SEARCH)] = False,
    seeds: Annotated[int | None, Parameter(group=_SEARCH)] = None,
    requests: Annotated[int | None, Parameter(group=_SEARCH)] = None,
    processes: Annotated[int | None, Parameter(group=_SEARCH)] = None,
    json_file: Annotated[Path | None, Parameter(name="--json", group=_RESULTS, allow_leading_hyphen=True)] = None,
    html_file: Annotated[Path | None, Parameter(name="--html", group=_RESULTS)] = None,
    show_all: Annotated[bool, Parameter(name="--all", group=_RESULTS)] = False,
    quiet: Annotated[bool, Parameter(group=_RESULTS)] = False,
) -> int:
    """Which GPUs keep a promise at a load, how many, and at what cost.

    Every set-up (GPU, tensor parallelism, replicas, number format) that closed formulas leave is simulated with the
    server's own scheduler. "Keeps" means that at least 95 % of the requests that are offered, of each class, are in
    SLO. Each prediction comes with its error band: what published measurements, or a calibration, say of it.

    Parameters
    ----------
    model
        A known name (see `headway plan models`), or a config.json or its directory.
    workload
        What is asked for, as for `headway bench` (see `headway plan workloads`): a trace, a file, lengths to draw, or
        run:latest for what was asked in a recorded run.
    rate
        Requests a second in all. Not given: as a trace has it.
    slo
        What a class is promised at p95, in milliseconds: NAME:ttft=300,itl=100,e2e=2000, any of the three. Classes are
        conversational, interactive and batch. May be given several times.
    cv
        How bursty drawn requests come: coefficient of variation of the gaps. 1 is Poisson.
    what_if
        Try the winner with a change, and say what that takes: rate=2x, rate=40, prompt=1.5x, output=2x, itl=50,
        ttft=0.5x, or several with commas. May be given several times.
    gpu
        Only this GPU (see `headway plan gpus`). May be given several times. Not given: all that have a price, consumer
        cards (GeForce) only with one from --price or --gpus-file.
    max_gpus
        GPUs in all.
    tp
        Only this tensor parallelism. May be given several times.
    precision
        Number format of the weights: bf16, fp8, int8, int4 or fp4. May be given several times.
    kv_precision
        Number format of the KV cache: bf16 or fp8.
    engine
        Whose host times and memory count: headway, vllm, sglang or trtllm.
    policy
        How requests are scheduled: headway, vllm, static, aimd or prefill-first. The engine's own if not given.
    router
        How replicas are chosen: least-ttft (predicted) or round-robin.
    price
        Dollars an hour for one GPU: h100-sxm=2.50. May be given several times.
    gpus_file
        More GPUs, or other figures: a TOML file like the catalogue's.
    calibration
        A file from `headway plan calibrate`, for the set-up and engine that it was measured on.
    quick
        Fewer requests, one seed, fewer options: a third of the time, wider intervals.
    seeds
        Draws of the load, for intervals: 3, or 1 with --quick.
    requests
        Least requests of one simulated run: 500, or 300 with --quick.
    processes
        As many as cores if not given.
    json_file
        Write the plan to this file; - is standard output, in place of the table.
    html_file
        Write a report to this file: one page, for any browser, offline.
    show_all
        Say of every set-up that was left out why.
    quiet
        No progress.
    """
    try:
        question = _question(
            model=model,
            workload=workload,
            rate=rate,
            slo=slo,
            cv=cv,
            what_if=what_if,
            gpu=gpu,
            max_gpus=max_gpus,
            tp=tp,
            precision=precision,
            kv_precision=kv_precision,
            engine=engine,
            policy=policy,
            router=router,
            catalogue=_catalogue(gpus_file, price),
            calibration=UNCALIBRATED if calibration is None else load_calibration(calibration),
            quick=quick,
            seeds=seeds,
            requests=requests,
        )
        check_outputs(json_file, html_file)
        if processes is not None and processes < 1:
            raise PlanError(f"--processes must be at least 1, not {processes}")
        found = _search(question, processes, quick, quiet)
    except (PlanError, OSError) as error:
        print(f"headway: {error}", file=sys.stderr)
        return EXIT_USAGE
    except KeyboardInterrupt:
        print("headway: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    return write(found, json_file, html_file, is_whole=show_all)


app.command(
    "headway.plan.calibrate_command:calibrate_command",
    name="calibrate",
    help="Narrow the band of a GPU's plans by a run that was measured on it.",
)


app.command(
    "headway.plan.machine_command:machine_command",
    name="machine",
    help="What a machine keeps as its own server came to know it, a CPU's too.",
)


@app.command(name="gpus")
def gpus_command(*, gpus_file: Path | None = None) -> int:
    """List the GPUs of the catalogue.

    Parameters
    ----------
    gpus_file
        More GPUs, or other figures: a TOML file like the catalogue's.
    """
    try:
        show_gpus(gpus(gpus_file), Console())
    except PlanError as error:
        print(f"headway: {error}", file=sys.stderr)
        return EXIT_USAGE
    return EXIT_OK


@app.command(name="models")
def models_command() -> int:
    """List the models that are known by name."""
    show_models(Console())
    return EXIT_OK


@app.command(name="workloads")
def workloads_command() -> int:
    """List the workloads and how they are written."""
    show_workloads(Console())
    return EXIT_OK


def _catalogue(gpus_file: Path | None, price: tuple[str, ...]) -> Mapping[str, Gpu]:
    return priced(gpus(gpus_file), dict(parse_price(text) for text in price), "--price")


def _question(
    *,
    model: str,
    workload: str,
    rate: str | None,
    slo: tuple[str, ...],
    cv: float | None,
    what_if: tuple[str, ...],
    gpu: tuple[str, ...],
    max_gpus: int,
    tp: tuple[int, ...],
    precision: tuple[str, ...],
    kv_precision: str,
    engine: str,
    policy: str | None,
    router: str,
    catalogue: Mapping[str, Gpu],
    calibration: Calibration,
    quick: bool,
    seeds: int | None,
    requests: int | None,
) -> Question:
    shape, chosen = find_model(model), find_engine(engine)
    name = policy or ("headway" if chosen.name == "headway" else "vllm")
    if name not in POLICIES:
        raise PlanError(f"there is no policy {name!r}; there are {', '.join(POLICIES)}")
    if calibration.engine and calibration.engine != chosen.name:
        raise PlanError(f"--calibration is of {calibration.engine}, not of --engine {chosen.name}: measure that one")
    classes, promised = classes_of(slo)
    demand = read_demand(
        workload,
        rate=None if rate is None else rate_of(rate),
        cv=cv,
        classes=classes,
        promised=promised,
        context=shape.context_tokens,
    )
    named = tuple(find_gpu(each, catalogue) for each in gpu)
    chosen_gpus = _once(named) or usual(catalogue)
    question = Question(
        model=shape,
        demand=demand,
        gpus=chosen_gpus,
        engine=chosen,
        policy=name,
        max_gpus=max_gpus,
        precisions=precisions_of(precision),
        kv_precision=kv_precision_of(kv_precision),
        tensor_parallel=tuple(sorted(set(tp))) or None,
        router=router,
        calibration=calibration,
        seeds=seeds if seeds is not None else QUICK_SEEDS if quick else SEEDS,
        requests=requests if requests is not None else QUICK_REQUESTS if quick else REQUESTS,
        tolerance=QUICK_TOLERANCE if quick else TOLERANCE,
        changes=tuple(change_of(text) for text in what_if),
        catalogue=tuple(catalogue.values()),
        notes=(*price_notes(chosen_gpus), *(() if named else consumer_notes(catalogue, chosen_gpus))),
    )
    check(question)
    return question


def _once(named: tuple[Gpu, ...]) -> tuple[Gpu, ...]:
    return tuple({each.name: each for each in named}.values())


def _search(question: Question, processes: int | None, quick: bool, quiet: bool) -> Plan:
    with Shown(quiet=quiet) as progress, Processes(processes) as pool:
        found = search(question, Simulated, pool, progress, options=OPTIONS_QUICK if quick else OPTIONS)
    made_at = datetime.now(UTC).isoformat(timespec="seconds")
    return msgspec.structs.replace(found, headway=__version__, made_at=made_at)
