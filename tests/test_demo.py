"""The demo: what its table says, and that it comes to its end."""

from __future__ import annotations

import asyncio
import io
import subprocess
import sys
from dataclasses import replace

import pytest
from rich.console import Console

from headway.bench.verdict import Quantiles, Verdict
from headway.demo import Ports, _cells, _show_loads
from tests.bench.scripted_server import Asked, error, scripted_server, whole

TIMEOUT_S = 120.0


def verdict(in_slo: int, failed: int, p95_s: float) -> Verdict:
    some = Quantiles(100, 0.1, p95_s)
    return Verdict(
        seconds=2.0,
        offered=100,
        admitted=100,
        refused=0,
        refused_late=0,
        failed=failed,
        in_slo=in_slo,
        output_tokens=1000,
        ttft=some,
        itl=some,
    )


def test_a_cell_says_how_bad_it_is() -> None:
    assert _cells(verdict(95, 0, 0.2124)) == ("[green]95 %[/]", "212 ms")
    assert _cells(verdict(80, 0, 1.04)) == ("[yellow]80 %[/]", "1.0 s")
    assert _cells(verdict(3, 1, 4.0)) == ("[red]3 %[/]", "> 4.0 s")
    nobody_taken_in = replace(verdict(0, 0, 0.0), admitted=0, refused=100)
    assert _cells(nobody_taken_in) == ("–", "–")  # a busy machine had "100 %" and "0 ms" here


def test_the_table_sets_the_two_side_by_side() -> None:
    """A server that answers nobody, and one that answers every other chat and refuses the rest."""
    turns = iter(range(10_000))

    async def silent(asked: Asked) -> None:
        await asyncio.Event().wait()

    async def choosy(asked: Asked) -> None:
        await asked.send(whole("a", "b") if next(turns) % 2 else error(429, "busy", "retry-after: 1"))

    async def run(console: Console) -> None:
        async with scripted_server(silent) as without, scripted_server(choosy) as promised:
            ports = Ports(without.port, promised.port)
            await asyncio.wait_for(_show_loads(console, ports, 60.0, seconds=0.1, drain_s=0.05), TIMEOUT_S)

    console = Console(record=True, width=100, file=io.StringIO())
    asyncio.run(run(console))
    text = console.export_text()
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in text.splitlines() if "chats/s" in line]
    assert [row[0] for row in rows] == ["0.5x: 30 chats/s", "1x: 60 chats/s", "3x: 180 chats/s"]
    assert {row[1] for row in rows[1:]} == {"0 %"}
    assert all(row[2].startswith("> ") for row in rows[1:])
    assert "100 %" in {row[3] for row in rows}
    assert rows[-1][5].removesuffix(" %").isdigit()
    assert "At 3x what the machine can carry, chats in time a second: 0 without a promise" in text


@pytest.mark.slow
def test_the_demo_runs_to_its_end() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "headway.cli", "demo"], capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "Tell me a story about a fox." in done.stdout
    rows = [line for line in done.stdout.splitlines() if "chats/s │" in line]
    assert [row.split("│")[1].split(":")[0].strip() for row in rows] == ["0.5x", "1x", "3x"]
    assert "serve" in done.stdout.splitlines()[-4]
