"""A server over a fake engine as a process of its own, for signals, exit codes and what it logs.

A chat that says "boom" raises an exception, whose message holds all of what was said.

``python -m tests.serve_process PORT STEP_S DRAIN_S`` prints ``ready`` when it is.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from headway.models.source import resolve
from headway.serve.lifecycle import ServeConfig, serve
from headway.serve.messages import Message
from tests.fakes import FakeText, ScriptedExecutor


class FragileText(FakeText):
    def encode_chat(self, messages: Sequence[Message], *, add_generation_prompt: bool = True) -> list[int]:
        if "boom" in str(messages[0].content):
            raise RuntimeError(messages[0].content)
        return super().encode_chat(messages, add_generation_prompt=add_generation_prompt)


def main() -> int:
    port, step_s, drain_s = int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])
    config = ServeConfig(port=port, served_name="fake-model", drain_s=drain_s)
    executor = ScriptedExecutor(step_s=step_s)
    return serve(
        config,
        resolve("random:tiny"),
        executor,
        lambda source: FragileText(),
        on_ready=lambda info, port: print("ready", flush=True),
    )


if __name__ == "__main__":
    sys.exit(main())
