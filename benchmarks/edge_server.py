"""The server that ``benchmarks.edge`` measures. ``python -m benchmarks.edge_server STEP_S`` prints its port."""

from __future__ import annotations

import sys
import time

from headway.models.source import resolve
from headway.policy.plan import DrawnToken, ExecutorInfo, StepPlan, StepResult
from headway.policy.scheduler import SchedulerConfig
from headway.serve.lifecycle import ServeConfig, serve
from headway.serve.text import Text


class PacedExecutor:
    """Ends a step every ``step_s`` seconds, with a token for each draw. What it costs itself is in the figures too."""

    def __init__(self, step_s: float, tokens: list[int], vocab_size: int) -> None:
        self._step_s = step_s
        self._tokens = tokens
        self._info = ExecutorInfo(16, 65536, 4096, vocab_size, "paced")
        self._next_s = 0.0
        self._plan: StepPlan | None = None

    def start(self) -> ExecutorInfo:
        return self._info

    def begin(self, plan: StepPlan) -> None:
        self._plan = plan

    def finish(self) -> StepResult:
        assert self._plan is not None
        now = time.monotonic()
        self._next_s = max(self._next_s + self._step_s, now)  # after a pause, start again from now
        time.sleep(self._next_s - now)
        drawn = tuple(
            DrawnToken(chunk.request_id, self._tokens[chunk.start * 7919 % len(self._tokens)])
            for chunk in self._plan.chunks
            if chunk.draw is not None
        )
        return StepResult(self._plan.step_id, drawn, (), self._step_s)

    def stop(self) -> None:
        pass

    def interrupt(self) -> None:
        pass


def main() -> int:
    source = resolve(None)
    config = ServeConfig(port=0, served_name="bench", scheduler=SchedulerConfig(max_step_tokens=4096, max_running=1024))
    text = Text.load(source)
    # A token that is only part of a character has no event of its own: then clients could not count events.
    tokens = [
        token for token in range(text.vocab_size) if text.token_bytes(token) and text.token_bytes(token).isascii()
    ]
    executor = PacedExecutor(float(sys.argv[1]), tokens, text.vocab_size)
    return serve(config, source, executor, lambda source: text, on_ready=lambda info, port: print(port, flush=True))


if __name__ == "__main__":
    sys.exit(main())
