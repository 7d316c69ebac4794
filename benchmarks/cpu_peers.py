"""The servers that ``benchmarks.cpu`` compares: Headway, and others that are given by the commands that start them.

None of the others is part of this project. A command is a template, with ``{port}`` where the server is to listen on
the loopback, ``{checkpoint}`` for the folder of the shape's checkpoint, ``{shape}`` for its name and ``{threads}``.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import string
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from headway.bench.launch import LaunchError, RunningServer, free_port, headway_server, running_server
from headway.models.config import ModelConfig

NAME = "bench"
"""What every server is asked for; who checks it is to be started with that name."""
HEADWAY = "headway"
PRECISIONS = {"bf16": "bf16", "int8": "int8", "q8_0": "int8"}
"""By how a name ends."""
DTYPES = ("bf16", "int8")
"""Headway's."""
EXPECTED = ("llama.cpp-bf16", "llama.cpp-q8_0", "vllm-bf16", "openvino-bf16", "openvino-int8")
"""The peers that a whole comparison has."""
FIELDS = ("port", "checkpoint", "shape", "threads")
HEALTH_PATH = "/health"
LOG_LINES = 8
END_S = 10.0
"""How long the processes of a server have to end, once it has."""
OFFLINE = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "TOKENIZERS_PARALLELISM": "false"}


@dataclass(frozen=True, slots=True)
class Model:
    """One shape. ``argument``: what Headway is given; ``checkpoint``: the folder with the same weights, for the others,
    None if there is none."""

    name: str
    argument: str
    checkpoint: Path | None
    config: ModelConfig


@dataclass(frozen=True, slots=True)
class Entry:
    """A server of the comparison. ``command``: a template; None for Headway."""

    name: str
    command: str | None = None

    @property
    def precision(self) -> str:
        """bf16 or int8. Raises ValueError if the name doesn't say."""
        ending = self.name.rpartition("-")[2]
        if ending not in PRECISIONS:
            raise ValueError(f"{self.name}: a name ends in its precision, one of {', '.join(PRECISIONS)}")
        return PRECISIONS[ending]

    @property
    def has_promises(self) -> bool:
        return self.command is None

    def words(self, model: Model, port: int, threads: int) -> list[str]:
        """The command for a shape. Raises ValueError for a field that there isn't, or that this shape hasn't got."""
        assert self.command is not None
        if "{checkpoint}" in self.command and model.checkpoint is None:
            raise ValueError(f"{self.name} needs a checkpoint: --checkpoint {model.name}=FOLDER")
        values = {"port": port, "checkpoint": model.checkpoint, "shape": model.name, "threads": threads}
        return [word.format(**values) for word in shlex.split(self.command)]


def parse_peer(text: str) -> Entry:
    """From ``NAME=COMMAND``. Raises ValueError."""
    name, equals, command = (part.strip() for part in text.partition("="))
    if not (name and equals and command):
        raise ValueError(f"a peer is NAME=COMMAND, not {text!r}")
    entry = Entry(name, command)
    fields = {field for _, field, _, _ in string.Formatter().parse(command) if field is not None}
    if not entry.precision or "port" not in fields or not fields <= set(FIELDS):
        known = ", ".join(f"{{{each}}}" for each in FIELDS)
        raise ValueError(f"{name}: a command has {{port}} in it, and no other fields than {known}")
    return entry


def read_peers(path: Path) -> list[Entry]:
    """One ``NAME=COMMAND`` a line; empty lines and those that begin with # say nothing. Raises ValueError, OSError."""
    lines = (line.strip() for line in path.read_text(encoding="utf-8").splitlines())
    return [parse_peer(line) for line in lines if line and not line.startswith("#")]


def entries(arguments: argparse.Namespace) -> list[Entry]:
    """Headway in every precision, then the peers that were given, less those that ``--servers`` leaves out. Raises
    SystemExit for what can't be meant."""
    try:
        peers = read_peers(arguments.peers) if arguments.peers else []
        peers += [parse_peer(text) for text in arguments.peer]
    except OSError as error:
        raise SystemExit(f"--peers: {error}") from None
    except ValueError as error:
        raise SystemExit(str(error)) from None
    strange = sorted(set(arguments.dtype.split(",")) - set(DTYPES))
    if strange:
        raise SystemExit(f"--dtype: there is no {', '.join(strange)}; there are {', '.join(DTYPES)}")
    known = [Entry(f"{HEADWAY}-{each}") for each in arguments.dtype.split(",")] + peers
    chosen = [each for each in arguments.servers.split(",") if each]
    strange = sorted(set(chosen) - {each.name for each in known} - set(EXPECTED))
    if strange:
        raise SystemExit(f"--servers: there is no {', '.join(strange)}; there are {', '.join(e.name for e in known)}")
    return [each for each in known if not chosen or each.name in chosen]


@contextlib.contextmanager
def running(entry: Entry, model: Model, *, threads: int, kv_tokens: int, logs: Path) -> Iterator[RunningServer]:
    """For the length of the block; nothing of it is left afterwards. Raises ``LaunchError`` in one line."""
    if entry.command is None:
        dtype = entry.name.removeprefix(f"{HEADWAY}-")
        flags = ["--dtype", dtype, "--name", NAME, "--kv-tokens", str(kv_tokens), "--threads", str(threads), "--quiet"]
        with headway_server(model.argument, *flags) as server:
            yield server
        return
    port = free_port()
    try:
        words = entry.words(model, port, threads)
    except ValueError as error:
        raise LaunchError(str(error)) from None
    path = logs / f"{entry.name}-{model.name}.log"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HEADWAY_")} | OFFLINE
    with path.open("w") as log:
        try:
            with running_server(words, port, environment=environment, ready_path=HEALTH_PATH, log=log) as server:
                children = psutil.Process(server.process.pid).children(recursive=True)
                try:
                    yield server
                finally:
                    server.process.terminate()
                    _end_all(children)
        except LaunchError as error:
            said = path.read_text(errors="replace").splitlines()[-LOG_LINES:]
            print("\n".join(f"    {line}" for line in said), file=sys.stderr)
            raise LaunchError(f"{entry.name}: {error}") from None


def _end_all(processes: Sequence[psutil.Process]) -> None:
    """What a server started, and did not end itself."""
    _, left = psutil.wait_procs(processes, timeout=END_S)
    for each in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            each.kill()
    psutil.wait_procs(left, timeout=END_S)
