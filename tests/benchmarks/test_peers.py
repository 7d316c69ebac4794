"""Running other load generators: here a program of three lines stands for one."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import pytest

from benchmarks import peers
from benchmarks.peers import Client, ClientError, Figures, Job, clients, run_client

JOB = Job(
    url="http://127.0.0.1:1",
    model="m",
    api="completions",
    concurrency=2,
    requests=4,
    seconds=1.0,
    prompt_tokens=8,
    output_tokens=9,
    seed=7,
)


def scripted(code: str) -> Client:
    def command(program: Path, job: Job, folder: Path) -> list[str]:
        return [str(program), "-c", code, str(folder)]

    def read(folder: Path) -> Figures:
        return dict(json.loads((folder / "out").read_text()))

    return Client("scripted", "headway", Path(sys.executable), command, read)


def test_what_it_writes_is_read_and_its_processor_time_counted(tmp_path: Path) -> None:
    client = scripted("import sys; open(sys.argv[1] + '/out', 'w').write('{\"ttft_p50\": 2}'); sum(range(3_000_000))")
    spent = run_client(client, JOB, tmp_path)
    assert client.read(tmp_path) == {"ttft_p50": 2}
    assert spent.cpu_s > 0.0
    assert spent.wall_s > 0.0


def test_a_child_process_counts_too(tmp_path: Path) -> None:
    work = "import time\nwhile time.process_time() < 0.3: pass"
    client = scripted(f"import subprocess, sys; subprocess.run([sys.executable, '-c', {work!r}])")
    assert run_client(client, JOB, tmp_path).cpu_s >= 0.3


def test_one_that_fails_says_why(tmp_path: Path) -> None:
    with pytest.raises(ClientError, match="status 4") as raised:
        run_client(scripted("import sys; print('no such flag'); sys.exit(4)"), JOB, tmp_path)
    assert "no such flag" in str(raised.value)


def test_only_those_that_are_given_take_part(capsys: pytest.CaptureFixture[str]) -> None:
    given = argparse.Namespace(vllm=None, guidellm=Path(sys.executable), aiperf=None)
    assert [each.name for each in clients(given)] == ["headway", "guidellm"]
    assert "vllm is left out" in capsys.readouterr().err


def test_one_that_is_given_must_be_there() -> None:
    given = argparse.Namespace(vllm=Path("/nowhere/vllm"), guidellm=None, aiperf=None)
    with pytest.raises(SystemExit, match="no such file"):
        list(clients(given))


def test_all_are_asked_for_the_same(tmp_path: Path) -> None:
    for command in (peers._headway, peers._vllm, peers._guidellm, peers._aiperf):
        text = " ".join(command(Path("program"), JOB, tmp_path))
        assert JOB.url in text
        assert all(f"{wanted}" in text for wanted in (JOB.prompt_tokens, JOB.output_tokens, JOB.seed))


def test_guidellm_and_aiperf_say_it_in_their_own_units(tmp_path: Path) -> None:
    of_ms = {"successful": {"mean": 20.0, "percentiles": {"p50": 10.0, "p95": 50.0}}}
    of_s = {"successful": {"mean": 2.0, "percentiles": {"p50": 1.0, "p95": 5.0}}}
    names = ("time_to_first_token_ms", "inter_token_latency_ms", "time_per_output_token_ms")
    metrics = {**dict.fromkeys(names, of_ms), "request_latency": of_s, "output_tokens_per_second": of_s}
    (tmp_path / "guidellm.json").write_text(json.dumps({"benchmarks": [{"metrics": metrics}]}))
    figures = peers._read_guidellm(tmp_path)
    assert (figures["ttft_p95"], figures["e2e_p50"], figures["throughput"]) == (0.05, 1.0, 2.0)
    (tmp_path / "aiperf").mkdir()
    theirs = ("time_to_first_token", "inter_token_latency", "inter_chunk_latency", "request_latency")
    latency = {"avg": 20.0, "p50": 10.0, "p95": 50.0}
    found = {**dict.fromkeys(theirs, latency), "output_token_throughput": {"avg": 3.0}}
    (tmp_path / "aiperf" / "profile_export_aiperf.json").write_text(json.dumps(found))
    figures = peers._read_aiperf(tmp_path)
    assert (figures["ttft_mean"], figures["icl_p95"], figures["throughput"]) == (0.02, 0.05, 3.0)
