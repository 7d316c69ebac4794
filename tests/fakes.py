"""Fakes that several suites share: an engine that follows a script, and a text model of bytes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from headway.policy.plan import Chunk, Draw, DrawnToken, ExecutorInfo, ExecutorLost, FailedDraw, StepPlan, StepResult
from headway.serve.messages import Message

EOS = 256
VOCAB_SIZE = 257
WAIT_S = 20.0
"""The longest any fake waits for its test."""

INFO = ExecutorInfo(block_size=16, kv_blocks=4096, context_tokens=2048, vocab_size=VOCAB_SIZE, description="fake")


def letter(position: int, draw: Draw) -> int:
    """The token at a position of a sequence: a letter, the same whatever happened before and whoever is beside it."""
    return ord("a") + (7 * position + draw.params.seed) % 26


def letters(prompt_tokens: int, count: int, seed: int = 0) -> str:
    """The text that ``letter`` makes of a request."""
    return "".join(chr(ord("a") + (7 * (prompt_tokens + i) + seed) % 26) for i in range(count))


@dataclass
class ScriptedExecutor:
    """Draws ``token(position, draw)`` for every chunk with a draw.

    A step takes ``step_s``. With ``hold()``, steps wait until ``release(n)`` lets n of them finish; ``free()`` ends
    that. ``lose()`` makes the next step to finish raise ``ExecutorLost``. ``failing``: ids whose draws fail.
    """

    info: ExecutorInfo = INFO
    step_s: float = 0.0
    token: Callable[[int, Draw], int] = letter
    failing: set[str] = field(default_factory=set)
    plans: list[StepPlan] = field(default_factory=list)
    starts: int = 0
    start_gate: threading.Event | None = None
    start_error: Exception | None = None
    _plan: StepPlan | None = None
    _held: bool = False
    _stopped: bool = False
    _permits: int = 0
    _losses: int = 0
    _changed: threading.Condition = field(default_factory=threading.Condition)
    in_step: threading.Event = field(default_factory=threading.Event)
    """Set while a held step waits."""

    def start(self) -> ExecutorInfo:
        if self.start_gate is not None:
            self.start_gate.wait(WAIT_S)
        if self.start_error is not None:
            raise self.start_error
        self.starts += 1
        self._plan = None
        return self.info

    def begin(self, plan: StepPlan) -> None:
        assert self._plan is None, "one plan at a time"
        self._plan = plan
        self.plans.append(plan)

    def finish(self) -> StepResult:
        plan, self._plan = self._plan, None
        assert plan is not None
        with self._changed:
            if self._held:
                self.in_step.set()
                self._changed.wait_for(lambda: not self._held or self._permits or self._losses, WAIT_S)
                self.in_step.clear()
                self._permits -= 1 if self._held and self._permits else 0
            elif self.step_s:
                self._changed.wait_for(lambda: self._losses > 0, self.step_s)
            if self._losses:
                self._losses -= 1
                raise ExecutorLost("the fake engine was lost")
        return self._result(plan)

    def stop(self) -> None:
        self.free()

    def interrupt(self) -> None:
        if self.start_gate is not None:
            self.start_gate.set()
        self.lose()

    def hold(self) -> None:
        with self._changed:
            self._held = True
            self._permits = 0

    def release(self, steps: int = 1) -> None:
        with self._changed:
            self._permits += steps
            self._changed.notify_all()

    def free(self) -> None:
        with self._changed:
            self._held = False
            self._changed.notify_all()

    def lose(self) -> None:
        with self._changed:
            self._losses += 1
            self._changed.notify_all()

    def tokens_planned(self) -> int:
        return sum(plan.token_count for plan in self.plans)

    def _result(self, plan: StepPlan) -> StepResult:
        drawn = [self._draw(chunk, chunk.draw) for chunk in plan.chunks if chunk.draw is not None]
        failed = tuple(each for each in drawn if isinstance(each, FailedDraw))
        tokens = tuple(each for each in drawn if isinstance(each, DrawnToken))
        return StepResult(plan.step_id, tokens, failed, self.step_s)

    def _draw(self, chunk: Chunk, draw: Draw) -> DrawnToken | FailedDraw:
        if chunk.request_id in self.failing or "*" in self.failing:
            return FailedDraw(chunk.request_id, "the fake engine was told to fail")
        token = self.token(chunk.start + len(chunk.tokens), draw)
        if draw.params.logprobs is None:
            return DrawnToken(chunk.request_id, token)
        top = tuple((token + i, -0.5 - i) for i in range(draw.params.logprobs))
        return DrawnToken(chunk.request_id, token, -0.5, top)


@dataclass(frozen=True)
class Piece:
    text: str
    stop: str | None = None


class FakeDetokenizer:
    """Bytes to text; holds back incomplete characters and what may become a stop string."""

    def __init__(self, stops: tuple[str, ...]) -> None:
        self._stops = stops
        self._raw = b""
        self._text = ""

    def push(self, token: int) -> Piece:
        self._raw += bytes([token]) if token < 256 else b""
        try:
            self._text += self._raw.decode()
            self._raw = b""
        except UnicodeDecodeError:
            return Piece("")
        for stop in self._stops:
            at = self._text.find(stop)
            if at >= 0:
                shown, self._text = self._text[:at], ""
                return Piece(shown, stop)
        held = max((n for stop in self._stops for n in range(len(stop)) if self._text.endswith(stop[:n])), default=0)
        shown = self._text[: len(self._text) - held]
        self._text = self._text[len(shown) :]
        return Piece(shown)

    def flush(self) -> str:
        text, self._text = self._text + self._raw.decode("utf-8", "replace"), ""
        self._raw = b""
        return text


class FakeText:
    """A token is a byte; 256 ends a sequence."""

    eos_ids = (EOS,)
    vocab_size = VOCAB_SIZE

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        return list(text.encode())

    def encode_chat(self, messages: Sequence[Message], *, add_generation_prompt: bool = True) -> list[int]:
        lines = "".join(f"{message.role}:{message.content}\n" for message in messages)
        return self.encode(lines + ("assistant:" if add_generation_prompt else ""))

    def decode(self, ids: Sequence[int]) -> str:
        return bytes(token for token in ids if token < 256).decode("utf-8", "replace")

    def token_bytes(self, token: int) -> bytes:
        return bytes([token]) if token < 256 else b""

    def detokenizer(self, stops: tuple[str, ...], *, continues: bool, min_tokens: int) -> FakeDetokenizer:
        return FakeDetokenizer(stops)
