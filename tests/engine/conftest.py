"""Checkpoints, made once for all tests, and models loaded in one process or in two."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from headway.engine.messages import Channel, FromWorker, Load, Step
from headway.engine.options import EngineOptions
from headway.engine.parallel import Communicator, connect
from headway.engine.runner import ModelRunner
from headway.models.source import resolve
from headway.policy.plan import ExecutorInfo, StepPlan, StepResult
from tests.engine.checkpoints import Checkpoint, make

END_TIMEOUT_S = 20.0

OPTIONS = EngineOptions(dtype="fp32", kv_tokens=1024, block_size=4)


@dataclass
class TwoRanks:
    """The first of two ranks, in this process; the second gets the same models and plans."""

    communicator: Communicator
    channel: Channel
    loaded: dict[Path, ModelRunner] = field(default_factory=dict)
    current: Path | None = None

    def load(self, directory: Path) -> ExecutorInfo:
        if directory != self.current:
            source = resolve(str(directory))
            self.channel.send(Load(source, OPTIONS))
            self.loaded = {directory: ModelRunner(source, OPTIONS, communicator=self.communicator)}
            self.current = directory
        return self.loaded[directory].info

    def run(self, plan: StepPlan) -> StepResult:
        assert self.current is not None
        self.channel.send(Step(plan))
        return self.loaded[self.current].run(plan)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Checkpoint]:
    """Makes a family's checkpoint when it is first asked for."""
    made: dict[str, Checkpoint] = {}

    def get(family: str) -> Checkpoint:
        if family not in made:
            made[family] = make(family, tmp_path_factory.mktemp(family))
        return made[family]

    return get


@pytest.fixture(scope="session")
def two_ranks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwoRanks]:
    rendezvous = str(tmp_path_factory.mktemp("ranks") / "meeting")
    ours, theirs = socket.socketpair()
    with ExitStack() as stack:
        with theirs:
            command = [sys.executable, "-m", "tests.engine.second_rank", str(theirs.fileno()), rendezvous]
            process = subprocess.Popen(command, pass_fds=[theirs.fileno()])
        stack.callback(process.wait, END_TIMEOUT_S)
        channel = Channel(ours, FromWorker)
        communicator = stack.enter_context(connect(0, 2, rendezvous))
        stack.callback(channel.close)
        yield TwoRanks(communicator, channel)
