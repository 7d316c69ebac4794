"""A modelled machine behind a real server: what it takes for an engine, how long its steps last, what it says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from headway.bench.launch import headway_server
from headway.cli import main
from headway.policy.plan import Chunk, Draw, ExecutorLost, StepPlan
from headway.policy.policies import build
from headway.policy.sampling import GREEDY, SamplingParams
from headway.policy.stepshape import StepShape
from headway.policy.steptime import StepTimeModel
from headway.sim.hardware import HARDWARE
from headway.sim_engine.answers import Answers
from headway.sim_engine.engine import SimulatedEngine
from headway.sim_engine.executor import SimulatedExecutor
from headway.sim_engine.machine import parse_machine
from headway.sim_engine.record import read_hardware
from tests.http_client import Connection
from tests.running_server import MODEL, running_server

ENGINE = "sim:cpu-smollm2-135m"
RECORD = """
name = "desk"
description = "a desk with a model on it"
kv_tokens = 4096
context_tokens = 1024
block_size = 16

[linear]
constant_s = 0.004
token_s = 0.0001
sequence_s = 0.0
decode_context_s = 0.0
prefill_read_s = 0.0
"""


@pytest.fixture(scope="module")
def simulated() -> SimulatedEngine:
    return SimulatedEngine.parse(f"{ENGINE},speed=20")


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def decode(request_id: str, start: int, params: SamplingParams = GREEDY, output_index: int = 1, last: int = 7) -> Chunk:
    return Chunk(request_id, start, (last,), (0,), Draw(params, output_index, start))


def record(tmp_path: Path, change: Callable[[str], str] = str) -> Path:
    path = tmp_path / "desk.toml"
    path.write_text(change(RECORD))
    return path


# What an operator says.


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--engine", "torch"], "engine must be sim:MACHINE"),
        (["--engine", "sim:abacus"], "there is no machine 'abacus'; there are h100-llama-8b"),
        (["--engine", f"{ENGINE},sped=2"], "'sped=2' is not one of speed=, noise=, seed="),
        (["--engine", f"{ENGINE},speed=fast"], "speed must be a number, not 'fast'"),
        (["--engine", f"{ENGINE},speed=0"], "speed must be 0.001 to 1000, not 0"),
        (["--engine", f"{ENGINE},noise=nan"], "noise must be a number, not 'nan'"),
        (["--engine", f"{ENGINE},noise=3"], "noise must be 0 to 2, not 3"),
        (["--engine", f"{ENGINE},seed=1.5"], "seed must be an integer, not '1.5'"),
        (["--engine", "sim:/nowhere/desk.toml"], "/nowhere/desk.toml"),
        (["--engine", ENGINE, "--tensor-parallel", "2"], "--tensor-parallel means nothing to a modelled machine"),
        (["--engine", ENGINE, "--dtype", "fp32"], "--dtype means nothing to a modelled machine"),
        (["--engine", ENGINE, "--threads", "2"], "--threads means nothing to a modelled machine"),
        (["random:tiny", "--engine", ENGINE], "MODEL means nothing to a modelled machine"),
        (["--engine", "sim:h100-llama-8b", "--kv-tokens", "32"], "kv_tokens must be at least one block of 64"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_one_line(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", *arguments]) == 2
    shown = capsys.readouterr()
    assert shown.err.startswith("headway: ")
    assert shown.err.count("\n") == 1
    assert words in shown.err


def test_a_server_is_told_of_the_modelled_machine() -> None:
    engine = SimulatedEngine.parse("sim:h100-llama-8b,speed=2,noise=0.05", kv_tokens=6400, context_tokens=4096)
    info = engine.executor.start()
    assert info == replace(
        HARDWARE["h100-llama-8b"].info,
        vocab_size=engine.text.vocab_size,
        kv_blocks=100,
        context_tokens=4096,
        description="simulated H100 80GB SXM, Llama 3 8B, 2 times as fast, noise 0.05",
    )
    assert engine.source.name == "h100-llama-8b"
    assert engine.source.config.context_tokens == 4096


def test_a_record_of_ones_own_is_read(tmp_path: Path) -> None:
    machine = parse_machine(f"sim:{record(tmp_path)}")
    assert machine.name == "desk"
    assert machine.info.kv_blocks == 256
    assert machine.step_s(StepShape(10, 1, 0, 0.0)) == pytest.approx(0.005)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda text: text + "[roofline]\n", "missing required field `overhead_s`"),
        (lambda text: text.partition("[linear]")[0], "one table, [linear] or [roofline]"),
        (lambda text: text.replace("kv_tokens = 4096", "kv_tokens = 8"), "at least a block"),
        (lambda text: text.replace("0.0001", "-1.0"), "at least 0"),
        (lambda text: text.replace("token_s", "tokn_s"), "tokn_s"),
        (lambda text: "speed = [", "desk.toml"),
    ],
)
def test_a_file_that_is_no_record_is_refused(tmp_path: Path, change: Callable[[str], str], words: str) -> None:
    with pytest.raises(ValueError, match=r"desk\.toml: ") as caught:
        read_hardware(record(tmp_path, change))
    assert words in str(caught.value)


# How long steps last.


def test_a_step_lasts_from_the_last_one_due_where_a_request_goes_on(simulated: SimulatedEngine) -> None:
    """What the driver needs between two steps is part of the modelled step, and lateness is not carried on."""
    clock, machine = Clock(), parse_machine(ENGINE)
    executor = SimulatedExecutor(machine, Answers(simulated.text, 0), clock=clock)
    executor.start()

    def due_after(now: float, *chunks: Chunk) -> float:
        clock.now = now
        executor.begin(StepPlan(0, chunks))
        due_s = executor._due_s
        clock.now = due_s
        executor.finish()
        return due_s

    step_s = machine.step_s(StepShape(1, 1, 41, 0.0))
    first_s = due_after(100.0, decode("a", 40))
    assert first_s == pytest.approx(100.0 + step_s)
    second_s = due_after(first_s + 0.5 * step_s, decode("a", 40))
    assert second_s == pytest.approx(first_s + step_s)
    other_s = due_after(second_s + 0.5 * step_s, decode("b", 40))
    assert other_s == pytest.approx(second_s + 1.5 * step_s)  # the machine had nothing to do in between
    late_s = due_after(other_s + 3.0 * step_s, decode("b", 40))
    assert late_s == other_s + 3.0 * step_s
    assert due_after(late_s, decode("b", 40)) == pytest.approx(late_s + step_s)


def test_waiting_is_accurate_and_costs_nothing(simulated: SimulatedEngine) -> None:
    executor = SimulatedExecutor(parse_machine(ENGINE), Answers(simulated.text, 0))
    executor.start()
    late_s, cpu_s = [], time.thread_time()
    for step in range(20):
        executor.begin(StepPlan(step, (decode("a", 40 + step),)))
        executor.finish()
        late_s.append(time.monotonic() - executor._due_s)
    assert min(late_s) >= 0.0
    assert sorted(late_s)[len(late_s) // 4] < 0.001  # 0.1 ms where nothing else runs, which tests can't count on
    assert time.thread_time() - cpu_s < 0.1 * 20 * 0.02


def test_an_interrupt_ends_a_step_at_once(simulated: SimulatedEngine) -> None:
    executor = SimulatedExecutor(parse_machine(f"{ENGINE},speed=0.001"), Answers(simulated.text, 0))
    executor.start()
    executor.begin(StepPlan(0, (decode("a", 40),)))
    threading.Timer(0.05, executor.interrupt).start()
    began_s = time.monotonic()
    with pytest.raises(ExecutorLost):
        executor.finish()
    assert time.monotonic() - began_s < 10.0
    executor.start()
    executor.begin(StepPlan(1, ()))


def test_noise_is_the_same_for_the_same_seed() -> None:
    shape = StepShape(4, 4, 400, 0.0)

    def times(seed: int) -> list[float]:
        machine = parse_machine(f"{ENGINE},noise=0.1,seed={seed}")
        return [machine.step_s(shape) for _ in range(100)]

    assert times(1) == times(1) != times(2)
    assert sorted(times(1))[50] == pytest.approx(HARDWARE["cpu-smollm2-135m"].step_s(shape), rel=0.05)


@pytest.mark.parametrize("machine", ["h100-llama-8b,speed=3", "cpu-smollm2-135m,noise=0.05,seed=1"])
def test_step_times_are_measured_in_no_time(machine: str) -> None:
    modelled, model = parse_machine(f"sim:{machine}"), StepTimeModel()
    began_s = time.process_time()
    modelled.measure(SimulatedExecutor.__new__(SimulatedExecutor), modelled.offer(100), model, progress=None)
    assert time.process_time() - began_s < 2.0
    tokens, sequences, context = 32, 32, 32 * 500
    expected_s = modelled.step_s(StepShape(tokens, sequences, context, 0.0))
    assert model.predict_s(tokens, sequences, context, 0.0) == pytest.approx(expected_s, rel=0.25)


# What it says.


def test_answers_follow_from_the_request_alone(simulated: SimulatedEngine) -> None:
    text = simulated.text

    def said(seed: int, params: SamplingParams, last: int = 7) -> list[int]:
        answers = Answers(text, seed)
        return [answers.draw(decode(f"{id(params)}", at, params, last=last)).token for at in range(50)]

    drawn = SamplingParams(seed=5)
    assert said(0, drawn) == said(0, SamplingParams(seed=5), last=8) != said(0, SamplingParams(seed=6))
    assert said(0, drawn) != said(1, drawn)
    greedy = replace(GREEDY, seed=1)
    assert said(0, greedy) == said(0, replace(GREEDY, seed=2)) != said(0, greedy, last=8)
    assert len(set(said(0, drawn))) > 40
    assert all(text.token_bytes(token).decode().strip().isalpha() for token in said(0, drawn))


def test_answers_end_at_natural_lengths_where_they_may(simulated: SimulatedEngine) -> None:
    answers, ends = Answers(simulated.text, 0), simulated.text.eos_ids

    def length(seed: int, stops: tuple[int, ...] = ends, min_tokens: int = 0) -> int:
        params = SamplingParams(seed=seed, stop_token_ids=stops, min_tokens=min_tokens)
        return next(
            (at for at in range(3000) if answers.draw(decode("a", 20 + at, params, at)).token in ends),
            3000,
        )

    lengths = sorted(length(seed) for seed in range(200))
    assert lengths[0] > 10
    assert 130 < lengths[100] < 190
    assert 350 < lengths[190] < 600
    assert length(1, stops=()) == 3000
    assert min(length(seed, min_tokens=400) for seed in range(20)) >= 400


def test_alternatives_are_told_where_they_are_asked_for(simulated: SimulatedEngine) -> None:
    drawn = Answers(simulated.text, 0).draw(decode("a", 9, SamplingParams(logprobs=3)))
    assert drawn.logprob is not None
    assert drawn.top[0][0] == drawn.token
    assert len({token for token, _ in drawn.top}) == 3


# Over HTTP.


def _complete(connection: Connection, **options: Any) -> dict[str, Any]:
    body = {"model": MODEL, "prompt": "How are you?", "max_tokens": 12, **options}
    connection.request("POST", "/v1/completions", body)
    reply = connection.read_response()
    assert reply.status == 200, reply.body
    return dict(reply.json())


def test_a_real_server_answers_with_text_as_it_was_asked_to(simulated: SimulatedEngine) -> None:
    with (
        running_server(
            simulated.executor, load_text=lambda: simulated.text, make_policy=lambda *_: build("static")
        ) as server,
        Connection(server.port) as connection,
    ):
        first = _complete(connection, temperature=0, ignore_eos=True)
        again = _complete(connection, temperature=0, ignore_eos=True)
        assert first["choices"] == again["choices"]
        assert first["usage"]["completion_tokens"] == 12
        assert first["choices"][0]["finish_reason"] == "length"
        words = first["choices"][0]["text"].split(" ")
        stopped = _complete(connection, temperature=0, ignore_eos=True, stop=[words[4]])
        assert stopped["choices"][0]["text"] == " ".join(words[:4]) + " "
        assert stopped["choices"][0]["finish_reason"] == "stop"
        natural = _complete(connection, seed=3, max_tokens=2000)
        assert natural["choices"][0]["finish_reason"] == "stop"
        assert natural["choices"] == _complete(connection, seed=3, max_tokens=2000)["choices"]


@pytest.mark.slow
def test_the_command_serves_within_two_seconds_and_without_torch(tmp_path: Path) -> None:
    """The time is the processor's: other work on the machine is not the server's fault."""
    with headway_server("--engine", f"sim:{record(tmp_path)},seed=1", "--policy", "headway", "--quiet") as server:
        ticks = sum(map(int, Path(f"/proc/{server.process.pid}/stat").read_text().rpartition(")")[2].split()[11:13]))
        assert ticks / os.sysconf("SC_CLK_TCK") < 2.0
        assert "torch" not in Path(f"/proc/{server.process.pid}/maps").read_text()
        with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/v1/models", timeout=20.0) as reply:
            [model] = json.load(reply)["data"]
        assert (model["id"], model["description"]) == ("desk", "simulated a desk with a model on it")
        assert model["max_model_len"] == 1024


def test_nothing_of_the_simulator_is_loaded_without_being_asked_for() -> None:
    script = "import sys, headway.cli, headway.serve.lifecycle; sys.exit('headway.sim_engine' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], timeout=60.0, check=False).returncode == 0
