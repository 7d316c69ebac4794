"""From start to stop: listen, load, be ready, drain, end.

The port is open from the first moment, so that probes see a server that lives and is not ready yet. On SIGTERM new
requests are refused and those that are in go on, for ``drain_s`` at most; then they end with a terminal event each.
A second signal ends the drain at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import resource
import secrets
import signal
import socket
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from headway.models.source import ModelSource
from headway.policy.events import Event, FinishReason
from headway.policy.plan import Executor, ExecutorInfo
from headway.policy.policy import Policy
from headway.policy.scheduler import SchedulerConfig
from headway.policy.slo import ServiceClasses
from headway.serve.admin import ADMIN_HOST, Admin, admin_access, caps_of
from headway.serve.app import App
from headway.serve.auth import Access, HostCheck, Keyring
from headway.serve.background import finished, in_thread
from headway.serve.bounds import RequestLimits
from headway.serve.driver import Driver, DriverState, RestartPolicy
from headway.serve.limits import EdgeLimits
from headway.serve.log import configure as configure_log
from headway.serve.routes import ROUTES
from headway.serve.routing import Routes
from headway.serve.server import HttpServer, ListenError, bind
from headway.serve.service import ModelCard, Service, TextModel
from headway.serve.status import StatusLine
from headway.serve.streams import Streams
from headway.serve.telemetry import LagMonitor, Telemetry

logger = logging.getLogger(__name__)

STOP_S = 10.0
"""How long to wait for the engine to stop: a step in flight, or a model that is loading."""
FLUSH_S = 2.0
"""How long the last replies have to reach their sockets."""

SWITCH_S = 0.001
"""How long a thread may keep Python from the others. A fifth of the default halves the event loop's worst stall."""

EXIT_OK, EXIT_FAILED, EXIT_USAGE = 0, 1, 2


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeConfig:
    """Everything an operator can say about a server. Parsed once, never written to."""

    host: str = "127.0.0.1"
    port: int = 8000
    served_name: str | None = None
    """What clients call the model; None: its own name."""
    api_keys: tuple[str, ...] = field(default=(), repr=False)
    """``KEY`` or ``NAME:KEY``; none: everyone may come in."""
    allowed_hosts: tuple[str, ...] = ()
    """Host names to answer to, besides loopback ones; with none, a server that isn't on loopback answers to all."""
    cors_origins: tuple[str, ...] = ()
    admin_port: int | None = None
    """Where promises and caps can be changed, on loopback; None: nowhere."""
    admin_key: str | None = field(default=None, repr=False)
    drain_s: float = 30.0
    status_s: float = 5.0
    """How often a busy server says how it is doing."""
    scheduler: SchedulerConfig = field(default_factory=SchedulerConfig)
    restart: RestartPolicy = field(default_factory=RestartPolicy)
    classes: ServiceClasses = field(default_factory=ServiceClasses)
    edge: EdgeLimits = field(default_factory=EdgeLimits)
    requests: RequestLimits = field(default_factory=RequestLimits)

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise ValueError(f"port must be between 0 and 65535, not {self.port}")
        if not self.drain_s >= 0:
            raise ValueError(f"drain_s must be at least 0, not {self.drain_s}")
        if not self.status_s > 0:
            raise ValueError(f"status_s must be above 0, not {self.status_s}")
        api_keys = Keyring(self.api_keys, salt_key=b"")  # raises ValueError on a key that can't be one
        if (self.admin_port is None) is not (self.admin_key is None):
            raise ValueError("admin_port and an admin key belong together: give both or neither (an empty key is none)")
        if self.admin_port is not None and self.admin_key is not None:
            if not 0 <= self.admin_port <= 65535:
                raise ValueError(f"admin_port must be between 0 and 65535, not {self.admin_port}")
            admin_access(self.admin_key)
            if api_keys.knows(self.admin_key):
                raise ValueError("the admin key must not be an API key as well")


class Node:
    """One server on one event loop. ``start``, then ``run`` until it ends; ``request_stop`` from the same loop."""

    def __init__(
        self,
        config: ServeConfig,
        card: ModelCard,
        executor: Executor,
        load_text: Callable[[], TextModel],
        *,
        make_policy: Callable[[Executor, ExecutorInfo], Policy] | None = None,
        report: Callable[[str], None],
        on_ready: Callable[[ExecutorInfo], None],
    ) -> None:
        self._config = config
        self._load_text = load_text
        self._report = report
        self._on_ready = on_ready
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()
        self._hurry = asyncio.Event()
        self._stops = 0
        self._failure: str | None = None
        self.telemetry = Telemetry(config.classes)
        self.streams = Streams(self._loop, self.telemetry, abort=self._abort, fail=self._fail)
        self.driver = Driver(
            executor,
            config.scheduler,
            deliver=self._deliver,
            prefix_key=secrets.token_bytes(32),
            make_policy=make_policy,
            restart=config.restart,
            on_state=lambda state: self._soon(self._changed.set),
        )
        self._pool = ThreadPoolExecutor(config.edge.text_threads, thread_name_prefix="tokenise")
        self.service = Service(
            card=card,
            driver=self.driver,
            streams=self.streams,
            telemetry=self.telemetry,
            edge_limits=config.edge,
            request_limits=config.requests,
            pool=self._pool,
            classes=config.classes,
            preparing=asyncio.Semaphore(config.edge.preparing),
            seeds=lambda: secrets.randbits(64),
        )
        access = Access(
            Keyring(config.api_keys, salt_key=secrets.token_bytes(32)),
            HostCheck(config.host, config.allowed_hosts),
            frozenset(config.cors_origins),
        )
        self.http = HttpServer(App(self.service, access, Routes(ROUTES)), config.edge)
        self._admin_http: HttpServer | None = None
        self._lag = LagMonitor(self.telemetry.record_lag)

    async def start(self, listener: socket.socket) -> None:
        """Listen, and start to load. Returns at once."""
        await self.http.start(listener)
        self._lag.start()
        self.streams.start()
        self.driver.start()
        in_thread(self._load, "load-text")

    async def start_admin(self, listener: socket.socket) -> None:
        """Listen for the operator too; only with an admin key."""
        assert self._config.admin_key is not None
        admin = Admin(self.driver, caps_of(self._config.scheduler))
        app = App(self.service, admin_access(self._config.admin_key), Routes(admin.table))
        self._admin_http = HttpServer(app, self._config.edge)
        await self._admin_http.start(listener)

    async def run(self) -> int:
        """Serve until asked to stop, or until the engine can't be kept up. The process's exit code."""
        status = asyncio.create_task(self._status())
        was_ready = False
        ended = (DriverState.FAILED, DriverState.STOPPED)
        while not self._stops and self._failure is None and self.driver.state not in ended:
            if not was_ready and self.service.not_ready() is None:
                was_ready = True
                gc.collect()
                gc.freeze()  # what is here stays: later collections need not look at it again
                assert self.driver.info is not None
                self._on_ready(self.driver.info)
            await self._changed.wait()
            self._changed.clear()
        status.cancel()
        if self.driver.state in ended and self._failure is None:
            what = "has stopped" if was_ready else "could not start"
            self._failure = f"the engine {what}: {self.driver.failure}"
        await self._end()
        if self._failure is not None:
            self._report(f"headway: {self._failure}")
            return EXIT_FAILED if was_ready else EXIT_USAGE
        return EXIT_OK

    def request_stop(self) -> None:
        """The first time: drain. The second time: end the drain."""
        self._stops += 1
        self._changed.set()
        if self._stops > 1:
            self._hurry.set()

    # ---- stopping ----------------------------------------------------------------------------------------------------

    async def _end(self) -> None:
        service = self.service
        service.draining = True
        await finished(in_thread(self.driver.drain, "drain"), STOP_S)
        if service.in_flight.count and self._failure is None:
            self._report(
                f"draining: {service.in_flight.count} requests in progress, {self._config.drain_s:g} s at most"
            )
            await self._drained()
        service.bodies.end()
        if not await finished(in_thread(self.driver.stop, "stop"), STOP_S):
            self._report(f"the engine did not stop within {STOP_S:g} s; leaving it behind")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FLUSH_S):
                await service.in_flight.wait_idle()
        await self.http.close(FLUSH_S)
        if self._admin_http is not None:
            await self._admin_http.close(FLUSH_S)
        self._lag.stop()
        self._pool.shutdown(wait=False, cancel_futures=True)
        await finished(in_thread(self.streams.stop, "stop-text"), STOP_S)

    async def _drained(self) -> None:
        waits = [asyncio.create_task(self.service.in_flight.wait_idle()), asyncio.create_task(self._hurry.wait())]
        await asyncio.wait(waits, timeout=self._config.drain_s, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()

    # ---- called from other threads -----------------------------------------------------------------------------------

    def _load(self) -> None:
        try:
            self.service.text = self._load_text()
        except Exception as error:
            logger.debug("loading the tokenizer failed", exc_info=True)
            self._fail(f"the tokenizer can't be loaded: {error}")
        self._soon(self._changed.set)

    def _fail(self, why: str) -> None:
        self._failure = why
        self._soon(self._changed.set)

    def _soon(self, call: Callable[[], None]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has closed: nobody is left to be told
            self._loop.call_soon_threadsafe(call)

    def _deliver(self, events: list[Event]) -> None:
        self.streams.deliver(events)

    def _abort(self, request_id: str, reason: FinishReason, detail: str) -> None:
        self.driver.abort(request_id, reason, detail)

    # ---- the status line ---------------------------------------------------------------------------------------------

    async def _status(self) -> None:
        line = StatusLine(self.telemetry)
        last_s = time.monotonic()
        while True:
            await asyncio.sleep(self._config.status_s)
            now = time.monotonic()
            text = await asyncio.to_thread(self._next_line, line, now, now - last_s)  # the driver may be thinking
            if text is not None:
                self._report(text)
            last_s = now

    def _next_line(self, line: StatusLine, now: float, elapsed_s: float) -> str | None:
        stats = self.driver.stats()
        return None if stats is None else line.next(stats, self.service.classes, now, elapsed_s)


def serve(
    config: ServeConfig,
    source: ModelSource,
    executor: Executor,
    load_text: Callable[[ModelSource], TextModel],
    *,
    make_policy: Callable[[Executor, ExecutorInfo], Policy] | None = None,
    report: Callable[[str], None] = lambda line: print(line, file=sys.stderr, flush=True),
    on_ready: Callable[[ExecutorInfo, int], None] = lambda info, port: None,
) -> int:
    """Serve one model until a signal ends it; the exit code. ``report`` gets lines for the operator;
    ``on_ready`` what the engine offers, and the port listened on. ``make_policy``: see ``Driver``.

    2: the server could not start as it was asked to (the port is taken, the model can't be loaded); 1: the engine
    failed later and could not be brought back; 0: it was asked to stop, and did.
    """
    admin_listener: socket.socket | None = None
    try:
        if config.admin_port is not None:
            admin_listener = bind(ADMIN_HOST, config.admin_port)
        listener = bind(config.host, config.port)
    except ListenError as error:
        if admin_listener is not None:
            admin_listener.close()
        report(f"headway: {error}")
        return EXIT_USAGE
    configure_log()
    _raise_file_limit()
    sys.setswitchinterval(SWITCH_S)
    card = model_card(config, source)

    async def main() -> int:
        node = Node(
            config,
            card,
            executor,
            lambda: load_text(source),
            make_policy=make_policy,
            report=report,
            on_ready=lambda info: on_ready(info, listener.getsockname()[1]),
        )
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, node.request_stop)
        await node.start(listener)
        if admin_listener is not None:
            await node.start_admin(admin_listener)
            admin_port = admin_listener.getsockname()[1]
            report(f"Promises and caps can be changed on http://{ADMIN_HOST}:{admin_port}/admin/config")
        return await node.run()

    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        return runner.run(main())


def model_card(config: ServeConfig, source: ModelSource) -> ModelCard:
    return ModelCard(
        name=config.served_name or source.name,
        root=source.name,
        description=source.description,
        created=int(time.time()),
    )


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop where there is one."""
    if sys.platform == "win32":
        return None
    import uvloop

    return uvloop.new_event_loop


def _raise_file_limit() -> None:
    """One connection is one file: take all the process may have."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
