"""``headway bench``: measure an OpenAI-compatible server, keep what was measured, compare it.

Parsing and wiring; what it does is in ``session``. Exit codes: 0 measured; 1 not all of it (the server, the disk); 2
said wrongly; 3 the client was what limited the run; 130 interrupted. What was measured until then is kept.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated

from cyclopts import App, Group, Parameter
from rich.console import Console

from headway.bench import shelf
from headway.bench.compare import compare as compare_runs
from headway.bench.export import ExportError, run_to_json, write_file, write_run
from headway.bench.figures import Run
from headway.bench.given import CALLS, PROMISE, RESULTS, SERVER, check_outputs, key_of, objectives_of, seed_of
from headway.bench.keeper import Files
from headway.bench.loads import Arrivals, ClosedLoop, Load, OpenLoop
from headway.bench.report.html import page
from headway.bench.session import EXIT_FAILED, EXIT_OK, EXIT_USAGE, Session, run_session
from headway.bench.store import Store, StoreError, default_path
from headway.bench.target import Api, Target
from headway.policy.slo import Objective

LEVELS_MAX = 64
CV = 4.0

_LOAD = Group("Load", sort_key=2)

app = App(
    name="bench",
    help="Measure any OpenAI-compatible server: Headway, vLLM, SGLang, TGI, llama.cpp.",
    default_parameter=Parameter(negative=()),
)


@app.default
def bench(
    url: Annotated[str, Parameter(group=SERVER)],
    /,
    *,
    model: Annotated[str | None, Parameter(group=SERVER)] = None,
    api: Annotated[Api, Parameter(group=SERVER)] = "chat",
    key_file: Annotated[Path | None, Parameter(group=SERVER)] = None,
    timeout_s: Annotated[float, Parameter(group=SERVER)] = 120.0,
    rate: Annotated[str | None, Parameter(group=_LOAD)] = None,
    concurrency: Annotated[str | None, Parameter(group=_LOAD)] = None,
    arrivals: Annotated[Arrivals, Parameter(group=_LOAD)] = "poisson",
    cv: Annotated[float | None, Parameter(group=_LOAD)] = None,
    seconds: Annotated[float, Parameter(group=_LOAD)] = 60.0,
    warm_up_s: Annotated[float, Parameter(group=_LOAD)] = 0.0,
    processes: Annotated[int | None, Parameter(group=_LOAD)] = None,
    workload: Annotated[str | None, Parameter(group=CALLS)] = None,
    tokenizer: Annotated[str, Parameter(group=CALLS)] = "auto",
    no_stream: Annotated[bool, Parameter(group=CALLS)] = False,
    seed: Annotated[int | None, Parameter(group=CALLS)] = None,
    ttft: Annotated[float | None, Parameter(group=PROMISE)] = None,
    itl: Annotated[float | None, Parameter(group=PROMISE)] = None,
    e2e: Annotated[float | None, Parameter(group=PROMISE)] = None,
    service_class: Annotated[str, Parameter(name="--class", group=PROMISE)] = "conversational",
    slo: Annotated[tuple[str, ...], Parameter(group=PROMISE)] = (),
    json_file: Annotated[Path | None, Parameter(name="--json", group=RESULTS, allow_leading_hyphen=True)] = None,
    html_file: Annotated[Path | None, Parameter(name="--html", group=RESULTS)] = None,
    csv_file: Annotated[Path | None, Parameter(name="--csv", group=RESULTS)] = None,
    requests_file: Annotated[Path | None, Parameter(name="--requests", group=RESULTS)] = None,
    store: Annotated[str | None, Parameter(group=RESULTS)] = None,
    note: Annotated[str, Parameter(group=RESULTS)] = "",
    no_scrape: Annotated[bool, Parameter(group=RESULTS)] = False,
    quiet: Annotated[bool, Parameter(group=RESULTS)] = False,
) -> int:
    """Measure any OpenAI-compatible server under load.

    Latencies count from when a request was meant to be sent. Only the steady part of each level counts. Refused,
    failed and timed-out requests are misses.

    Parameters
    ----------
    url
        Where the server is: http://127.0.0.1:8000, with or without /v1.
    model
        As the server calls it; the first that it lists if not given.
    api
        chat or completions.
    key_file
        File with the API key. The variable OPENAI_API_KEY does the same.
    timeout_s
        After so long a request is given up, and is a miss.
    rate
        Requests a second, whatever becomes of them (open loop). Several levels: 1,2,4,8. With --arrivals trace, 0 is
        the trace's own rate.
    concurrency
        Requests at once; where one ends the next begins (closed loop). Several levels: 1,4,16. With
        neither this nor --rate: 1.
    arrivals
        poisson, constant, gamma (bursts, see --cv) or trace (the workload's own times).
    cv
        With --arrivals gamma: how bursty, as the coefficient of variation of the gaps. 1 is Poisson; 4 if not given.
    seconds
        How long each level takes.
    warm_up_s
        Cut this much from the start of each level, at least. What it takes to fill up the server is cut in any case.
    processes
        Load generator processes; by the load and the cores if not given.
    workload
        What is asked for: a name or a specification, see `headway bench workloads`. If not given: chat, or short if
        the server's context is too small for that.
    tokenizer
        What counts tokens: auto, server (its /tokenize), bundled, or a tokenizer.json.
    no_stream
        Ask for whole answers: then the end-to-end time is all there is, and all that is promised.
    seed
        The same seed makes the same requests at the same times; each level has prompts of its own. Another one each
        time if not given, or the server would find the last run's prompts in its cache.
    ttft
        Promised time to the first token at p95 (milliseconds), in place of the class's.
    itl
        Promised gap between tokens at p95 (milliseconds).
    e2e
        Promised time to the last token at p95 (milliseconds).
    service_class
        Whose promise is meant: conversational, interactive or batch. Workloads with classes name their own.
    slo
        What a class is promised: NAME:ttft=300,itl=100,e2e=2000. May be given several times.
    json_file
        Write everything but single requests to this file; - is standard output, in place of the tables.
    html_file
        Write a report to this file: one page, for any browser, offline.
    csv_file
        Write a row for each level and class to this file.
    requests_file
        Write every request to this file, as JSON lines, or as CSV if its name ends so.
    store
        File that runs are kept in, for `headway bench list`, show and compare; none: nowhere. If not given:
        headway/bench.sqlite in $XDG_DATA_HOME, or in ~/.local/share.
    note
        Kept with the run.
    no_scrape
        Don't read the server's /metrics meanwhile.
    quiet
        No progress.
    """
    try:
        objectives = objectives_of(service_class, slo, {"ttft": ttft, "itl": itl, "e2e": e2e})
        if no_stream:
            objectives = _of_whole_answers(objectives, ttft, itl)
        session = Session(
            target=Target.at(url, api=api, model=model or "", key=key_of(key_file)),
            workload=workload,
            tokenizer=tokenizer,
            loads=_loads(rate, concurrency, arrivals, cv, seconds),
            objectives=objectives,
            default_class=service_class,
            seed=seed_of(seed),
            processes=processes,
            timeout_s=timeout_s,
            warm_up_s=warm_up_s,
            is_streaming=not no_stream,
            scrapes=not no_scrape,
            note=note,
        )
        check_outputs({"--json": json_file, "--html": html_file, "--csv": csv_file, "--requests": requests_file})
        files = Files(
            json=json_file,
            html=html_file,
            csv=csv_file,
            requests=requests_file,
            store=None if store == "none" else Path(store) if store else default_path(),
        )
    except ValueError as error:
        return _refuse(str(error))
    return run_session(session, files, quiet=quiet)


def _of_whole_answers(
    objectives: Mapping[str, Objective], ttft: float | None, itl: float | None
) -> Mapping[str, Objective]:
    """What of them can be held without single tokens. Raises ValueError."""
    if ttft is not None or itl is not None:
        raise ValueError("--no-stream: whole answers have no single tokens to promise; give --e2e alone")
    return {name: Objective(e2e_s=each.e2e_s) for name, each in objectives.items()}


def _loads(
    rate: str | None, concurrency: str | None, arrivals: Arrivals, cv: float | None, seconds: float
) -> tuple[Load, ...]:
    """A load for each level. Raises ValueError."""
    if rate is not None and concurrency is not None:
        raise ValueError("give --rate (requests a second) or --concurrency (requests at once), not both")
    if concurrency is not None and arrivals != "poisson":
        raise ValueError(f"--arrivals {arrivals} is for --rate: with --concurrency the replies decide when")
    if cv is not None and arrivals != "gamma":
        raise ValueError("--cv is for --arrivals gamma")
    if rate is None and concurrency is None:
        rate = "0" if arrivals == "trace" else None
        concurrency = None if rate else "1"
    gaps_cv = (CV if cv is None else cv) if arrivals == "gamma" else 1.0
    loads: list[Load] = []
    for each in _numbers("--rate", rate):
        loads.append(OpenLoop(rate=each, seconds=seconds, arrivals=arrivals, cv=gaps_cv))
    for each in _numbers("--concurrency", concurrency):
        if not each.is_integer():
            raise ValueError(f"--concurrency must be a whole number of requests, not {each:g}")
        loads.append(ClosedLoop(concurrency=int(each), seconds=seconds))
    if len(loads) > LEVELS_MAX:
        raise ValueError(f"there may be {LEVELS_MAX} levels, not {len(loads)}")
    return tuple(loads)


def _numbers(option: str, text: str | None) -> list[float]:
    try:
        return [float(each) for each in text.split(",")] if text is not None else []
    except ValueError:
        raise ValueError(f"{option} {text}: write a number, or several with commas: 1,2,4") from None


def _refuse(message: str) -> int:
    print(f"headway: {message}", file=sys.stderr)
    return EXIT_USAGE


StoreOption = Annotated[Path | None, Parameter(name="--store")]


@app.command(name="list")
def list_runs(*, store: StoreOption = None) -> int:
    """List the runs that are kept, the latest first. Levels: ✓ kept the promise, ✗ missed it, ? undecided, ! not valid.

    Parameters
    ----------
    store
        File that runs are kept in, if not the usual one.
    """
    return _on_shelf(lambda: Console().print(shelf.run_list(_runs(store or default_path()))))


@app.command
def show(
    run: str,
    /,
    *,
    store: StoreOption = None,
    html_file: Annotated[Path | None, Parameter(name="--html")] = None,
    json_file: Annotated[Path | None, Parameter(name="--json", allow_leading_hyphen=True)] = None,
) -> int:
    """Show a run again, or write its report.

    Parameters
    ----------
    run
        Its id, the first letters of it, or latest; or the file it was written to.
    store
        File that runs are kept in, if not the usual one.
    html_file
        Write a report to this file.
    json_file
        Write all figures to this file; - is standard output, in place of the tables.
    """

    def do() -> None:
        found, records = shelf.find(run, store or default_path())
        if json_file == Path("-"):
            sys.stdout.write(run_to_json(found).decode())
        else:
            shelf.show(found, Console())
            if json_file is not None:
                write_run(found, json_file)
        if html_file is not None:
            write_file(html_file, [page(found, dict(enumerate(records))).encode()])

    return _on_shelf(do)


@app.command
def compare(before: str, after: str, /, *, store: StoreOption = None) -> int:
    """Say what changed from one run to another, and whether that is noise.

    Parameters
    ----------
    before
        A run: its id, the first letters of it, or latest; or the file it was written to.
    after
        Another one.
    store
        File that runs are kept in, if not the usual one.
    """

    def do() -> None:
        path = store or default_path()
        first, first_records = shelf.find(before, path)
        second, second_records = shelf.find(after, path)
        found = compare_runs(first, second, first_records, second_records)
        Console().print(shelf.comparison(found))

    return _on_shelf(do)


@app.command
def workloads() -> int:
    """List the workloads that can be asked for, and how they are changed."""
    return _on_shelf(lambda: Console().print(shelf.workloads()))


def _runs(path: Path) -> list[Run]:
    if not path.exists():
        return []
    with Store(path) as kept:
        return kept.list()


def _on_shelf(do: Callable[[], None]) -> int:
    try:
        do()
    except (StoreError, ExportError) as error:
        print(f"headway: {error}", file=sys.stderr)
        return EXIT_FAILED
    return EXIT_OK
