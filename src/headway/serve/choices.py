"""One choice of a reply: its text so far, from tokens as they come. Belongs to the text thread."""

from __future__ import annotations

import codecs
from typing import Any, Protocol

from headway.policy.events import TokenOut
from headway.policy.sampling import SamplingParams
from headway.serve.replies import Candidate, ChoiceText, TokenLogprob

LEAST_LOGPROB = -9999.0
"""Stands for minus infinity, which JSON can't say."""


class Piece(Protocol):
    """Text that is safe to show now, and whether a stop string ended it."""

    @property
    def text(self) -> str: ...
    @property
    def stop(self) -> str | None: ...


class Detokenizer(Protocol):
    """Tokens to text, one by one; holds back what may still change or become a stop string."""

    def push(self, token: int) -> Piece: ...
    def flush(self) -> str: ...


class Vocabulary(Protocol):
    def token_bytes(self, token: int) -> bytes: ...


class Choice:
    """``counts_prompt``: it is the first choice of its prompt, whose cached tokens count for the reply."""

    def __init__(
        self,
        request_id: str,
        index: int,
        sampling: SamplingParams,
        detokenizer: Detokenizer,
        vocabulary: Vocabulary,
        *,
        stream: bool,
        counts_prompt: bool,
    ) -> None:
        self.request_id = request_id
        self.index = index
        self.counts_prompt = counts_prompt
        self.output_tokens = 0
        self.fresh_tokens = 0
        """Tokens that came since the last hand-over to the event loop."""
        self.stopped = False
        """A stop string was seen: nothing more is shown, whatever comes."""
        self.finish_reason = ""
        self.first_out_s: float | None = None
        self.last_out_s: float | None = None
        """When its first and its last token were written out. The event loop's, as the next."""
        self.late_gaps = 0
        """Gaps between its tokens that were longer than promised."""
        self._wants_logprobs = sampling.logprobs is not None
        self._detokenizer = detokenizer
        self._vocabulary = vocabulary
        self._keep_text = not stream
        self._texts: list[str] = []
        self._logprobs: list[TokenLogprob] = []
        self._kept_logprobs: list[Any] = []
        self._offset = 0
        self._characters = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, event: TokenOut) -> str:
        """Take the next token; the text that can be shown now, which may be empty."""
        self.output_tokens += 1
        self.fresh_tokens += 1
        if self._wants_logprobs and event.logprob is not None:
            self._add_logprob(event, event.logprob)
        piece = self._detokenizer.push(event.token)
        self.stopped = bool(piece.stop)
        return self._show(piece.text)

    def finish(self, reason: str) -> str:
        """The choice has ended; the text that was still held back."""
        self.finish_reason = reason
        return "" if self.stopped else self._show(self._detokenizer.flush())

    def take_logprobs(self) -> list[TokenLogprob] | None:
        """Log-probabilities not taken yet; None if they weren't asked for."""
        if not self._wants_logprobs:
            return None
        taken, self._logprobs = self._logprobs, []
        return taken

    def keep_logprobs(self, kept: list[Any]) -> None:
        """For the whole choice, in its reply's format."""
        self._kept_logprobs += kept

    def whole(self) -> ChoiceText:
        logprobs = self._kept_logprobs if self._wants_logprobs else None
        return ChoiceText(self.index, "".join(self._texts), self.finish_reason, logprobs)

    def _show(self, text: str) -> str:
        if text and self._keep_text:
            self._texts.append(text)
        return text

    def _add_logprob(self, event: TokenOut, logprob: float) -> None:
        drawn = self._candidate(event.token, logprob)
        top = tuple(self._candidate(token, value) for token, value in event.top)
        self._logprobs.append(TokenLogprob(drawn, top, self._offset))
        self._offset += len(self._characters.decode(drawn.raw))

    def _candidate(self, token: int, logprob: float) -> Candidate:
        raw = self._vocabulary.token_bytes(token)
        return Candidate(token, raw.decode("utf-8", "replace"), raw, max(logprob, LEAST_LOGPROB))
