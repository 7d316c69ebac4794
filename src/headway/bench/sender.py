"""One request to a server, whatever comes of it: a call in, a record out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import msgspec

from headway.bench.body import Dialect, body_of
from headway.bench.call import Call
from headway.bench.events import Reading
from headway.bench.record import Outcome, Record
from headway.bench.target import Target
from headway.bench.wire import Exchange, Pool

TIMEOUT_S = 120.0


class ReplyError(Exception):
    """A request that was expected to succeed did not. One line."""

    def __init__(self, record: Record) -> None:
        super().__init__(f"the server's answer was {record.outcome.value}: {record.error}")
        self.record = record


class Sender:
    """Sends calls to ``target`` over kept connections. ``start_s``: what records count from (``time.perf_counter``).

    Use it as an asynchronous context: leaving closes the connections.
    """

    def __init__(
        self,
        target: Target,
        dialect: Dialect | None = None,
        *,
        start_s: float | None = None,
        timeout_s: float = TIMEOUT_S,
        process: int = 0,
    ) -> None:
        self.start_s = time.perf_counter() if start_s is None else start_s
        self._target = target
        self._dialect = dialect or Dialect()
        self._timeout_s = timeout_s
        self._process = process
        self._pool = Pool(target)
        self._open: set[Exchange] = set()
        self._over: tuple[Outcome, str] | None = None

    async def __aenter__(self) -> Sender:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._pool.close()

    @property
    def now_s(self) -> float:
        return time.perf_counter() - self.start_s

    async def send(
        self,
        call: Call,
        *,
        intended_s: float | None = None,
        index: int = 0,
        turn: int = 0,
        on_text: Callable[[str], None] | None = None,
        is_watched: bool = False,
    ) -> Record:
        """``intended_s``: when it was to be sent; None: now. The time it may take counts from then.

        ``on_text`` gets the answer piece by piece; a little late, unless it ``is_watched``.

        Whatever the server does is in the record; raises ValueError if the API can't take such a call.
        """
        intended_s = self.now_s if intended_s is None else intended_s
        reading = Reading(on_text, is_watched=is_watched)
        exchange = Exchange(self._request(call), reading)
        left_s = self.start_s + intended_s + self._timeout_s - time.perf_counter()
        if self._over is not None:
            exchange.give_up(*self._over)
        elif left_s <= 0.0:
            exchange.give_up(Outcome.TIMEOUT, f"not sent within {self._timeout_s:g} s: too many were under way")
        else:
            await self._run(exchange, left_s)
        record = self._record(reading, call, intended_s, index, turn)
        record.connect_s = exchange.connect_s
        return record

    async def ask(self, call: Call, *, on_text: Callable[[str], None] | None = None) -> Record:
        """``send`` what is expected to succeed, with somebody looking on. Raises ``ReplyError``."""
        record = await self.send(call, on_text=on_text, is_watched=on_text is not None)
        if not record.is_ok:
            raise ReplyError(record)
        return record

    def give_up(self, outcome: Outcome, error: str) -> None:
        """Hang up on all that is under way, and send no more: what is asked for from now on ends at once like that."""
        self._over = outcome, error
        for exchange in tuple(self._open):
            exchange.give_up(outcome, error)

    async def _run(self, exchange: Exchange, left_s: float) -> None:
        def give_up() -> None:
            if exchange.connection is None and left_s > self._timeout_s / 2:  # else the time went by before it was sent
                exchange.give_up(Outcome.CONNECT, f"no connection within {self._timeout_s:g} s")
            else:
                exchange.give_up(Outcome.TIMEOUT, f"not whole within {self._timeout_s:g} s")

        timer = asyncio.get_running_loop().call_later(left_s, give_up)
        self._open.add(exchange)
        try:
            await self._pool.run(exchange)
        finally:
            timer.cancel()
            self._open.discard(exchange)

    def _request(self, call: Call) -> bytes:
        body = msgspec.json.encode(body_of(call, self._target, self._dialect))
        accept = "text/event-stream" if self._dialect.is_streaming else "application/json"
        fields = {**self._target.headers(), "content-type": "application/json", "accept": accept, **call.headers}
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        return f"POST {self._target.path} HTTP/1.1\r\n{head}content-length: {len(body)}\r\n\r\n".encode() + body

    def _record(self, reading: Reading, call: Call, intended_s: float, index: int, turn: int) -> Record:
        start_s = self.start_s
        assert reading.outcome is not None, "an exchange ended without an outcome"
        return Record(
            index=index,
            service_class=call.service_class,
            intended_s=intended_s,
            sent_s=None if reading.sent_s is None else reading.sent_s - start_s,
            ended_s=reading.ended_s - start_s,
            chunk_s=[at_s - start_s for at_s in reading.chunk_s],
            chunk_tokens=reading.chunk_tokens,
            is_counted=reading.is_counted,
            visible_s=None if reading.visible_s is None else reading.visible_s - start_s,
            prompt_tokens=call.prompt_tokens,
            max_tokens=call.max_tokens,
            usage_prompt=reading.usage_prompt,
            usage_completion=reading.usage_completion,
            usage_cached=reading.usage_cached,
            queue_s=reading.queue_s,
            outcome=reading.outcome,
            status=reading.status,
            code=reading.code,
            error=reading.error,
            asked_tier=call.tier,
            service_tier=reading.service_tier,
            finish_reason=reading.finish_reason,
            conversation=index if call.turns or turn else None,
            turn=turn,
            process=self._process,
        )
