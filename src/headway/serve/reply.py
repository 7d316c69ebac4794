"""The answer to one HTTP request, between the text thread that builds it and the event loop that sends it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol

from headway.policy.events import Finished, FinishReason, TokenOut
from headway.serve.choices import Choice
from headway.serve.errors import ApiError
from headway.serve.promise import Promise
from headway.serve.replies import DONE, Format, Usage


class Writer(Protocol):
    def write(self, data: bytes) -> None: ...


class Build:
    """What the text thread makes of a reply: bytes not handed over yet, counts, and how it ended."""

    def __init__(
        self,
        form: Format,
        choices: Sequence[Choice],
        *,
        stream: bool,
        include_usage: bool,
        continuous_usage: bool,
        prompt_tokens: int,
        service_class: str,
    ) -> None:
        self.form = form
        self.choices = choices
        self.usage = Usage(prompt_tokens=prompt_tokens)
        self.failure: ApiError | None = None
        self.service_class = service_class
        """What it is served in; read by the event loop too."""
        self.demoted = False
        self._stream = stream
        self._include_usage = include_usage
        self._continuous_usage = continuous_usage
        self._unfinished = len(choices)
        self._data: list[bytes] = []
        self._fresh: list[Choice] = []

    @property
    def ended(self) -> bool:
        return self._unfinished == 0 or self.failure is not None

    def demote(self, service_class: str, tier: str) -> None:
        """A choice will be late, which its client allowed. The reply says so, whether it was asked to or not."""
        self.service_class = service_class
        self.demoted = True
        self.form.name_tier(tier)

    def add_token(self, choice: Choice, event: TokenOut) -> None:
        if choice.output_tokens == 0 and self._stream:
            self._data.append(self.form.first(choice.index))
        if choice.fresh_tokens == 0:
            self._fresh.append(choice)
        text = choice.push(event)
        self.usage.completion_tokens += 1
        if self._stream:
            self._add_text(choice, text)
        elif logprobs := choice.take_logprobs():
            choice.keep_logprobs(self.form.kept(logprobs))

    def add_end(self, choice: Choice, event: Finished) -> None:
        """A choice's successful end."""
        cut_short = event.reason is FinishReason.LENGTH and not choice.stopped
        if choice.output_tokens == 0 and self._stream:  # its first token was its end, and isn't told
            self._data.append(self.form.first(choice.index))
        text = choice.finish("length" if cut_short else "stop")
        if choice.counts_prompt:
            self.usage.cached_tokens += event.cached_tokens
        if not choice.stopped:  # else the engine may have gone on for a moment after the stop string
            self.usage.completion_tokens += event.output_tokens - choice.output_tokens  # a stop token is not told
        self._unfinished -= 1
        if self._stream:
            self._add_text(choice, text)
            self._data.append(self.form.last(choice.index, choice.finish_reason))
            if self._unfinished == 0:
                if self._include_usage:
                    self._data.append(self.form.usage_event(self.usage))
                self._data.append(DONE)
        elif self._unfinished == 0:
            self._data.append(self.form.whole([each.whole() for each in self.choices], self.usage))

    def take(self) -> tuple[bytes, list[tuple[Choice, int]]]:
        """The bytes and the token counts since the last call."""
        data = b"".join(self._data)
        fresh = [(choice, choice.fresh_tokens) for choice in self._fresh]
        for choice in self._fresh:
            choice.fresh_tokens = 0
        self._data.clear()
        self._fresh.clear()
        return data, fresh

    def _add_text(self, choice: Choice, text: str) -> None:
        logprobs = choice.take_logprobs()
        if text or logprobs:
            usage = self.usage if self._continuous_usage else None
            self._data.append(self.form.text(choice.index, text, logprobs, usage))


class Reply:
    """The event loop's side of a reply. Only ``gone`` is read by other threads.

    Bytes are kept until the reply has started (``attach``), then go straight to the socket as they come; those that
    come with the end are left for ``take``.
    """

    def __init__(self, build: Build, promise: Promise, *, received_s: float) -> None:
        self.build = build
        self.promise = promise
        self.received_s = received_s
        self.submitted_s = received_s
        self.first_out_s: float | None = None
        self.error: ApiError | None = None
        self.ended = False
        self.gone = False
        """Nobody waits for this reply any more."""
        self.writes = 0
        self._pending: list[bytes] = []
        self._writer: Writer | None = None
        self._changed = asyncio.Event()

    @property
    def begun(self) -> bool:
        """There is something to send, or nothing to wait for."""
        return bool(self._pending) or self.ended or self.gone

    def accept(self, data: bytes) -> None:
        """New bytes for the client."""
        if self._writer is not None and not self.ended:
            self._writer.write(data)
            self.writes += 1
        else:
            self._pending.append(data)
            self._changed.set()

    def end(self, error: ApiError | None) -> None:
        """Nothing comes after what is accepted now."""
        if not self.ended:
            self.ended = True
            self.error = error
            self._changed.set()

    def leave(self) -> None:
        self.gone = True
        self._changed.set()

    def attach(self, writer: Writer) -> None:
        """The reply has started: what waits goes out now, and all the rest as it comes."""
        assert self._writer is None
        if data := self.take():
            writer.write(data)
            self.writes += 1
        self._writer = writer

    def take(self) -> bytes:
        """The bytes that wait."""
        data = b"".join(self._pending)
        self._pending.clear()
        return data

    async def changed(self, timeout_s: float) -> bool:
        """Wait until the reply has begun, ended or been left; False if nothing of that happened in time."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._changed.wait()
        except TimeoutError:
            return False
        self._changed.clear()
        return True
