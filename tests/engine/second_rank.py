"""The second of two tensor-parallel ranks, as a process of its own: ``python -m tests.engine.second_rank FD FILE``.

It loads one model after the other and runs every plan it is sent. The first rank is the test process.
"""

from __future__ import annotations

import contextlib
import socket
import sys

from headway.engine.messages import Channel, Closed, Load, Step, ToWorker
from headway.engine.parallel import connect
from headway.engine.runner import ModelRunner


def main(descriptor: int, rendezvous: str) -> None:
    channel = Channel(socket.socket(fileno=descriptor), ToWorker)
    with connect(1, 2, rendezvous) as communicator, contextlib.suppress(Closed):
        runner: ModelRunner | None = None
        while True:
            match channel.receive():
                case Load(source, options):
                    runner = ModelRunner(source, options, communicator=communicator)
                case Step(plan):
                    assert runner is not None
                    assert runner.run(plan).drawn == ()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
