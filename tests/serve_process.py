"""A server over a fake engine as a process of its own, for signals and exit codes.

``python -m tests.serve_process PORT STEP_S DRAIN_S`` prints ``ready`` when it is.
"""

from __future__ import annotations

import sys

from headway.models.source import resolve
from headway.serve.lifecycle import ServeConfig, serve
from tests.fakes import FakeText, ScriptedExecutor


def main() -> int:
    port, step_s, drain_s = int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])
    config = ServeConfig(port=port, served_name="fake-model", drain_s=drain_s)
    executor = ScriptedExecutor(step_s=step_s)
    return serve(
        config,
        resolve("random:tiny"),
        executor,
        lambda source: FakeText(),
        on_ready=lambda info, port: print("ready", flush=True),
    )


if __name__ == "__main__":
    sys.exit(main())
