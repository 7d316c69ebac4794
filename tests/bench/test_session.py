"""``headway bench`` from the command line, against real sockets: what it measures, and what it does when all fails."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from headway.bench import health, session
from headway.bench import run as run_module
from headway.bench.export import read_run
from headway.bench.figures import Level
from headway.bench.loads import Load
from headway.bench.record import Record
from headway.bench.run import Setting
from headway.bench.store import Store
from headway.cli import main
from tests.bench.api_server import MODEL, ApiServer, api_server

CALLS = "synthetic:in=8,out=6"
NAME_TOO_LONG = f"{'n' * 250}.json"
"""For the file that is written beside it first: that is only seen when it is written."""


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine may make the client late, which is not what is tested here."""
    for limit in ("SLIP_MAX_S", "SLIP_TARGET_SHARE", "LAG_MAX_S", "LAG_TARGET_SHARE", "CPU_SHARE_MAX"):
        monkeypatch.setattr(health, limit, 1000.0)


@pytest.fixture(autouse=True)
def _own_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def bench(server: ApiServer, *options: str, seconds: float = 1.0) -> int:
    return main(["bench", server.url, "--workload", CALLS, "--seconds", str(seconds), "--quiet", *options])


def test_a_run_is_shown_written_and_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = {kind: tmp_path / f"run.{kind}" for kind in ("json", "html", "csv")}
    given = [each for kind, path in files.items() for each in (f"--{kind}", str(path))]
    with api_server(ApiServer()) as server:
        status = bench(server, "--concurrency", "1,2", "--note", "[the] first [/one]", *given)
    assert status == 0
    shown = capsys.readouterr().out
    assert "1 at once" in shown
    assert "TTFT" in shown
    run = read_run(files["json"])
    assert [level.name for level in run.levels] == ["1 at once", "2 at once"]
    assert run.target["model"] == MODEL
    everything = run.levels[1].classes[0]
    assert everything.ok == everything.offered > 10
    assert everything.latencies["itl"].p50 == pytest.approx(0.002, rel=1.0)
    assert "<html" in files["html"].read_text()
    assert len(files["csv"].read_text().splitlines()) == 3
    with Store(tmp_path / "data/headway/bench.sqlite") as store:
        assert store.load("latest").note == "[the] first [/one]"
        assert len(store.records("latest")[0]) > 10


def test_levels_ask_for_different_prompts() -> None:
    """Else the second level would be served from the first one's prefix cache."""
    with api_server(ApiServer()) as server:
        bench(server, "--concurrency", "1,1")
    prompts = [body["messages"][0]["content"] for body in server.bodies]
    assert len(set(prompts)) == len(prompts) > 20


def test_a_server_that_takes_less_is_asked_for_less(tmp_path: Path) -> None:
    """Strict servers answer 400 to fields that they don't know; the first request finds out which those are."""
    path = tmp_path / "run.json"
    with api_server(ApiServer(rejects=frozenset({"ignore_eos"}))) as server:
        assert bench(server, "--json", str(path)) == 0
    assert all("ignore_eos" not in body for body in server.bodies)
    assert read_run(path).levels[0].classes[0].ok > 5


def test_replies_that_come_whole_have_an_end_and_nothing_else(tmp_path: Path) -> None:
    """Their only time was told as TTFT as well, and held against its promise: every one of them was late."""
    path = tmp_path / "run.json"
    with api_server(ApiServer(gap_s=0.01)) as server:
        assert bench(server, "--no-stream", "--e2e", "1000", "--json", str(path)) == 0
    figures = read_run(path).levels[0].classes[0]
    assert figures.good == figures.ok > 3
    assert set(figures.latencies) == {"e2e"}
    assert figures.latencies["e2e"].p50 == pytest.approx(0.06, rel=0.5)
    assert figures.output_tokens == 6 * figures.ok


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--model", "other"], ["other", MODEL]),
        (["--api", "completions"], ["--api chat"]),
        (["--rate", "1", "--concurrency", "1"], ["not both"]),
        (["--rate", "fast"], ["--rate fast", "1,2,4"]),
        (["--concurrency", "1.5"], ["whole number"]),
        (["--class", "vip"], ["vip", "conversational"]),
        (["--ttft", "0"], ["ttft", "1"]),
        (["--tokenizer", "/nowhere.json"], ["/nowhere.json"]),
        (["--timeout-s", "0"], ["timeout-s"]),
        (["--warm-up-s", "nan"], ["warm-up-s"]),
        (["--rate", "1,1e5", "--arrivals", "gamma", "--cv", "2"], ["1,000,000"]),
    ],
)
def test_what_is_said_wrongly_is_one_line(
    options: list[str], words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with api_server(ApiServer()) as server:
        assert bench(server, *options, seconds=60.0) == 2
    said = capsys.readouterr()
    assert said.out == ""
    [line] = said.err.strip().splitlines()
    assert all(word in line for word in words), line


def test_a_server_that_is_not_there_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with api_server(ApiServer()) as gone:
        pass
    assert bench(gone) == 2
    [line] = capsys.readouterr().err.strip().splitlines()
    assert "refused" in line


def test_without_the_key_it_says_where_to_put_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with api_server(ApiServer(key="sesame")) as server:
        assert bench(server) == 2
        [line] = capsys.readouterr().err.strip().splitlines()
        assert "OPENAI_API_KEY" in line
        monkeypatch.setenv("OPENAI_API_KEY", "sesame")
        assert bench(server) == 0


def test_malformed_events_are_misses_by_kind(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    with api_server(ApiServer(events=b"data: {not json\n\n")) as server:
        bench(server, "--json", str(path), "--rate", "20")
    figures = read_run(path).levels[0].classes[0]
    assert figures.ok == 0
    assert figures.misses["malformed"] == figures.offered > 3


def test_a_server_that_dies_ends_the_run_and_what_was_measured_is_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_module, "GONE_S", 0.3)
    path = tmp_path / "run.json"
    with api_server(ApiServer(dies_after=40)) as server:
        assert bench(server, "--rate", "50,50", "--json", str(path), seconds=20.0) == 1
    [level] = read_run(path).levels
    assert level.state == "partial"
    assert "went away" in (level.reason or "")
    assert level.elapsed_s < 15.0
    assert level.classes[0].ok > 10
    assert level.classes[0].misses["connect"] > 10


def test_files_that_cannot_be_written_lose_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (tmp_path / "store").mkdir()
    with api_server(ApiServer()) as server:
        status = bench(server, "--store", str(tmp_path / "store"), "--json", str(tmp_path / NAME_TOO_LONG))
    assert status == 1
    said = capsys.readouterr().err.strip().splitlines()
    assert [line.startswith("headway: ") for line in said] == [True, True, True]
    [rescued] = tmp_path.glob("headway-bench-*.json")
    assert str(rescued) in said[2]
    assert read_run(rescued).levels[0].classes[0].ok > 5


def test_a_full_store_is_one_line_and_the_file_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite says "database or disk is full" in both cases; a limit on the file's pages stands for the disk."""
    store, path = tmp_path / "bench.sqlite", tmp_path / "run.json"
    monkeypatch.setattr("headway.bench.keeper.Store", lambda path: Store(path, size_max=24_576))
    with api_server(ApiServer()) as server:
        status = bench(server, "--store", str(store), "--json", str(path), "--rate", "100")
    assert status == 1
    assert "full" in capsys.readouterr().err
    assert read_run(path).levels[0].classes[0].ok > 20
    with sqlite3.connect(store) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_ctrl_c_keeps_what_there_is_and_marks_it(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    more = ["--rate", "20", "--seconds", "60", "--json", str(path)]
    with api_server(ApiServer()) as server:
        process = subprocess.Popen(
            [sys.executable, "-m", "headway.cli", "bench", server.url, "--workload", CALLS, *more],
            env={**os.environ, "XDG_DATA_HOME": str(tmp_path)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        enough = threading.Event()

        def wait() -> None:
            while len(server.bodies) < 20 and process.poll() is None:
                enough.wait(0.02)
            process.send_signal(signal.SIGINT)

        threading.Thread(target=wait, daemon=True).start()
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    [level] = read_run(path).levels
    assert (level.state, level.reason) == ("partial", "interrupted")
    assert level.classes[0].ok >= 10
    assert "interrupted" in out
    assert "Traceback" not in err


def test_ctrl_c_before_anything_is_measured_ends_it_at_once() -> None:
    """The first request of all may take as long as any, and there is nothing to be kept."""
    with api_server(ApiServer(gap_s=60.0)) as server:
        process = subprocess.Popen(
            [sys.executable, "-m", "headway.cli", "bench", server.url, "--workload", CALLS],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        enough = threading.Event()
        while not server.bodies and process.poll() is None:
            enough.wait(0.02)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (130, "", "")


def test_a_level_that_can_not_be_offered_loses_nothing_of_those_before(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run.csv"

    async def run_level(setting: Setting, load: Load, **options: Any) -> tuple[Level, list[Record]]:
        if load.name.startswith("2"):
            raise ValueError("that can't be meant")
        return await run_module.run_level(setting, load, **options)

    monkeypatch.setattr(session, "run_level", run_level)
    with api_server(ApiServer()) as server:
        assert bench(server, "--concurrency", "1,2", "--store", "none", "--csv", str(path)) == 1
    said = capsys.readouterr()
    assert "headway: that can't be meant" in said.err
    assert "1 at once" in said.out
    assert len(path.read_text().splitlines()) == 2


def test_what_can_not_be_piped_is_not_lost(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with api_server(ApiServer()) as server, Path("/dev/full").open("w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        status = bench(server, "--json", "-", "--store", "none")
        monkeypatch.undo()
    assert status == 1
    [rescued] = tmp_path.glob("headway-bench-*.json")
    assert str(rescued) in capsys.readouterr().err
    assert read_run(rescued).levels[0].classes[0].ok > 5


@pytest.mark.parametrize(
    "command",
    [
        "vllm serve --api-key sesame",
        "vllm serve --api-key='sesame'",
        "VLLM_API_KEY=sesame vllm serve",
        'serve --hf-token "sesame"',
        "serve --header 'Authorization: Bearer sesame'",
    ],
)
def test_a_command_line_is_kept_without_keys(command: str) -> None:
    kept = session.command_line(["tune", "http://a", "--command", command, "--api-key-file", "my.key"])
    assert "sesame" not in kept
    assert "***" in kept
    assert "my.key" in kept


def test_runs_are_listed_shown_and_compared(capsys: pytest.CaptureFixture[str]) -> None:
    with api_server(ApiServer()) as server:
        bench(server, "--rate", "40", seconds=2.0)
        server.gap_s = 0.02
        bench(server, "--rate", "40", seconds=2.0)
    capsys.readouterr()
    assert main(["bench", "list"]) == 0
    assert "the-model" in capsys.readouterr().out.replace("\n", "")
    assert main(["bench", "show", "latest"]) == 0
    assert "40 requests/s, Poisson" in capsys.readouterr().out
    with Store(Path(os.environ["XDG_DATA_HOME"]) / "headway/bench.sqlite") as store:
        newer, older = (run.id for run in store.list())
    assert main(["bench", "compare", older, newer]) == 0
    said = capsys.readouterr().out
    assert "worse" in said
    assert main(["bench", "show", "nothing-like-it"]) == 1
    assert "nothing-like-it" in capsys.readouterr().err
