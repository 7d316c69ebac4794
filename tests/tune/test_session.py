"""``headway tune`` from the command line: what it writes, and that nothing that was measured is lost."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from headway.bench.figures import Level
from headway.bench.live import Live
from headway.bench.loads import Load
from headway.bench.processes import ProcessError
from headway.bench.record import Record
from headway.bench.run import Setting
from headway.bench.store import Store
from headway.cli import main
from headway.policy.slo import Objective
from headway.tune import session
from tests.bench.api_server import ApiServer, api_server
from tests.tune.levels import FakeServer

PROMISE = Objective(ttft_s=1.0, itl_s=0.05)
Measured = tuple[Level, list[Record]]


@pytest.fixture(autouse=True)
def _own_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))


def tune(monkeypatch: pytest.MonkeyPatch, measure: Callable[[Load, int], Awaitable[Measured]], *options: str) -> int:
    """Against a server that answers for itself, but whose levels are made up."""
    monkeypatch.setattr(session, "_measure", lambda *_: measure)
    given = ("--workload", "synthetic:in=8,out=6", "--seconds", "10", "--ttft", "1000", "--itl", "50", "--quiet")
    with api_server(ApiServer()) as server:
        return main(["tune", server.url, *given, *options])


def failing_after(levels: int, error: Exception) -> Callable[[Load, int], Awaitable[Measured]]:
    server = FakeServer(PROMISE)

    async def measure(load: Load, seed: int) -> Measured:
        if len(server.loads) > levels:  # the first is to warm up
            raise error
        return await server.measure(load, seed)

    return measure


def test_what_was_found_is_said_written_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    files = {kind: tmp_path / f"tune.{kind}" for kind in ("json", "html")}
    given = [each for kind, path in files.items() for each in (f"--{kind}", str(path))]
    assert tune(monkeypatch, FakeServer(PROMISE).measure, *given) == 0
    said = capsys.readouterr().out
    assert "batch 80 keeps the promise; at batch 84 ITL breaks it" in said
    assert "--max-num-seqs 80" in said
    tuned = json.loads(files["json"].read_text())
    assert tuned["state"] == "complete"
    assert tuned["batch"]["load"] == 80
    page = files["html"].read_text()
    assert "the operating point, or the largest measured below it" in page
    with Store(tmp_path / "data/headway/bench.sqlite") as store:
        assert store.load("latest").kind == "tune"
        assert len(store.records("latest")) == len(tuned["run"]["levels"])


@pytest.mark.parametrize("error", [ProcessError("no load generator process could be started"), ValueError("no such")])
def test_what_fails_later_is_one_line_and_loses_nothing(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A generator that could not be started was a traceback, and there was no report."""
    path = tmp_path / "tune.json"
    assert tune(monkeypatch, failing_after(3, error), "--json", str(path), "--store", "none") == 1
    said = capsys.readouterr()
    assert said.err.splitlines()[0] == f"headway: {error}"
    assert f"not complete: {error}\n" in said.out
    tuned = json.loads(path.read_text())
    assert (tuned["state"], tuned["reason"]) == ("partial", str(error))
    assert len(tuned["run"]["levels"]) == len(tuned["steps"]) == 3


def test_where_nothing_was_measured_it_says_why(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It ended with the status of an interrupt, and without a word."""
    error = ProcessError("no load generator process could be started")
    assert tune(monkeypatch, failing_after(-1, error)) == 1
    assert capsys.readouterr().err == f"headway: {error}\n"
    times = iter(range(0, 10_000, 100))
    clock = SimpleNamespace(monotonic=lambda: float(next(times)))
    monkeypatch.setattr("headway.tune.session.time", clock)
    assert tune(monkeypatch, FakeServer(PROMISE).measure, "--minutes", "1") == 1
    assert capsys.readouterr().err == "headway: 1 minutes are over\n"


def test_a_probe_is_shown_against_its_promise_while_it_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Most workloads name no class: their requests are held to that of --class, on the screen too."""
    server = FakeServer(PROMISE)

    async def run_level(_: Setting, load: Load, *, live: Live, **__: object) -> Measured:
        level, records = await server.measure(load, 0)
        for record in records[:20]:
            live.add(record)
        live.tick(load.seconds)
        return level, records

    monkeypatch.setattr(session, "run_level", run_level)
    given = ("--workload", "synthetic:in=8,out=6", "--seconds", "10", "--ttft", "1000", "--itl", "50", "--no-rate")
    with api_server(ApiServer()) as api:
        assert main(["tune", api.url, *given, "--store", "none"]) == 0
    (shown, *_) = [line for line in capsys.readouterr().err.splitlines() if " ok, " in line]
    assert " / 1.00 s, ITL " in shown
    assert " / 50 ms, in SLO 100 %" in shown


def test_figures_that_cannot_be_written_where_they_should_be_are_written_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The store had the levels, but not what followed from them."""
    assert tune(monkeypatch, FakeServer(PROMISE).measure, "--json", str(tmp_path / f"{'n' * 250}.json")) == 1
    [rescued] = (tmp_path / "temporary").glob("headway-tune-*.json")
    assert json.loads(rescued.read_text())["batch"]["load"] == 80
    said = capsys.readouterr().err
    assert "nnn.json can't be written: File name too long" in said
    assert str(rescued) in said


def test_a_reader_that_has_gone_loses_no_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As in ``headway tune URL --json - | head -1``: a traceback, and no page."""

    def broken(text: str) -> int:
        raise BrokenPipeError(32, "Broken pipe")

    path = tmp_path / "tune.html"
    measure = FakeServer(PROMISE).measure
    with monkeypatch.context() as patch:
        patch.setattr("sys.stdout.write", broken)
        assert tune(monkeypatch, measure, "--json", "-", "--html", str(path)) == 1
    assert "standard output can't be written: Broken pipe" in capsys.readouterr().err
    assert "keeps the promise" in path.read_text()
