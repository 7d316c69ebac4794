"""The command line: what a person types, and what they read when it was wrong."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path
from types import SimpleNamespace

import pytest

from headway.cli import main

TIMEOUT_S = 90.0


def test_an_interrupt_before_a_command_has_begun_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On a busy machine importing a command takes seconds, and Ctrl-C meanwhile was a traceback of forty lines."""

    def imports(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("headway.cli.app", SimpleNamespace(parse_args=imports))
    assert main(["bench", "list"]) == 130
    assert capsys.readouterr().err == "headway: interrupted\n"


def test_importing_headway_and_asking_for_help_loads_no_torch() -> None:
    script = (
        "import sys, headway\n"
        "from headway.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'numpy', 'transformers', 'starlette', 'uvicorn', 'tokenizers'} & set(sys.modules)\n"
        "sys.exit(f'loaded: {heavy}' if heavy else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "serve" in done.stdout
    assert "demo" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["serve", "--bogus", "3"], "--bogus"),
        (["serve", "--port", "many"], "--port"),
        (["serve", "--port", "70000"], "port must be between 0 and 65535, not 70000"),
        (["serve", "--max-step-tokens", "0"], "max_step_tokens must be at least 1, not 0"),
        (["serve", "--tensor-parallel", "0"], "tensor_parallel must be 1 to 64, not 0"),
        (["serve", "--kv-tokens", "1"], "kv_tokens"),
        (["serve", "--dtype", "int3"], "--dtype"),
        (["serve", "--step-times", "/nowhere/steps.json"], "--step-times /nowhere/steps.json can't be written"),
        (["serve", "--config", "/nowhere/headway.toml"], "/nowhere/headway.toml: No such file"),
        (["serve", "--api-key-file", "/nowhere/keys"], "/nowhere/keys"),
        (["serve", "/nowhere/model"], "/nowhere/model"),
        (["serve", "random:unheard-of"], "unheard-of"),
        (["frobnicate"], "frobnicate"),
    ],
)
def test_case_40_what_a_user_got_wrong_is_one_line_and_exit_code_2(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("headway: ")
    assert shown.err.count("\n") == 1
    assert words in shown.err


def test_case_40_an_unknown_key_in_the_configuration_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "headway.toml"
    path.write_text("[serve]\nport = 8001\nbogus = 1\n")
    assert main(["serve", "--config", str(path)]) == 2
    assert "bogus" in capsys.readouterr().err


def test_case_40_pickled_weights_are_refused_before_anything_is_loaded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = {"model_type": "llama", "vocab_size": 8, "hidden_size": 8, "intermediate_size": 8}
    config |= {"num_hidden_layers": 1, "num_attention_heads": 1, "max_position_embeddings": 8}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "pytorch_model.bin").write_bytes(b"not even a pickle")
    assert main(["serve", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert "pytorch_model.bin" in error
    assert "safetensors" in error


@pytest.mark.parametrize(("content", "words"), [("[serve\n", "--config"), (None, "directory")])
def test_case_40_a_configuration_that_is_no_toml_file_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str | None, words: str
) -> None:
    path = tmp_path
    if content is not None:
        path = tmp_path / "headway.toml"
        path.write_text(content)
    assert main(["serve", f"--config={path}"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert words in error


@pytest.mark.slow
def test_a_quiet_server_still_says_why_it_did_not_start() -> None:
    """It ended with status 2 and no word: only lines with a certain beginning passed, and this one had another."""
    command = [sys.executable, "-m", "headway.cli", "serve", "random:tiny", "--quiet", "--tensor-parallel", "3"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("headway: the engine could not start")


@pytest.mark.slow
def test_serve_reads_options_from_environment_and_file_and_ends_on_a_signal(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    path = tmp_path / "headway.toml"
    path.write_text('[serve]\nname = "from-the-file"\nkv_tokens = 512\nthreads = 1\n')
    environment = {**os.environ, "HEADWAY_PORT": str(port), "HEADWAY_API_KEYS": "alice:secret"}
    command = [sys.executable, "-m", "headway.cli", "serve", "random:tiny", "--config", str(path)]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        lines = []
        for line in server.stderr:
            lines.append(line)
            if "OpenAI API on" in line:
                break
        assert any("512 KV tokens, 1 threads" in line for line in lines), lines
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/v1/models", headers={"Authorization": "Bearer secret"}
        )
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as reply:
            assert json.load(reply)["data"][0]["id"] == "from-the-file"
        server.send_signal(signal.SIGTERM)
        assert server.wait(TIMEOUT_S) == 0
