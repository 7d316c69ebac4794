"""``headway demo``: a real server, real chats, and what company costs, in under a minute."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time

from rich.console import Console
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from headway.bench.client import StreamError, Timing, closed_loop, percentile, stream
from headway.bench.launch import HOST, LaunchError, headway_server

CHAT = "/v1/chat/completions"
CONCURRENCY = (1, 4, 16, 64)
STORY_TOKENS_MAX = 200
LEVEL_TOKENS_MAX = 48
TIMEOUT_S = 120.0
"""Then something is stuck."""
QUESTIONS = (
    "Tell me a story about a fox.",
    "What is latency?",
    "What do elephants eat?",
    "Write a poem about the sea.",
    "How do I make pancakes?",
    "What is the capital of Norway?",
    "Tell me about owls.",
    "What is a queue?",
    "Tell me a story about a brave mouse.",
    "What happens in autumn?",
    "Write a haiku about trains.",
    "What is the opposite of warm?",
)


def run(console: Console | None = None) -> int:
    """Run the demo; returns the exit code."""
    console = console or Console()
    console.print("[bold]Headway demo[/]: the bundled model, on this machine, over the OpenAI API.\n")
    try:
        with contextlib.ExitStack() as stack:
            with console.status("Starting a server ..."):
                server = stack.enter_context(headway_server("--quiet"))
            console.print(f"Ready after {server.ready_s:.1f} s.\n")
            asyncio.run(asyncio.wait_for(_show(console, server.port), TIMEOUT_S))
    except (LaunchError, StreamError, OSError, ExceptionGroup) as error:  # TimeoutError is an OSError
        console.print(f"[red]The demo stopped:[/] {str(error) or 'the server no longer answers'}")
        return 1
    _say_how_to_go_on(console)
    return 0


async def _show(console: Console, port: int) -> None:
    await _show_chats(console, port)
    table = Table(title="What company costs: the same chats, more of them at once")
    for heading in ("chats at once", "TTFT p50", "TTFT p95", "ITL p50", "ITL p95", "output tokens/s"):
        table.add_column(heading, justify="right")
    with Live(table, console=console, refresh_per_second=4):
        for concurrency in CONCURRENCY:
            requests = max(3 * concurrency, 16)
            started_s = time.perf_counter()
            timings = await closed_loop(HOST, port, CHAT, [_chat(i) for i in range(requests)], concurrency)
            table.add_row(str(concurrency), *_row(timings, time.perf_counter() - started_s))
    console.print(
        "\n[dim]TTFT: from sending a request to its first token. ITL: between two tokens of one answer.\n"
        "The right-hand column grows while the others get worse: that is the trade-off Headway exists for.[/]\n"
    )


async def _show_chats(console: Console, port: int) -> None:
    """Four chats at once; one of them is shown while it is written."""
    question = QUESTIONS[0]
    answer = Text()
    async with asyncio.TaskGroup() as group:
        for index in (3, 4, 8):
            group.create_task(stream(HOST, port, CHAT, _chat(index, STORY_TOKENS_MAX)))
        with Live(console=console, refresh_per_second=20) as live:

            def show(text: str) -> None:
                answer.append(text)
                live.update(
                    Panel(answer, title=f"> {question}", title_align="left", subtitle="three other chats run beside it")
                )

            timing = await stream(HOST, port, CHAT, _chat(0, STORY_TOKENS_MAX), show)
    gaps = timing.gaps_s or [0.0]
    console.print(
        f"\nFirst token after {1000 * timing.ttft_s:.0f} ms, then one every {1000 * percentile(gaps, 0.5):.0f} ms.\n"
    )


def _chat(index: int, max_tokens: int = LEVEL_TOKENS_MAX) -> dict[str, object]:
    question = QUESTIONS[index % len(QUESTIONS)]
    return {
        "model": "headway-demo",
        "messages": [{"role": "user", "content": question}],
        "max_tokens": max_tokens,
        "temperature": 0.7,
        "seed": index,
    }


def _row(timings: list[Timing], elapsed_s: float) -> list[str]:
    ttft = [each.ttft_s for each in timings]
    gaps = [gap for each in timings for gap in each.gaps_s] or [0.0]
    values = [percentile(ttft, 0.5), percentile(ttft, 0.95), percentile(gaps, 0.5), percentile(gaps, 0.95)]
    tokens = sum(len(each.tokens_s) for each in timings)
    return [*(f"{1000 * value:.0f} ms" for value in values), f"{tokens / elapsed_s:.0f}"]


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
