"""``headway plan machine``: what the machine of a server's own step times keeps. Parsing and wiring."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import msgspec
from cyclopts import Parameter

from headway import __version__
from headway.plan.engines import find_engine
from headway.plan.errors import PlanError
from headway.plan.learned import learned_machine
from headway.plan.load import rate_of, read_demand
from headway.plan.own import OwnQuestion, plan_own
from headway.plan.progress import Shown
from headway.plan.question import GPUS_MAX, ROUTERS, change_of, classes_of
from headway.plan.results import EXIT_INTERRUPTED, EXIT_USAGE, check_outputs, write
from headway.policy.policies import POLICIES

REQUEST_MS_MAX = 10_000.0
SEEDS, REQUESTS, TOLERANCE = 3, 500, 0.08


def machine_command(
    step_times: Path,
    /,
    *,
    workload: str = "chat",
    rate: str | None = None,
    slo: tuple[str, ...] = (),
    cv: float | None = None,
    what_if: tuple[str, ...] = (),
    machines: int = 1,
    policy: str = "headway",
    router: str = ROUTERS[0],
    kv_tokens: int | None = None,
    request_ms: float | None = None,
    json_file: Annotated[Path | None, Parameter(name="--json", allow_leading_hyphen=True)] = None,
    html_file: Annotated[Path | None, Parameter(name="--html")] = None,
    quiet: bool = False,
) -> int:
    """What a machine keeps as its own server came to know it: the rate, its p95s and what binds it.

    Serve on it for a while first: headway serve MODEL --step-times FILE. The server writes the file when it ends.

    Parameters
    ----------
    step_times
        What `headway serve --step-times FILE` wrote when it ended.
    workload
        What is asked for (see `headway plan workloads`).
    rate
        Requests a second in all. Not given: the most that one machine keeps.
    slo
        What a class is promised at p95, in milliseconds: NAME:ttft=300,itl=100,e2e=2000, any of the three.
    cv
        How bursty drawn requests come: coefficient of variation of the gaps. 1 is Poisson.
    what_if
        Try a change: rate=2x, prompt=1.5x, itl=50. May be given several times.
    machines
        Of the same kind, behind a router, at most.
    policy
        How requests are scheduled: headway, vllm, static, aimd or prefill-first.
    router
        How machines are chosen: least-ttft (predicted) or round-robin.
    kv_tokens
        Tokens that the KV cache holds, in place of what the file says.
    request_ms
        What a request takes beside steps (HTTP, tokenising), in milliseconds; the engine's 20 if not given.
    json_file
        Write the plan to this file; - is standard output, in place of the table.
    html_file
        Write a report to this file: one page, for any browser, offline.
    quiet
        No progress.
    """
    try:
        question = _question(
            step_times, workload, rate, slo, cv, what_if, machines, policy, router, kv_tokens, request_ms
        )
        check_outputs(json_file, html_file)
        with Shown(quiet=quiet) as progress:
            found = plan_own(question, progress)
    except (PlanError, OSError) as error:
        print(f"headway: {error}", file=sys.stderr)
        return EXIT_USAGE
    except KeyboardInterrupt:
        print("headway: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    made_at = datetime.now(UTC).isoformat(timespec="seconds")
    return write(msgspec.structs.replace(found, headway=__version__, made_at=made_at), json_file, html_file)


def _question(
    step_times: Path,
    workload: str,
    rate: str | None,
    slo: tuple[str, ...],
    cv: float | None,
    what_if: tuple[str, ...],
    machines: int,
    policy: str,
    router: str,
    kv_tokens: int | None,
    request_ms: float | None,
) -> OwnQuestion:
    if not 1 <= machines <= GPUS_MAX:
        raise PlanError(f"--machines must be 1 to {GPUS_MAX:,}, not {machines}")
    if policy not in POLICIES:
        raise PlanError(f"there is no policy {policy!r}; there are {', '.join(POLICIES)}")
    if router not in ROUTERS:
        raise PlanError(f"--router must be one of {', '.join(ROUTERS)}, not {router!r}")
    if request_ms is not None and not 0.0 <= request_ms <= REQUEST_MS_MAX:
        raise PlanError(f"--request-ms must be 0 to {REQUEST_MS_MAX:,.0f}, not {request_ms:g}")
    machine = learned_machine(step_times, kv_tokens=kv_tokens)
    classes, promised = classes_of(slo)
    asked = None if rate is None else rate_of(rate)
    demand = read_demand(
        workload,
        rate=1.0 if asked is None else asked,
        cv=cv,
        classes=classes,
        promised=promised,
        context=machine.info.context_tokens,
    )
    notes = () if request_ms is not None else ("20 ms of a TTFT are for HTTP and tokenising; --request-ms says yours",)
    return OwnQuestion(
        machine=machine,
        demand=demand,
        rate=asked,
        request_s=find_engine("headway").request_s if request_ms is None else request_ms / 1000,
        policy=policy,
        router=router,
        most=machines,
        seeds=SEEDS,
        requests=REQUESTS,
        tolerance=TOLERANCE,
        changes=tuple(change_of(text) for text in what_if),
        notes=notes,
    )
