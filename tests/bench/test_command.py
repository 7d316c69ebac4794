"""What can be said to ``headway bench``: nothing is taken and not meant."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from headway.bench.export import read_run, write_file
from headway.cli import main
from tests.bench.api_server import ApiServer, api_server


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--concurrency", "4", "--arrivals", "gamma"], "--arrivals gamma is for --rate"),
        (["--rate", "4", "--cv", "8"], "--cv is for"),
        (["--concurrency", "inf"], "whole number"),
        (["--concurrency", "nan"], "whole number"),
        (["--rate", ""], "--rate"),
        (["--no-stream", "--ttft", "300"], "--e2e"),
    ],
)
def test_what_does_not_fit_together_is_one_line(
    options: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", "127.0.0.1:9", *options]) == 2
    [line] = capsys.readouterr().err.strip().splitlines()
    assert words in line


@pytest.mark.parametrize("option", ["--json", "--html", "--csv", "--requests"])
def test_what_cannot_be_written_is_said_before_an_hour_of_measuring(
    option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path, words in ((tmp_path, "is a directory"), (tmp_path / "no" / "run", f"no directory {tmp_path / 'no'}")):
        assert main(["bench", "127.0.0.1:9", option, str(path)]) == 2
        [line] = capsys.readouterr().err.strip().splitlines()
        assert f"{option} {path} can't be written: " in line
        assert words in line


def test_a_pipe_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    """As ``--json /dev/null`` by root: a file in its place would break everybody else's."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        write_file(pipe, [b"figures"])
        assert os.read(reader, 100) == b"figures"
    finally:
        os.close(reader)
    assert pipe.is_fifo()


def test_a_key_file_that_is_not_there_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "127.0.0.1:9", "--key-file", "/nowhere/key"]) == 2
    assert capsys.readouterr().err == "headway: key file /nowhere/key can't be read: No such file or directory\n"


def test_a_key_that_no_header_takes_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "schlüssel")
    assert main(["bench", "127.0.0.1:9"]) == 2
    [line] = capsys.readouterr().err.strip().splitlines()
    assert "a key is one line" in line
    assert "schlüssel" not in line


def test_whole_answers_are_held_to_no_promise_of_single_tokens(tmp_path: Path) -> None:
    """All of such an answer comes with its end: held against a first token's target, none would ever be in SLO."""
    path = tmp_path / "run.json"
    with api_server(ApiServer(gap_s=0.1)) as server:
        options = [
            "--no-stream",
            "--workload",
            "synthetic:in=8,out=6",
            "--seconds",
            "1",
            "--concurrency",
            "4",
            "--quiet",
        ]
        main(["bench", server.url, *options, "--store", "none", "--json", str(path)])
    figures = read_run(path).levels[0].classes[0]
    assert (figures.ttft_target_s, figures.itl_target_s) == (None, None)
    assert figures.good == figures.ok > 0
