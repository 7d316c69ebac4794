"""``headway tune``: find the best operating point of a server within a promise. Parsing and wiring.

Exit codes are those of ``headway bench``.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from cyclopts import App, Group, Parameter

from headway.bench.given import CALLS, PROMISE, RESULTS, SERVER, check_outputs, key_of, objectives_of, seed_of
from headway.bench.loads import CONCURRENCY_MAX, ClosedLoop
from headway.bench.session import EXIT_USAGE, Session
from headway.bench.store import default_path
from headway.bench.target import Api, Target
from headway.tune.admin import Admin
from headway.tune.engines import FILLED_IN
from headway.tune.knobs import TOKENS_MAX, TOKENS_MIN
from headway.tune.procedure import SECONDS_MIN, Plan
from headway.tune.process import placeholders
from headway.tune.session import Asked, run_tune

ADMIN_KEY_VARIABLE = "HEADWAY_ADMIN_KEY"

_SEARCH = Group("Search", sort_key=2)

app = App(
    name="tune",
    help="Find the best operating point of a server within a promise: batch size, rate, and what binds.",
    default_parameter=Parameter(negative=()),
)


@app.default
def tune(
    url: Annotated[str, Parameter(group=SERVER)],
    /,
    *,
    model: Annotated[str | None, Parameter(group=SERVER)] = None,
    api: Annotated[Api, Parameter(group=SERVER)] = "chat",
    key_file: Annotated[Path | None, Parameter(group=SERVER)] = None,
    command: Annotated[str | None, Parameter(group=SERVER)] = None,
    admin_url: Annotated[str | None, Parameter(group=SERVER)] = None,
    admin_key_file: Annotated[Path | None, Parameter(group=SERVER)] = None,
    timeout_s: Annotated[float, Parameter(group=SERVER)] = 120.0,
    max_batch: Annotated[int, Parameter(group=_SEARCH)] = 512,
    tokens: Annotated[int | None, Parameter(group=_SEARCH)] = None,
    probes: Annotated[int, Parameter(group=_SEARCH)] = 12,
    seconds: Annotated[float, Parameter(group=_SEARCH)] = 60.0,
    minutes: Annotated[float, Parameter(group=_SEARCH)] = 60.0,
    no_rate: Annotated[bool, Parameter(group=_SEARCH)] = False,
    no_compare: Annotated[bool, Parameter(group=_SEARCH)] = False,
    processes: Annotated[int | None, Parameter(group=_SEARCH)] = None,
    workload: Annotated[str | None, Parameter(group=CALLS)] = None,
    tokenizer: Annotated[str, Parameter(group=CALLS)] = "auto",
    seed: Annotated[int | None, Parameter(group=CALLS)] = None,
    ttft: Annotated[float | None, Parameter(group=PROMISE)] = None,
    itl: Annotated[float | None, Parameter(group=PROMISE)] = None,
    e2e: Annotated[float | None, Parameter(group=PROMISE)] = None,
    service_class: Annotated[str, Parameter(name="--class", group=PROMISE)] = "conversational",
    slo: Annotated[tuple[str, ...], Parameter(group=PROMISE)] = (),
    json_file: Annotated[Path | None, Parameter(name="--json", group=RESULTS, allow_leading_hyphen=True)] = None,
    html_file: Annotated[Path | None, Parameter(name="--html", group=RESULTS)] = None,
    store: Annotated[str | None, Parameter(group=RESULTS)] = None,
    note: Annotated[str, Parameter(group=RESULTS)] = "",
    quiet: Annotated[bool, Parameter(group=RESULTS)] = False,
) -> int:
    """Find the best operating point of a server within a promise.

    First the largest batch at which p95 of TTFT, ITL and end to end keep to their targets: batch 1, then up in steps
    of 2, of 4, doubling, and in between. Then the largest rate of requests at which 95 % are in SLO, what binds, and a
    ready configuration. With --class batch nothing is promised: the batch from which more brings no more tokens.

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
    command
        How the server is started. It is, anew for each point: "vllm serve MODEL --max-num-seqs {batch}", and with
        "--max-num-batched-tokens {tokens}" these are searched as well. {port} is the URL's.
    admin_url
        A Headway's admin endpoint (http://127.0.0.1:PORT): its caps are changed while it runs, and put back.
    admin_key_file
        File with the admin key alone. The variable HEADWAY_ADMIN_KEY does the same.
    timeout_s
        After so long a request is given up, and is a miss.
    max_batch
        The largest batch to try.
    tokens
        Tokens in a step to begin with, where they can be set: then they are searched too. With {tokens} 2048 if not
        given.
    probes
        How many runs each search may take.
    seconds
        The longest a probe may take. Requests that live long may need more.
    minutes
        The longest all of it may take; what was found until then is kept.
    no_rate
        Leave out the search for the rate.
    no_compare
        Leave out the comparison of Headway's adaptive policy with static batches.
    processes
        Load generator processes; by the cores if not given.
    workload
        What is asked for: a name or a specification, see `headway bench workloads`. If not given: chat, or short if
        the server's context is too small for that.
    tokenizer
        What counts tokens: auto, server (its /tokenize), bundled, or a tokenizer.json.
    seed
        The same seed makes the same requests; each probe has prompts of its own. Another one each time if not given.
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
        Write everything but single requests to this file; - is standard output.
    html_file
        Write a report to this file: one page, for any browser, offline.
    store
        Where runs are kept, as those of `headway bench` are; none: nowhere.
    note
        Kept with the run.
    quiet
        No progress.
    """
    try:
        if command is not None and admin_url is not None:
            raise ValueError("give --command (the server is started anew) or --admin-url (it goes on), not both")
        check_outputs({"--json": json_file, "--html": html_file})
        plan = _plan(max_batch, probes, seconds, minutes, _tokens(command, admin_url, tokens))
        asked = Asked(
            session=Session(
                target=Target.at(url, api=api, model=model or "", key=key_of(key_file)),
                workload=workload,
                tokenizer=tokenizer,
                loads=(ClosedLoop(concurrency=max_batch, seconds=seconds),),
                objectives=objectives_of(service_class, slo, {"ttft": ttft, "itl": itl, "e2e": e2e}),
                default_class=service_class,
                seed=seed_of(seed),
                processes=processes,
                timeout_s=timeout_s,
                note=note,
            ),
            plan=replace(plan, finds_rate=not no_rate, compares=not no_compare),
            command=command,
            admin=_admin(admin_url, admin_key_file),
            json=json_file,
            html=html_file,
            store=None if store == "none" else Path(store) if store else default_path(),
        )
    except ValueError as error:
        print(f"headway: {error}", file=sys.stderr)
        return EXIT_USAGE
    return run_tune(asked, quiet=quiet)


TOKENS_FIRST = 2048
"""Where the search for tokens in a step begins if nobody says: vLLM's own default."""


def _plan(max_batch: int, probes: int, seconds: float, minutes: float, tokens: int | None) -> Plan:
    for name, value, least, most in (
        ("max-batch", max_batch, 1, CONCURRENCY_MAX),
        ("probes", probes, 1, 100),
        ("seconds", seconds, SECONDS_MIN, 3600),
        ("minutes", minutes, 0.1, 10_000),
    ):
        if not least <= value <= most:
            raise ValueError(f"--{name} must be {least:g} to {most:g}, not {value:g}")
    return Plan(most=max_batch, probes=probes, seconds=seconds, minutes=minutes, tokens=tokens)


def _tokens(command: str | None, admin_url: str | None, tokens: int | None) -> int | None:
    """Where to begin; None: they are not searched."""
    if tokens is not None and not TOKENS_MIN <= tokens <= TOKENS_MAX:
        raise ValueError(f"--tokens must be {TOKENS_MIN} to {TOKENS_MAX}, not {tokens}")
    if command is None:
        if tokens is not None and admin_url is None:
            raise ValueError("--tokens needs a server that can be told: --command with {tokens} in it, or --admin-url")
        return tokens
    names = placeholders(command, FILLED_IN)
    if "batch" not in names and "tokens" not in names:
        raise ValueError("--command has nothing to be tuned in it: write {batch} where its batch size goes")
    if "tokens" not in names:
        if tokens is not None:
            raise ValueError("--tokens needs {tokens} in --command")
        return None
    return tokens or TOKENS_FIRST


def _admin(url: str | None, key_file: Path | None) -> Admin | None:
    if url is None:
        return None
    key = key_of(key_file, ADMIN_KEY_VARIABLE)
    if key is None:
        raise ValueError(f"--admin-url needs a key: --admin-key-file, or the variable {ADMIN_KEY_VARIABLE}")
    return Admin(url, key)
