"""What a reply says, as it comes: tokens and when they came, usage, the end, errors. Knows bodies, not sockets.

An event *carries tokens* when it has text, reasoning or a tool call, or when the usage in it has grown. The first event
of a chat names the role only and carries none. How many tokens an event carries is told by usage in every event
(``continuous_usage_stats``); without it each counts as one, which the usage at the end confirms or does not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import msgspec

from headway.bench.record import Outcome
from headway.policy.events import RejectReason

HTTP_OK = 200
HTTP_TOO_MANY_REQUESTS = 429
HTTP_UNAVAILABLE = 503
NEWLINE = 10
EVENT_BYTES_MAX = 1 << 20
BODY_BYTES_MAX = 1 << 24
"""Of a reply that is not streamed."""
STREAM_BYTES_MAX = 1 << 30
ERROR_BYTES_MAX = 1 << 16
ERROR_CHARACTERS_MAX = 300
USAGE_MAX = 10_000_000
"""Tokens: a server that says more, as one does whose count fell below 0, is not believed."""
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
ENDED_EARLY = "the reply ended early"


Count = Annotated[int, msgspec.Meta(ge=-1, le=USAGE_MAX)]
"""llama.cpp says -1 of what it does not know."""


class _Details(msgspec.Struct, gc=False):
    cached_tokens: Count | None = None


class _Usage(msgspec.Struct, gc=False):
    prompt_tokens: Count | None = None
    completion_tokens: Count | None = None
    prompt_tokens_details: _Details | None = None


class _Timings(msgspec.Struct, gc=False):
    """Of llama.cpp: tokens computed, taken from its cache, written."""

    prompt_n: Count = 0
    cache_n: Count = 0
    predicted_n: Count = 0


class _Message(msgspec.Struct, gc=False):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: list[msgspec.Raw] | None = None


class _Choice(msgspec.Struct, gc=False):
    text: str | None = None
    delta: _Message | None = None
    message: _Message | None = None
    finish_reason: str | None = None


class _Event(msgspec.Struct, gc=False):
    choices: list[_Choice] | None = None
    usage: _Usage | None = None
    error: Any = None
    object: str | None = None
    service_tier: str | None = None
    timings: _Timings | None = None


_decode = msgspec.json.Decoder(_Event).decode


class Reading:
    """One reply. Fed by the connection with what came and when (``time.perf_counter``); ends exactly once.

    ``outcome`` is None until the end. The other fields are those of ``Record``, with absolute times.
    """

    __slots__ = (
        "_body",
        "_data",
        "_held",
        "_is_between",
        "_is_continuous",
        "_is_done",
        "_is_stream",
        "_is_watched",
        "_left",
        "_rest",
        "_seen",
        "_timings",
        "_usage",
        "chunk_s",
        "chunk_tokens",
        "code",
        "ended_s",
        "error",
        "finish_reason",
        "headers",
        "is_counted",
        "on_text",
        "outcome",
        "sent_s",
        "service_tier",
        "status",
        "visible_s",
    )

    def __init__(self, on_text: Callable[[str], None] | None = None, *, is_watched: bool = False) -> None:
        """``on_text`` gets each piece of the answer, reasoning apart; at once if it ``is_watched``."""
        self.on_text = on_text
        self._is_watched = is_watched
        self.outcome: Outcome | None = None
        self.error: str | None = None
        self.code: str | None = None
        self.status: int | None = None
        self.headers: dict[str, str] = {}
        self.sent_s: float | None = None
        self.ended_s = 0.0
        self.chunk_s: list[float] = []
        self.chunk_tokens: list[int] = []
        self.is_counted = True
        self.visible_s: float | None = None
        self.finish_reason: str | None = None
        self.service_tier: str | None = None
        self._usage: _Usage | None = None
        self._timings: _Timings | None = None
        self._is_stream = False
        self._is_done = False
        self._is_continuous = True
        self._is_between = True
        self._seen = 0
        self._left = 0
        self._body = bytearray()
        self._rest = b""
        self._data: list[bytes] = []
        self._held = 0

    # ---- what comes --------------------------------------------------------------------------------------------------

    def begin(self, status: int, headers: dict[str, str]) -> None:
        """The head has come; names of ``headers`` are in lower case."""
        self.status = status
        self.headers = headers
        self._is_stream = status == HTTP_OK and headers.get("content-type", "").startswith("text/event-stream")
        if status != HTTP_OK:
            self._left = ERROR_BYTES_MAX
        else:
            self._left = STREAM_BYTES_MAX if self._is_stream else BODY_BYTES_MAX

    def take(self, data: bytes, at_s: float) -> None:
        """A piece of the body. Nearly always it is one whole event."""
        self._left -= len(data)
        if self._left < 0:
            self._take_too_much(at_s)
        elif not self._is_stream:
            self._body += data
        elif self._is_between and data.find(b"\n") == len(data) - 2 and data[-1] == NEWLINE and data[:6] == b"data: ":
            self._take_event(data[6:-2], at_s)
        else:
            self._take_lines(data, at_s)

    def complete(self, at_s: float) -> None:
        """The message is whole, as HTTP has it."""
        if self.outcome is not None:
            return
        if self.status != HTTP_OK:
            self._end_refused(at_s)
        elif self._is_stream:
            self._complete_stream(at_s)
        else:
            self._complete_body(at_s)

    def lost(self, at_s: float, error: Exception | None) -> None:
        """The connection is gone; ``error`` None: it was closed in order."""
        if self.outcome is not None:
            return
        if error is None and self.status is not None and self.status != HTTP_OK:
            self._end_refused(at_s)
        elif self._is_stream and self._is_done:
            self._complete_stream(at_s)
        elif error is None and self._ends_by_closing:
            self.complete(at_s)
        else:
            self.fail(Outcome.BROKEN, f"{ENDED_EARLY}: {error}" if error is not None else ENDED_EARLY, at_s)

    def fail(self, outcome: Outcome, error: str, at_s: float, code: str | None = None) -> None:
        """It ends here, and is not whole. Only the first end counts."""
        if self.outcome is None:
            self.code = code
            self.error = " ".join(error.split())[:ERROR_CHARACTERS_MAX]
            self._end(outcome, at_s)

    @property
    def _ends_by_closing(self) -> bool:
        """Whether nothing but the end of the connection says that a message is whole (RFC 9112, 6.3)."""
        is_chunked = "chunked" in self.headers.get("transfer-encoding", "").lower()
        return self.status == HTTP_OK and not is_chunked and "content-length" not in self.headers

    @property
    def can_wait(self) -> bool:
        """Whether what comes may be taken a little later: nobody looks on, and its times are known."""
        return self._is_stream and not self._is_watched

    # ---- what was said -----------------------------------------------------------------------------------------------

    @property
    def usage_prompt(self) -> int | None:
        if self._usage is not None:
            return self._usage.prompt_tokens
        return None if self._timings is None else self._timings.prompt_n + self._timings.cache_n

    @property
    def usage_completion(self) -> int | None:
        if self._usage is not None:
            return self._usage.completion_tokens
        return None if self._timings is None else self._timings.predicted_n

    @property
    def usage_cached(self) -> int | None:
        details = None if self._usage is None else self._usage.prompt_tokens_details
        if details is not None:
            return details.cached_tokens
        return None if self._timings is None else self._timings.cache_n

    @property
    def queue_s(self) -> float | None:
        """TGI says it in a header, of replies that are not streamed; milliseconds."""
        try:
            return float(self.headers["x-queue-time"]) / 1000.0
        except (KeyError, ValueError):
            return None

    # ---- events ------------------------------------------------------------------------------------------------------

    def _take_lines(self, data: bytes, at_s: float) -> None:
        """Events in any pieces. Comments, and fields other than ``data``, say nothing that is needed."""
        lines = (self._rest + data).split(b"\n")
        self._rest = lines.pop()
        for line in lines:
            if line.endswith(b"\r"):
                line = line[:-1]
            if line.startswith(b"data:"):
                self._data.append(line[6:] if line.startswith(b"data: ") else line[5:])
                self._held += len(line)
            elif not line and self._data:
                event = b"\n".join(self._data)
                self._data.clear()
                self._held = 0
                self._take_event(event, at_s)
            if self.outcome is not None:
                return
        self._is_between = not (self._rest or self._data)
        if len(self._rest) + self._held > EVENT_BYTES_MAX:
            self.fail(Outcome.MALFORMED, f"an event of more than {EVENT_BYTES_MAX} bytes", at_s)

    def _take_event(self, data: bytes, at_s: float) -> None:
        if data == b"[DONE]":
            self._is_done = True
            return
        try:
            event = _decode(data)
        except UNREADABLE as error:
            self.fail(Outcome.MALFORMED, f"not an event: {error}: {_excerpt(data)}", at_s)
            return
        if event.error is not None or event.object == "error":
            self._end_with(data, at_s)
            return
        usage = event.usage
        if usage is not None:
            self._usage = usage
        if event.timings is not None:
            self._timings = event.timings
        if event.service_tier is not None:
            self.service_tier = event.service_tier
        if event.choices:
            self._take_choice(event.choices[0], usage, at_s)

    def _take_choice(self, choice: _Choice, usage: _Usage | None, at_s: float) -> None:
        delta = choice.delta
        text = choice.text if delta is None else delta.content
        is_visible = carries = bool(text)
        if not carries and delta is not None:
            is_visible = bool(delta.tool_calls or delta.refusal)
            carries = is_visible or bool(delta.reasoning_content or delta.reasoning)
        tokens = self._count(carries, usage) if self._is_continuous else int(carries)
        if tokens:
            self.chunk_s.append(at_s)
            self.chunk_tokens.append(tokens)
        if is_visible and self.visible_s is None:
            self.visible_s = at_s
        if choice.finish_reason is not None:
            self.finish_reason = choice.finish_reason
        if text and self.on_text is not None:
            self.on_text(text)

    def _count(self, carries: bool, usage: _Usage | None) -> int:
        """By how much usage has grown, as long as it comes with all that carries tokens; then each event is one."""
        written = None if usage is None else usage.completion_tokens
        if written is None:
            self._is_continuous = not carries
            return int(carries)
        if written < max(self._seen, carries):  # usage that stands still at 0, or falls, counts nothing
            self._is_continuous = False
            return int(carries)
        grown, self._seen = written - self._seen, written
        return grown

    # ---- the end -----------------------------------------------------------------------------------------------------

    def _complete_stream(self, at_s: float) -> None:
        if self._rest or self._data:
            self._take_lines(b"\n\n", at_s)  # the last event may lack its end
        if not (self._is_done or self.finish_reason is not None):
            return self.fail(Outcome.BROKEN, ENDED_EARLY, at_s)
        if not self.chunk_s:
            return self.fail(Outcome.MALFORMED, "a whole reply without a token in it", at_s)
        return self._end(Outcome.OK, at_s)

    def _complete_body(self, at_s: float) -> None:
        """A reply that is not streamed: all its tokens come with its end."""
        try:
            event = _decode(self._body)
        except UNREADABLE as error:
            return self.fail(Outcome.MALFORMED, f"not a reply: {error}: {_excerpt(bytes(self._body))}", at_s)
        if event.error is not None or event.object == "error":
            return self._end_with(bytes(self._body), at_s)
        self._usage, self._timings, self.service_tier = event.usage, event.timings, event.service_tier
        for choice in (event.choices or ())[:1]:
            choice.delta = choice.message
            self._take_choice(choice, event.usage, at_s)
        if not self.chunk_s:
            return self.fail(Outcome.MALFORMED, "a whole reply without a token in it", at_s)
        return self._end(Outcome.OK, at_s)

    def _take_too_much(self, at_s: float) -> None:
        if self.status != HTTP_OK:
            self._end_refused(at_s)
        else:
            self.fail(Outcome.MALFORMED, "the reply is larger than any can be", at_s)

    def _end_refused(self, at_s: float) -> None:
        self._end_with(bytes(self._body), at_s)

    def _end_with(self, body: bytes, at_s: float) -> None:
        """An error, as the server tells it."""
        message, code = read_error(body)
        status = self.status
        comes_back = "retry-after" in self.headers or "retry-after-ms" in self.headers
        is_refusal = status == HTTP_TOO_MANY_REQUESTS or (status == HTTP_UNAVAILABLE and comes_back)
        is_refusal = is_refusal or code == RejectReason.IMPOSSIBLE.value
        if status != HTTP_OK:
            message = f"status {status}: {message}" if message else f"status {status}"
        self.fail(Outcome.REFUSED if is_refusal else Outcome.ERROR, message or "an error that is empty", at_s, code)

    def _end(self, outcome: Outcome, at_s: float) -> None:
        self.outcome = outcome
        self.ended_s = at_s
        chunks = len(self.chunk_s)
        if not (self._is_continuous and self._seen):
            self.is_counted = self.usage_completion == chunks
            self.chunk_tokens = [1] * chunks
        self._body.clear()
        self._data.clear()
        self._rest = b""


def read_error(body: bytes) -> tuple[str, str | None]:
    """Message and code of an error body, of any of the known forms; else the body is all there is to say.

    ``{"error": {message, code}}`` (OpenAI, vLLM, llama.cpp, Headway), ``{"message", "code"}`` (SGLang), ``{"error":
    text, "error_type"}`` (TGI, Ollama), ``{"detail"}`` (FastAPI).
    """
    try:
        said = msgspec.json.decode(body)
    except UNREADABLE:
        return _excerpt(body), None
    inner = said.get("error", said.get("detail", said)) if isinstance(said, dict) else said
    if isinstance(inner, dict):
        code = inner.get("code") or inner.get("type")
        message = inner.get("message", inner)
    else:
        code = said.get("error_type") if isinstance(said, dict) else None
        message = inner
    text = message if isinstance(message, str) else msgspec.json.encode(message).decode()
    return text, None if code is None else str(code)


def _excerpt(data: bytes) -> str:
    return data[:ERROR_CHARACTERS_MAX].decode(errors="replace").strip()
