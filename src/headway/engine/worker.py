"""The worker process: receives plans, runs them, returns results. It knows no policy.

Started as ``python -m headway.engine.worker FD``, where FD is its end of a socket pair. It ends when the other end
closes, so it never outlives the serving process by more than one step. Signals meant for the server as a whole
(Ctrl-C, a supervisor's SIGTERM) are the serving process's to handle: the worker must go on while requests drain.
"""

from __future__ import annotations

import contextlib
import signal
import socket
import sys

from headway.engine.messages import Channel, Closed, Done, Load, Progress, Ready, Refused, Step, ToWorker
from headway.models.errors import ModelError


def main(descriptor: int) -> None:
    """Serve one parent until it closes the channel."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    channel = Channel(socket.socket(fileno=descriptor), ToWorker)
    with contextlib.suppress(Closed):
        _serve(channel)


def _serve(channel: Channel) -> None:
    load = channel.receive()
    assert isinstance(load, Load), load
    channel.send(Progress("starting the engine"))
    from headway.engine.parallel import connect  # here, since numpy, or even torch, takes long to import
    from headway.engine.runner import ModelRunner

    try:
        with connect(load.rank, load.size, load.rendezvous) as communicator:
            runner = ModelRunner(
                load.source,
                load.options,
                communicator=communicator,
                progress=lambda stage, fraction: channel.send(Progress(stage, fraction)),
            )
            channel.send(Ready(runner.info))
            while True:
                step = channel.receive()
                assert isinstance(step, Step), step
                channel.send(Done(runner.run(step.plan)))
    except ModelError as error:
        channel.send(Refused(str(error)))


if __name__ == "__main__":
    main(int(sys.argv[1]))
