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

EXTRAS = (
    "the extra 'engine' has what the compiled kernels need, 'torch' what runs where there are none, in fp32, and on "
    "several ranks"
)


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
    try:
        # Here, since numpy takes its time to import, and torch, where it is needed, seconds.
        from headway.engine.parallel import connect
        from headway.engine.runner import ModelRunner

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
    except ModuleNotFoundError as error:
        channel.send(Refused(f"{error.name} is not installed: {EXTRAS}"))


if __name__ == "__main__":
    main(int(sys.argv[1]))
