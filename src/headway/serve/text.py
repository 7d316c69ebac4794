"""Everything about text for one model: prompts and chats become tokens, and tokens become text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tokenizers import Tokenizer

from headway.models.errors import ModelError
from headway.models.source import BUNDLED_DIRECTORY, ModelSource
from headway.serve.detokenizer import Detokenizer, Spelling, spelling_of, token_bytes
from headway.serve.errors import ApiError, Reason
from headway.serve.messages import Message
from headway.serve.special_tokens import SpecialTokens
from headway.serve.template import ChatTemplate, read_template
from headway.serve.tokenizer_files import pad_tokenizer, read_config, read_eos_ids, read_special, read_tokenizer


class Text:
    """Thread-safe: nothing changes once it is loaded. Long texts are tokenised without the interpreter's lock.

    ``eos_ids`` end an answer. ``vocab_size`` is the model's own, padding included: any id below it may be drawn.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        vocab_size: int,
        context_tokens: int,
        eos_ids: tuple[int, ...] = (),
        template: ChatTemplate | None = None,
    ) -> None:
        """Takes the tokenizer over. Raises ``ModelError`` for one that can't serve this model."""
        known = tokenizer.get_vocab_size()
        if known > vocab_size:
            raise ModelError(f"tokenizer.json: {known} tokens, more than the model's vocab_size of {vocab_size}")
        tokenizer.no_truncation()
        tokenizer.no_padding()
        spelling = spelling_of(tokenizer)
        self.vocab_size = vocab_size
        self.eos_ids = eos_ids
        self._vocabulary = token_bytes(tokenizer, spelling, vocab_size)
        self._special = SpecialTokens(tokenizer)
        self._tokenizer = tokenizer
        self._template = template
        self._context_tokens = context_tokens
        self._token_bytes_max = max(1, *map(len, self._vocabulary))
        self._trim = spelling is Spelling.TEXT

    @classmethod
    def load(cls, source: ModelSource) -> Text:
        """Read the tokenizer and the chat template of a checkpoint. Raises ``ModelError``.

        Random weights get the bundled tokenizer, padded to their vocabulary.
        """
        directory = source.path or BUNDLED_DIRECTORY
        config = read_config(directory, "tokenizer_config.json")
        special = read_special(config)
        size = source.config.vocab_size
        tokenizer = pad_tokenizer(directory, size) if source.path is None else read_tokenizer(directory)
        template = read_template(directory, config)
        return cls(
            tokenizer,
            vocab_size=size,
            context_tokens=source.config.context_tokens,
            eos_ids=read_eos_ids(directory, source.config, tokenizer, special.get("eos_token")),
            template=None if template is None else ChatTemplate(template, special),
        )

    @property
    def has_chat_template(self) -> bool:
        return self._template is not None

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        """Token ids of plain text; with the special tokens that the tokenizer puts around every text, unless not.

        Raises ``ApiError`` (400) for a text that can't fit the context, before it is tokenised.
        """
        self._check_length([text], "prompt")
        return self._encode(text, add_special_tokens=add_special_tokens)

    def encode_chat(self, messages: Sequence[Message], *, add_generation_prompt: bool = True) -> list[int]:
        """Token ids of a chat, rendered by the checkpoint's template. Raises ``ApiError`` (400)."""
        if self._template is None:
            message = "This model has no chat template, so it can't chat. Use /v1/completions."
            raise ApiError(Reason.INVALID_REQUEST, message, param="messages")
        written = [each.for_template() for each in messages]
        self._check_length((value for each in written for value in each.values()), "messages")
        fields = [
            {key: value if key == "role" else self._special.cut(value) for key, value in each.items()}
            for each in written
        ]
        marked = self._special.mark(self._template.render(fields, add_generation_prompt=add_generation_prompt))
        self._check_length([marked], "messages")
        return self._special.resolve(self._encode(marked, add_special_tokens=False))

    def decode(self, ids: Sequence[int]) -> str:
        """The text of a whole sequence, without its special tokens."""
        text = b"".join(map(self.token_bytes, ids)).decode("utf-8", "replace")
        return text.removeprefix(" ") if self._trim else text

    def token_bytes(self, token: int) -> bytes:
        """What one token stands for; nothing for special tokens and for ids that pad the vocabulary."""
        return self._vocabulary[token]

    def detokenizer(self, stops: tuple[str, ...] = (), *, continues: bool = False, min_tokens: int = 0) -> Detokenizer:
        """For one answer. ``continues``: it goes on in the middle of a text, so a space at its start is part of it."""
        return Detokenizer(self._vocabulary, stops, trim=self._trim and not continues, min_tokens=min_tokens)

    def _check_length(self, texts: Iterable[str], param: str) -> None:
        """Refuse texts whose bytes can't fit the context, whatever the tokens."""
        size = sum(len(text) if text.isascii() else len(text.encode()) for text in texts)
        least = -(-size // self._token_bytes_max)
        if least > self._context_tokens:
            message = (
                f"This model's maximum context length is {self._context_tokens} tokens. However, your prompt has "
                f"{size} bytes, which are at least {least} tokens. Shorten the prompt."
            )
            raise ApiError(Reason.CONTEXT_LENGTH, message, param=param)

    def _encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        # Only the batch call lets other threads run meanwhile.
        return self._tokenizer.encode_batch_fast([text], add_special_tokens=add_special_tokens)[0].ids
