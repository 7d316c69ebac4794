"""Comparing CPU servers: how peers are started, and how they are loaded."""

from __future__ import annotations

import argparse
import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest

from benchmarks import cpu, cpu_peers, cpu_servers
from benchmarks.cpu_figures import Figures
from benchmarks.cpu_load import Offered, Point, offer, run_point, traffic
from benchmarks.cpu_peers import Model, entries, parse_peer, read_peers, running
from benchmarks.cpu_probe import Probe, Speeds
from benchmarks.machine import cpu_s, others_s
from headway.bench.call import Call
from headway.bench.launch import end
from headway.models.shapes import shape_config
from headway.policy.slo import CONVERSATIONAL, Objective

TINY = Model("tiny", "random:tiny", None, shape_config("tiny"))


# ---- servers ---------------------------------------------------------------------------------------------------------


def test_a_command_gets_its_port_checkpoint_and_shape(tmp_path: Path) -> None:
    entry = parse_peer("other-bf16=env A=1 serve '{checkpoint}/m.bin' --port {port} -t {threads} --name {shape}")
    model = Model("tiny", str(tmp_path), tmp_path, TINY.config)
    words = ["env", "A=1", "serve", f"{tmp_path}/m.bin", "--port", "81", "-t", "2", "--name", "tiny"]
    assert entry.words(model, 81, 2) == words


def test_a_command_with_a_checkpoint_needs_one() -> None:
    with pytest.raises(ValueError, match="--checkpoint tiny=FOLDER"):
        parse_peer("other-bf16=serve {checkpoint} {port}").words(TINY, 81, 2)


@pytest.mark.parametrize(
    "text", ["other-bf16", "=x {port}", "other-bf16=serve", "other-bf16=x {port} {home}", "other=x {port}"]
)
def test_what_is_no_peer_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"a peer is NAME=COMMAND|a command has|a name ends in its precision"):
        parse_peer(text)


def test_peers_are_read_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "peers").write_text("# of this machine\n\nllama.cpp-q8_0 = serve {port}\n")
    (entry,) = read_peers(tmp_path / "peers")
    assert (entry.name, entry.command, entry.precision) == ("llama.cpp-q8_0", "serve {port}", "int8")


def parsed(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    cpu.add_arguments(parser)
    return parser.parse_args(words)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--dtype", "int4"), "--dtype: there is no int4"),
        (("--peers", "/nonexistent"), "--peers: .*nonexistent"),
        (("--threads", "0"), "--threads: a server needs at least one"),
    ],
)
def test_what_can_not_be_meant_is_refused_in_one_line(words: tuple[str, ...], said: str) -> None:
    """A precision that there is not, and no threads, ended in a traceback."""
    with pytest.raises(SystemExit, match=said):
        cpu.run(parsed(*words, "--quick"))


def test_servers_can_be_picked_and_a_strange_one_is_named() -> None:
    peer = ("--peer", "vllm-bf16=x {port}")
    assert [each.name for each in entries(parsed(*peer))] == ["headway-bf16", "headway-int8", "vllm-bf16"]
    assert [each.name for each in entries(parsed(*peer, "--servers", "vllm-bf16"))] == ["vllm-bf16"]
    with pytest.raises(SystemExit, match="there is no sglang"):
        entries(parsed("--servers", "sglang"))


def test_a_peer_that_does_not_start_is_left_out_with_its_reason(tmp_path: Path) -> None:
    arguments = parsed()
    figures: Figures = {}
    known = [
        parse_peer("gone-bf16=/nowhere/serve {port}"),
        parse_peer(f"over-bf16={sys.executable} -c 'raise SystemExit(3)' {{port}}"),
        parse_peer("late-bf16=x {port} {checkpoint}"),
    ]
    with contextlib.ExitStack() as stack:
        assert cpu.start(stack, known, TINY, arguments, figures) == {}
    assert "/nowhere/serve could not be started" in str(figures["tiny_gone-bf16_left_out"])
    assert "ended with status 3" in str(figures["tiny_over-bf16_left_out"])
    assert "--checkpoint tiny=FOLDER" in str(figures["tiny_late-bf16_left_out"])


PARENT = """
import subprocess, sys
from http.server import BaseHTTPRequestHandler, HTTPServer
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
open(sys.argv[2], "w").write(str(child.pid))
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


def test_nothing_is_left_of_a_peer_that_does_not_end_its_own_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpu_peers, "END_S", 0.5)
    program, child = tmp_path / "server.py", tmp_path / "child"
    program.write_text(PARENT)
    entry = parse_peer(f"other-bf16={sys.executable} {program} {{port}} {child}")
    with running(entry, TINY, threads=1, kv_tokens=64, logs=tmp_path) as server:
        assert server.process.poll() is None
    left = psutil.pid_exists(pid := int(child.read_text())) and psutil.Process(pid).status()
    assert left in (False, psutil.STATUS_ZOMBIE)


# ---- loads -----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def paced(first_s: float) -> Iterator[int]:
    """A server with a token every 5 ms; its port."""
    command = [sys.executable, "-m", "benchmarks.stream_server", "--gap", "0.005", "--first", str(first_s)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield int(process.stdout.readline())
    finally:
        end(process)
        process.stdout.close()


def test_a_closed_loop_counts_tokens_and_events() -> None:
    point = Point(streams=2, prompt_tokens=4, output_tokens=6, requests=5)
    with paced(0.05) as port:
        values = run_point(port, point, point.calls(500, 1, has_promises=False))
    assert values["events_per_token"] == 1.0
    assert values["ttft_ms"] >= 50.0
    assert 0.0 < values["output_tok_s"] <= 2 * 6 / 0.05


def test_no_two_prompts_are_alike_and_all_servers_get_the_same() -> None:
    point, other = (Point(streams=each, prompt_tokens=8, output_tokens=2, requests=4) for each in (1, 2))
    calls = [*point.calls(500, 1, has_promises=True), *other.calls(500, 1, has_promises=True)]
    assert len({each.prompt for each in calls}) == 8
    assert [each.prompt for each in point.calls(500, 1, has_promises=False)] == [each.prompt for each in calls[:4]]
    assert all(float(each.headers["x-slo-ttft-ms"]) > 1e6 for each in calls)  # so that none is refused


@pytest.mark.parametrize(("whole", "is_whole"), [(False, False), (True, True)])
def test_a_window_that_is_lost_ends_early_unless_goodput_is_asked_for(whole: bool, is_whole: bool) -> None:
    objective = Objective(ttft_s=0.05, itl_s=1.0)
    calls = traffic(500, objective, has_promises=False).schedule("poisson", 20.0, 1.5, 1)
    with paced(0.1) as port:
        offered = offer(port, 20.0, calls, objective, 1.5, whole=whole)
    assert offered.is_whole is is_whole
    assert not offered.is_kept
    assert (offered.verdict.offered == len(calls)) is is_whole


def test_a_window_that_is_kept_goes_to_its_end() -> None:
    objective = Objective(ttft_s=5.0, itl_s=5.0)
    calls = traffic(500, objective, has_promises=False).schedule("poisson", 20.0, 1.0, 1)
    with paced(0.0) as port:
        offered = offer(port, 20.0, calls, objective, 1.0, whole=False)
    assert offered.is_kept
    assert offered.verdict.in_slo == len(calls)


def test_only_who_keeps_promises_is_told_which() -> None:
    told, untold = (traffic(500, CONVERSATIONAL.objective, has_promises=each) for each in (True, False))
    assert (told.tier, told.headers) == ("priority", {"x-slo-ttft-ms": "300", "x-slo-itl-ms": "100"})
    assert (untold.tier, untold.headers) == (None, {})


# ---- the machine -----------------------------------------------------------------------------------------------------


def test_what_else_the_machine_does_is_seen_beside_a_busy_server() -> None:
    """A server's time was taken off twice, as it is a child of the benchmark: "others 0.00 cores" on a machine that
    was full of them."""
    busy = [sys.executable, "-c", "while True: pass"]
    server, other = subprocess.Popen(busy), subprocess.Popen(busy)
    try:
        before_s, other_before_s = others_s(server.pid), cpu_s(other.pid)
        while (other_took_s := cpu_s(other.pid) - other_before_s) < 0.5:
            time.sleep(0.05)
        assert others_s(server.pid) - before_s >= 0.8 * other_took_s
    finally:
        end(server)
        end(other)


# ---- all of it -------------------------------------------------------------------------------------------------------


class Steady(Probe):
    """A machine that is always equally fast, and doesn't take a second to say so."""

    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        self.name = "steady"

    def speeds(self) -> Speeds:
        return Speeds(36.0, 460.0, 930.0)

    def measure_products(self) -> None:
        pass

    def reached(self) -> dict[str, float]:
        return {"bf16": 0.9, "int8": 0.85}


LEAVING = """
import os, sys
from http.server import BaseHTTPRequestHandler, HTTPServer
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
    def do_POST(self):
        os._exit(3)
HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


@pytest.fixture
def paced_and_leaving(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What a comparison of two servers is given: one is paced, the other goes when it is first asked for anything."""
    monkeypatch.setattr(cpu, "Probe", Steady)
    (tmp_path / "leaving.py").write_text(LEAVING)
    python = sys.executable
    return [
        *("--peer", f"paced-bf16={python} -m benchmarks.stream_server --gap 0.002 --first 0.01 --port {{port}}"),
        *("--peer", f"leaving-bf16={python} {tmp_path / 'leaving.py'} {{port}}"),
        *("--servers", "paced-bf16,leaving-bf16", "--shapes", "tiny", "--singles", "1", "--streams", "4"),
        *("--seconds", "0.5", "--windows", "2"),
    ]


def test_servers_are_compared_and_one_that_goes_is_left_out(paced_and_leaving: list[str]) -> None:
    figures = cpu.run(parsed(*paced_and_leaving, "--rounds", "2"))
    paced = {key.removeprefix("tiny_paced-bf16_"): value for key, value in figures.items()}
    least = {"ttft_ms_128x1": 10.0, "output_tok_s_128x4": 100.0, "capacity_requests_s": 0.1, "rss_mb": 1.0}
    assert all(float(str(paced[name])) >= value for name, value in least.items())
    assert len(str(paced["capacity_rounds"]).split(",")) == 2
    assert "tiny_leaving-bf16_failed" in figures
    assert "tiny_leaving-bf16_ttft_ms_128x1" not in figures
    assert "ended" not in figures


def test_no_window_has_a_prompt_of_another(paced_and_leaving: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """All windows of a search had the same prompts. Servers that keep what they have seen were measured on cached ones:
    vLLM answered in 272 ms where a prompt took it 400."""
    seen: list[str | tuple[int, ...]] = []

    def look(port: int, rate: float, calls: Sequence[Call], *rest: Any, **named: Any) -> Offered:
        seen.extend(call.prompt for call in calls)
        return offer(port, rate, calls, *rest, **named)

    monkeypatch.setattr(cpu_servers, "offer", look)
    cpu.run(parsed(*paced_and_leaving, "--servers", "paced-bf16", "--phases", "capacity", "--rounds", "2"))
    assert len(seen) > 8
    assert len(set(seen)) == len(seen)


@pytest.mark.parametrize("minutes", ["0", "0.02"])
def test_a_run_that_has_no_more_time_says_so(paced_and_leaving: list[str], minutes: str) -> None:
    """Where the time was up in a first search before anything was kept, there were no figures at all."""
    figures = cpu.run(parsed(*paced_and_leaving, "--minutes", minutes, "--phases", "capacity", "--rounds", "50"))
    assert figures["ended"] == f"after {minutes} minutes, on tiny"
