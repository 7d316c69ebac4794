"""A whole server inside the test's process: the real loop, protocol and policy on a real socket, over a fake engine."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import TypeVar

from headway.policy.invariants import check
from headway.policy.plan import Executor, ExecutorInfo
from headway.policy.policy import Policy
from headway.policy.stats import Stats
from headway.serve.lifecycle import Node, ServeConfig, loop_factory
from headway.serve.server import bind
from headway.serve.service import ModelCard, TextModel
from tests.fakes import FakeText, ScriptedExecutor

HOST = "127.0.0.1"
MODEL = "fake-model"
WAIT_S = 20.0

LAG_MAX_S = 2.0
"""The event loop's worst stall in any test. Test machines are slow and shared: the real bound, 50 ms, is for the edge
benchmark, which also tells how late an idle process of the same machine is woken."""

T = TypeVar("T")


@dataclass
class RunningServer:
    """What a test sees of the server. Methods may be called from the test's thread."""

    port: int
    node: Node
    loop: asyncio.AbstractEventLoop
    lines: list[str]
    exit_codes: list[int] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)

    def stats(self) -> Stats:
        stats = self.node.driver.stats()
        assert stats is not None
        return stats

    def on_loop(self, call: Callable[[], T]) -> T:
        async def run() -> T:
            return call()

        return asyncio.run_coroutine_threadsafe(run(), self.loop).result(WAIT_S)

    def wait_until(self, condition: Callable[[], bool], what: str = "the condition") -> None:
        """Poll, because the condition is about other threads' state; bounded."""
        until_s = time.monotonic() + WAIT_S
        while not condition():
            assert time.monotonic() < until_s, f"{what} did not come about within {WAIT_S:g} s"
            time.sleep(0.002)

    def wait_idle(self) -> None:
        service = self.node.service
        self.wait_until(
            lambda: service.bodies.count == service.in_flight.count == 0 and self.node.driver.idle, "an idle server"
        )

    def check_clean(self) -> None:
        """Quiet and clean: nothing runs, waits or is held, and the event loop was never held up."""
        self.wait_idle()
        scheduler = self.node.driver._scheduler
        if scheduler is not None:
            with self.node.driver._changed:
                check(scheduler)
            stats = self.stats()
            assert stats.running == stats.waiting == stats.kv_blocks_used == 0, stats
        self.wait_until(lambda: self.node.streams.open_choices == 0, "no open reply")
        assert self.node.service.bodies.held_bytes == 0
        lag_s = self.node.telemetry.loop_lag_max_s
        assert lag_s < LAG_MAX_S, f"the event loop was held up for {lag_s:.3f} s"


@contextlib.contextmanager
def running_server(
    executor: Executor | None = None,
    config: ServeConfig | None = None,
    *,
    load_text: Callable[[], TextModel] = FakeText,
    make_policy: Callable[[Executor, ExecutorInfo], Policy] | None = None,
    wait_ready: bool = True,
) -> Iterator[RunningServer]:
    """A server on a free port, for the length of the block; then checked to be clean, and stopped."""
    config = replace(config or ServeConfig(), host=HOST, port=0)
    listener = bind(HOST, 0)
    port = listener.getsockname()[1]
    started: list[RunningServer] = []
    ready = threading.Event()

    async def main() -> int:
        lines: list[str] = []
        node = Node(
            config,
            ModelCard(MODEL, MODEL, "a fake", 1),
            executor or ScriptedExecutor(),
            load_text,
            make_policy=make_policy,
            report=lines.append,
            on_ready=lambda info: ready.set(),
        )
        started.append(RunningServer(port, node, asyncio.get_running_loop(), lines))
        await node.start(listener)
        if not wait_ready:
            ready.set()
        return await node.run()

    def run() -> None:
        try:
            with asyncio.Runner(loop_factory=loop_factory()) as runner:
                started_code = runner.run(main())
                started[0].exit_codes.append(started_code)
        finally:
            ready.set()
            if started:
                started[0].ended.set()

    thread = threading.Thread(target=run, name="server", daemon=True)
    thread.start()
    assert ready.wait(WAIT_S), "the server was not ready"
    server = started[0]
    try:
        yield server
        if not server.ended.is_set():
            server.check_clean()
    finally:
        if not server.ended.is_set():
            for _ in range(2):  # the second one ends the drain
                with contextlib.suppress(RuntimeError):
                    server.loop.call_soon_threadsafe(server.node.request_stop)
        thread.join(WAIT_S)
    assert not thread.is_alive(), "the server did not stop"
