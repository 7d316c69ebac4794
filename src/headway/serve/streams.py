"""From the policy's events to bytes on sockets.

    driver thread --events of a step--> text thread --one call a step--> event loop --one write a stream--> sockets

The text thread turns tokens into text, sees stop strings and builds every reply's bytes. The event loop only writes.
A reply that fails, or whose client left, costs nobody else.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable

from headway.policy.events import Demoted, Event, Finished, FinishReason, Scheduled, TokenOut
from headway.serve.choices import Choice
from headway.serve.errors import ApiError, Reason
from headway.serve.reply import Reply
from headway.serve.telemetry import Telemetry

logger = logging.getLogger(__name__)

SUCCESSES = (FinishReason.STOP, FinishReason.LENGTH)


class _Leave:
    """Asks the text thread to forget a reply and to abort what is left of it."""

    def __init__(self, reply: Reply, detail: str) -> None:
        self.reply = reply
        self.detail = detail


Update = tuple[Reply, bytes, bool, ApiError | None, list[tuple[Choice, int]]]
"""A reply, its new bytes, whether it has ended and with which error, and the choices that got tokens, and how many."""


class Streams:
    """All open replies, and the text thread that feeds them.

    ``abort`` tells the driver to end a choice; ``fail`` is told why the text thread can't go on.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        telemetry: Telemetry,
        *,
        abort: Callable[[str, FinishReason, str], None],
        fail: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._loop = loop
        self._telemetry = telemetry
        self._abort = abort
        self._fail_server = fail
        self._clock = clock
        self._open: dict[str, tuple[Choice, Reply]] = {}
        # No bound of its own, as the engine must never wait here: it holds what the engine has made for admitted
        # requests, whose number the policy bounds (``max_running`` and ``max_queued_requests``) and whose length their
        # max_tokens does; and one leave for each reply.
        self._inbox: queue.SimpleQueue[list[Event] | _Leave | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._main, name="text", daemon=True)

    # ---- any thread --------------------------------------------------------------------------------------------------

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Hand over what is there, and end the thread."""
        self._inbox.put(None)
        if self._thread.is_alive():
            self._thread.join()

    @property
    def open_choices(self) -> int:
        return len(self._open)

    def deliver(self, events: list[Event]) -> None:
        """The driver's events, in order. Returns at once."""
        self._inbox.put(events)

    def open(self, reply: Reply) -> None:
        """Expect events for the reply's choices. To be called before they are submitted."""
        for choice in reply.build.choices:
            self._open[choice.request_id] = (choice, reply)

    def leave(self, reply: Reply, detail: str) -> None:
        """Forget a reply, and abort what the engine still does for it."""
        self._inbox.put(_Leave(reply, detail))

    def discard(self, reply: Reply, index: int) -> None:
        """The choice ``index`` was refused: forget it and those after it, and end those before it."""
        for choice in reply.build.choices[index:]:
            self._open.pop(choice.request_id, None)
        if index > 0:
            self.leave(reply, "another choice of the request was refused")

    # ---- the text thread ---------------------------------------------------------------------------------------------

    def _main(self) -> None:
        try:
            self._serve()
        except Exception as error:  # without this thread no reply ever ends: the server must not seem to work
            logger.exception("the text thread failed")
            self._fail_server(f"the text thread has failed: {error}")

    def _serve(self) -> None:
        while (item := self._inbox.get()) is not None:
            touched: dict[Reply, None] = {}
            self._take(item, touched)
            # All that came meanwhile goes out in the same hand-over: one call to the event loop, however late we are.
            while not self._inbox.empty():
                item = self._inbox.get()
                if item is None:
                    self._inbox.put(None)
                    break
                self._take(item, touched)
            self._hand_over(touched)

    def _take(self, item: list[Event] | _Leave, touched: dict[Reply, None]) -> None:
        if isinstance(item, _Leave):
            self._forget(item.reply, item.detail)
            return
        for event in item:
            choice, reply = self._open.get(event.request_id, (None, None))
            if choice is None or reply is None:
                continue  # its client left, or its reply has ended
            try:
                if self._take_event(event, choice, reply):
                    touched[reply] = None
            except Exception:  # one reply's trouble must not become everyone's
                logger.exception("the reply %s could not be built", reply.build.form.reply_id)
                self._fail(reply, ApiError(Reason.INTERNAL, "The reply could not be built."))
                touched[reply] = None

    def _take_event(self, event: Event, choice: Choice, reply: Reply) -> bool:
        """Whether there is something to hand over."""
        if isinstance(event, TokenOut):
            if choice.stopped:
                return False
            reply.build.add_token(choice, event)
            if choice.stopped:
                self._abort(choice.request_id, FinishReason.STOP, "")
            return True
        if isinstance(event, Finished):
            del self._open[event.request_id]
            if choice.stopped or event.reason in SUCCESSES:  # a stop string ends it, whatever else does by now
                reply.build.add_end(choice, event)
            else:
                self._fail(reply, ApiError.from_finished(event))
            return True
        if isinstance(event, Demoted):
            reply.build.demote(event.service_class, reply.promise.classes.tier_of(event.service_class))
        if isinstance(event, Scheduled) and not event.resumed:
            self._telemetry.queue.observe(max(0.0, self._clock() - reply.submitted_s))
        return False

    def _fail(self, reply: Reply, error: ApiError) -> None:
        """One choice's failure ends the whole reply."""
        if reply.build.failure is None:
            reply.build.failure = error
            self._forget(reply, "another choice of the request failed")

    def _forget(self, reply: Reply, detail: str) -> None:
        for choice in reply.build.choices:
            if self._open.pop(choice.request_id, None) is not None:
                self._abort(choice.request_id, FinishReason.ABORTED, detail)

    def _hand_over(self, touched: Iterable[Reply]) -> None:
        updates: list[Update] = []
        for reply in touched:
            data, fresh = reply.build.take()
            if data or fresh or reply.build.ended:
                updates.append((reply, data, reply.build.ended, reply.build.failure, fresh))
        if updates:
            self._loop.call_soon_threadsafe(self._write, updates)

    # ---- the event loop ----------------------------------------------------------------------------------------------

    def _write(self, updates: list[Update]) -> None:
        for reply, data, ended, error, _ in updates:
            if ended:
                reply.end(error)
            if data:
                reply.accept(data)
        now = self._clock()
        for reply, _, _, _, fresh in updates:
            for choice, count in fresh:
                self._telemetry.record_tokens(now, reply, choice, count)
