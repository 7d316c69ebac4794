"""``headway demo``: a real server, a real chat, and traffic that outgrows the machine with and without a promise.

Under a minute, nothing staged: both servers run the same model on this machine, are offered the same chats at the same
times, and are measured over HTTP. They differ in ``--policy`` alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import sys
from dataclasses import dataclass, replace

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from headway.bench.body import PLAIN
from headway.bench.call import Call
from headway.bench.capacity import CapacityError, Level, find_capacity
from headway.bench.generate import Options, run_load
from headway.bench.launch import HOST, LaunchError, RunningServer, headway_server
from headway.bench.loads import OpenLoop
from headway.bench.record import Record
from headway.bench.sender import ReplyError, Sender
from headway.bench.statistics import nearest_rank
from headway.bench.target import Target
from headway.bench.verdict import Quantiles, Verdict, judge
from headway.policy.slo import BATCH, CONVERSATIONAL, Objective
from headway.serve.lifecycle import loop_factory

MODEL = "headway-demo"
WITHOUT, WITH = "vllm", "headway"
"""The two policies: one that takes in all that fits, as most servers do, and the one that keeps promises."""
PROMISE = Objective(ttft_s=0.3, itl_s=0.05)
"""Tight enough for a tiny model to be able to break it."""
LOADS = (0.5, 1.0, 3.0)
LEVEL_S = 4.0
DRAIN_S = 2.5
SOCKETS_MAX = 4096
"""More than ever wait at once: without a promise everybody does."""
SLIP_MAX_S = 0.05
"""If chats were sent later than this, the figures are about the client as well, and the demo says so."""
ENGINE_THREADS = 1
"""More hardly help so small a model, and they would take the processor from the clients, which run here as well."""
CAPACITY_S = 1.5
CAPACITY_FIRST_STREAMS = 16
STORY_TOKENS_MAX = 200
CHAT_TOKENS_MAX = 96
"""Long enough that the engine is what is short, and not the processor time that clients and refusals take."""
TIMEOUT_S = 120.0
"""Then something is stuck."""
QUESTIONS = tuple(
    f"Tell me a story about {who}."
    for who in (
        *("a fox", "a brave mouse", "an owl", "a small bear", "a clever crow", "a hedgehog", "a rabbit", "an otter"),
        *("a lost sheep", "a tired horse", "a cat", "a frog"),
    )
)


@dataclass(frozen=True, slots=True)
class Ports:
    """Where the two servers listen."""

    without: int
    promised: int


def run(console: Console | None = None) -> int:
    """Run the demo; returns the exit code."""
    console = console or Console()
    console.print("[bold]Headway demo[/]: the bundled model, on this machine, over the OpenAI API.\n")
    try:
        with contextlib.ExitStack() as stack:
            with console.status("Starting two servers ..."):
                without = stack.enter_context(_server(WITHOUT))
                promised = stack.enter_context(_server(WITH))
            console.print(f"Ready after {without.ready_s + promised.ready_s:.1f} s.\n")
            with asyncio.Runner(loop_factory=loop_factory()) as runner:
                runner.run(asyncio.wait_for(_show(console, Ports(without.port, promised.port)), TIMEOUT_S))
    except (LaunchError, ReplyError, CapacityError, OSError, ExceptionGroup) as error:  # TimeoutError is an OSError
        console.print(f"[red]The demo stopped:[/] {str(error) or 'the server no longer answers'}")
        return 1
    _say_how_to_go_on(console)
    return 0


async def _show(console: Console, ports: Ports) -> None:
    await _show_chats(console, ports.promised)
    capacity = await _find_capacity(console, ports)
    await _show_loads(console, ports, capacity)


async def _show_chats(console: Console, port: int) -> None:
    """Four chats at once; one of them is shown while it is written."""
    question = QUESTIONS[0]
    answer = Text()
    async with Sender(_target(port), PLAIN) as sender, asyncio.TaskGroup() as group:
        for index in (3, 4, 8):
            group.create_task(sender.ask(_story(index)))
        with Live(console=console, refresh_per_second=20) as live:

            def show(text: str) -> None:
                answer.append(text)
                live.update(
                    Panel(answer, title=f"> {question}", title_align="left", subtitle="three other chats run beside it")
                )

            record = await sender.ask(_story(0), on_text=show)
    gap_s = Quantiles.of(list(record.gaps_s())).p50_s
    console.print(
        f"\nFirst token after {1000 * (record.ttft_s or 0.0):.0f} ms, then one every {1000 * gap_s:.0f} ms.\n"
    )


async def _find_capacity(console: Console, ports: Ports) -> float:
    """Chats a second that the machine carries within the promise; measured on the server that takes in everything."""
    with console.status("How much can this machine carry? More chats at once, until the promise breaks ...") as status:

        def say(level: Level) -> None:
            status.update(f"How much can this machine carry? {level.streams} at once: {level.requests_per_s:.0f}/s ...")

        return await find_capacity(
            _target(ports.without),
            map(_chat, itertools.count()),
            PROMISE,
            seconds=CAPACITY_S,
            first_streams=CAPACITY_FIRST_STREAMS,
            dialect=PLAIN,
            on_level=say,
        )


async def _show_loads(
    console: Console, ports: Ports, capacity: float, *, seconds: float = LEVEL_S, drain_s: float = DRAIN_S
) -> None:
    """The table: a row for each load, each row offered to both servers, one after the other."""
    table = _table()
    slip_s = 0.0
    with Live(console=console, refresh_per_second=4) as live:
        for place, load in enumerate(LOADS):
            rate = load * capacity
            name = f"{load:g}x: {rate:.0f} chats/s"
            chats = OpenLoop(rate=rate, seconds=seconds, in_flight_max=SOCKETS_MAX)
            options = Options(dialect=PLAIN, seed=place, drain_s=drain_s)
            verdicts: list[Verdict] = []
            for port, server in ((ports.without, "without a promise"), (ports.promised, "with the promise")):
                live.update(Group(table, Text(f"{name} to the server {server} ...", style="dim")))
                records: list[Record] = []
                calls = map(_chat, itertools.count())
                await run_load(
                    _target(port), calls, chats, on_record=records.append, stop=asyncio.Event(), options=options
                )
                verdicts.append(judge(records, PROMISE, seconds))
                slip_s = max(slip_s, nearest_rank(sorted([0.0, *(each.slip_s for each in records)]), 0.99))
            without, promised = verdicts
            table.add_row(name, *_cells(without), *_cells(promised), _percent(promised.refused, promised.offered))
        live.update(table)
    console.print(
        "\n[dim]in time: of the chats that were taken in, those that were whole and kept to the promise. p95 wait: 95 "
        "% had their first token by then (> if some had none when the run ended). refused: told at once when to come "
        "back.[/]"
    )
    if slip_s > SLIP_MAX_S:
        console.print(
            f"[yellow]The machine was busy: chats were sent up to {1000 * slip_s:.0f} ms late, which counts.[/]"
        )
    console.print(
        f"\nAt {LOADS[-1]:g}x what the machine can carry, chats in time a second: "
        f"[bold red]{without.goodput:.0f}[/] without a promise, [bold green]{promised.goodput:.0f}[/] with it.\n"
    )


def _target(port: int) -> Target:
    return Target(host=HOST, port=port, model=MODEL)


def _story(number: int) -> Call:
    """A longer chat that nothing is promised to, so that it is never refused."""
    return replace(_chat(number), max_tokens=STORY_TOKENS_MAX, tier=BATCH.tiers[0])


def _chat(number: int) -> Call:
    return Call(
        prompt=QUESTIONS[number % len(QUESTIONS)],
        max_tokens=CHAT_TOKENS_MAX,
        exact_output=False,
        tier=CONVERSATIONAL.tiers[0],
        extra={"temperature": 0.7, "seed": number},
    )


def _table() -> Table:
    ttft_ms, itl_ms = 1000 * (PROMISE.ttft_s or 0.0), 1000 * (PROMISE.itl_s or 0.0)
    table = Table(title=f"Promise: the first token within {ttft_ms:.0f} ms, then one every {itl_ms:.0f} ms or sooner")
    table.add_column("load", justify="right")
    for heading in ("without:\nin time", "without:\np95 wait", "with:\nin time", "with:\np95 wait", "with:\nrefused"):
        table.add_column(heading, justify="right")
    return table


def _server(policy: str) -> contextlib.AbstractContextManager[RunningServer]:
    ttft_ms, itl_ms = 1000 * (PROMISE.ttft_s or 0.0), 1000 * (PROMISE.itl_s or 0.0)
    slo = f"{CONVERSATIONAL.name}:ttft={ttft_ms:g},itl={itl_ms:g}"
    return headway_server("--quiet", "--policy", policy, "--slo", slo, "--threads", str(ENGINE_THREADS))


def _cells(verdict: Verdict) -> tuple[str, str]:
    if not verdict.admitted:
        return "–", "–"
    kept = verdict.attainment_admitted
    colour = "green" if kept >= 0.95 else "yellow" if kept >= 0.8 else "red"
    wait_s = verdict.ttft.p95_s
    wait = f"{wait_s:.1f} s" if wait_s >= 1.0 else f"{1000 * wait_s:.0f} ms"
    return f"[{colour}]{100 * kept:.0f} %[/]", f"{'> ' if verdict.failed else ''}{wait}"


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / max(1, whole):.0f} %"


def _say_how_to_go_on(console: Console) -> None:
    headway = sys.argv[0] if sys.argv[0].endswith("headway") else "headway"
    console.print("[bold]Go on yourself:[/]")
    for line in (
        f"{headway} serve                       this model, on http://127.0.0.1:8000",
        f"{headway} serve DIRECTORY_OR_HUB_ID   your own",
        "curl http://127.0.0.1:8000/v1/chat/completions -H 'Content-Type: application/json' \\\n"
        '    -d \'{"model": "headway-demo", "messages": [{"role": "user", "content": "Tell me a joke."}]}\'',
        'openai.OpenAI(base_url="http://127.0.0.1:8000/v1", api_key="-")   the official Python client',
    ):
        console.print(f"  {line}", highlight=False, markup=False, soft_wrap=True)
