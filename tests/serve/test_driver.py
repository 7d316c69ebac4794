"""The driver alone, over a scripted engine: what it answers, and how it ends."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from headway.policy.events import Event, Finished, FinishReason, Queued, Rejected, RejectReason, Scheduled, TokenOut
from headway.policy.plan import ExecutorLost
from headway.policy.request import RequestSpec
from headway.policy.sampling import GREEDY
from headway.policy.scheduler import SchedulerConfig
from headway.serve.driver import Driver, DriverState, RestartPolicy
from tests.fakes import ScriptedExecutor

WAIT_S = 20.0


class Running:
    """A driver, the events it delivered, and its states."""

    def __init__(self, executor: ScriptedExecutor, restart: RestartPolicy | None = None) -> None:
        self.executor = executor
        self.events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self.states: queue.SimpleQueue[DriverState] = queue.SimpleQueue()
        self.driver = Driver(
            executor,
            SchedulerConfig(),
            deliver=self._deliver,
            prefix_key=b"key",
            restart=restart,
            on_state=self.states.put,
        )

    def _deliver(self, events: list[Event]) -> None:
        for event in events:
            self.events.put(event)

    def wait_state(self, state: DriverState) -> None:
        while self.states.get(timeout=WAIT_S) is not state:
            pass

    def until_finished(self) -> list[Event]:
        """Events up to the next ``Finished``."""
        events = [self.events.get(timeout=WAIT_S)]
        while not isinstance(events[-1], Finished):
            events.append(self.events.get(timeout=WAIT_S))
        return events

    def finish(self) -> Finished:
        last = self.until_finished()[-1]
        assert isinstance(last, Finished)
        return last


@contextmanager
def running(executor: ScriptedExecutor, restart: RestartPolicy | None = None) -> Iterator[Running]:
    run = Running(executor, restart)
    run.driver.start()
    try:
        yield run
    finally:
        run.driver.stop()


def spec(request_id: str = "a", max_tokens: int = 3, deadline_s: float | None = None) -> RequestSpec:
    return RequestSpec(
        request_id=request_id, prompt=(1, 2, 3), max_tokens=max_tokens, sampling=GREEDY, deadline_s=deadline_s
    )


def test_a_request_runs_to_its_end() -> None:
    with running(ScriptedExecutor()) as run:
        run.wait_state(DriverState.READY)
        assert run.driver.submit(spec()) == Queued("a")
        events = run.until_finished()
        assert [type(event) for event in events] == [Scheduled, TokenOut, TokenOut, TokenOut, Finished]
        assert run.driver.idle
        run.driver.abort("a")  # too late, which is no error
    assert run.driver.state is DriverState.STOPPED


def test_a_request_is_told_that_it_runs_before_its_first_step_ends() -> None:
    executor = ScriptedExecutor()
    executor.hold()
    with running(executor) as run:
        run.wait_state(DriverState.READY)
        run.driver.submit(spec())
        assert isinstance(run.events.get(timeout=WAIT_S), Scheduled)
        assert executor.in_step.wait(WAIT_S)
        executor.free()


def test_nothing_is_admitted_before_the_engine_is_there() -> None:
    executor = ScriptedExecutor(start_gate=threading.Event())
    with running(executor) as run:
        answer = run.driver.submit(spec())
        assert isinstance(answer, Rejected)
        assert answer.reason is RejectReason.NOT_READY


def test_stopping_interrupts_an_engine_that_loads() -> None:
    """Stopping waited for a model to load, for minutes, and then left its process behind."""
    executor = ScriptedExecutor(start_gate=threading.Event())
    with running(executor) as run:
        run.driver.stop()
        assert run.driver.state is DriverState.STOPPED
    assert executor.start_gate is not None
    assert executor.start_gate.is_set(), "the engine was not interrupted"


def test_stopping_ends_what_is_in_and_refuses_what_comes_after() -> None:
    """A request that came while the driver stopped was told that it is in, and never heard of again."""
    executor = ScriptedExecutor()
    executor.hold()
    with running(executor) as run:
        run.wait_state(DriverState.READY)
        run.driver.submit(spec("early"))
        assert executor.in_step.wait(WAIT_S)
        stopping = threading.Thread(target=run.driver.stop)
        stopping.start()
        assert run.finish().reason is FinishReason.ABORTED
        late = run.driver.submit(spec("late"))
        assert isinstance(late, Rejected)
        assert late.reason is RejectReason.DRAINING
        executor.free()
        stopping.join(WAIT_S)
        assert run.driver.state is DriverState.STOPPED
    assert run.events.empty()


def test_stopping_during_back_off_does_not_wait_for_it() -> None:
    executor = ScriptedExecutor()
    executor.hold()
    with running(executor, RestartPolicy(delay_s=3600.0, delay_max_s=3600.0)) as run:
        run.wait_state(DriverState.READY)
        run.driver.submit(spec())
        assert executor.in_step.wait(WAIT_S)
        executor.lose()
        run.wait_state(DriverState.RESTARTING)
        run.driver.stop()
        assert run.finish().reason is FinishReason.ABORTED


def test_draining_before_the_engine_is_there_holds_when_it_is() -> None:
    executor = ScriptedExecutor(start_gate=threading.Event())
    with running(executor) as run:
        run.driver.drain()
        assert executor.start_gate is not None
        executor.start_gate.set()
        while run.driver.info is None:
            threading.Event().wait(0.001)
        answer = run.driver.submit(spec())
        assert isinstance(answer, Rejected)
        assert run.driver.state is DriverState.DRAINING


def test_a_broken_policy_ends_every_request_and_the_driver() -> None:
    """The accounting's own assertion fired, and fired again when the requests were to be ended through the same books:
    no stream ever ended, and the server stayed up answering 503."""
    executor = ScriptedExecutor()
    executor.hold()
    with running(executor) as run:
        run.wait_state(DriverState.READY)
        run.driver.submit(spec("a", max_tokens=50))
        run.driver.submit(spec("b", max_tokens=50))
        assert executor.in_step.wait(WAIT_S)
        scheduler = run.driver._scheduler
        assert scheduler is not None
        scheduler.cache.pool = None  # type: ignore[assignment]
        executor.free()
        ended = {run.finish().request_id, run.finish().request_id}
        assert ended == {"a", "b"}
        run.wait_state(DriverState.FAILED)
        assert run.driver.failure is not None
        assert isinstance(run.driver.submit(spec("c")), Rejected)


def test_an_engine_that_is_lost_before_it_was_ever_there_is_a_failure() -> None:
    executor = ScriptedExecutor(start_error=ExecutorLost("no such device"))
    with running(executor) as run:
        run.wait_state(DriverState.FAILED)
        assert "no such device" in str(run.driver.failure)
