"""Everything about text for one model: tokenising prompts and chats, and turning tokens back into text.

Text that a client sends never becomes a special token: it is cut inside every occurrence of one, and the pieces are
tokenised on their own. Only the chat template's own text may hold special tokens.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Sequence
from typing import Any

from tokenizers import Tokenizer

from headway.models.checkpoint import read_json
from headway.models.errors import ModelError
from headway.models.source import BUNDLED_DIRECTORY, ModelSource
from headway.serve.detokenizer import Detokenizer, token_bytes
from headway.serve.errors import ApiError, Reason
from headway.serve.messages import Message
from headway.serve.template import ChatTemplate

SPECIAL_NAMES = ("bos_token", "eos_token", "unk_token", "pad_token")


class Text:
    """Thread-safe: nothing changes once it is loaded. ``longest_token``: bytes of the longest token there is."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        vocab_size: int,
        eos_ids: tuple[int, ...] = (),
        template: ChatTemplate | None = None,
    ) -> None:
        """Raises ``ModelError`` for a tokenizer whose tokens can't be spelt one by one."""
        self.vocab_size = vocab_size
        self.eos_ids = eos_ids
        self._tokenizer = tokenizer
        self._template = template
        decoder, self._trim = _decoder(tokenizer)
        self._vocabulary = token_bytes(tokenizer, decoder, max(vocab_size, tokenizer.get_vocab_size()))
        self.longest_token = max(map(len, self._vocabulary), default=1) or 1
        self._prefix = tokenizer.encode("", add_special_tokens=True).ids
        specials = [entry.content for entry in tokenizer.get_added_tokens_decoder().values() if entry.special]
        self._special = re.compile(f"(?=({'|'.join(map(re.escape, specials)) or '(?!)'}))")

    @classmethod
    def load(cls, source: ModelSource) -> Text:
        """Read the tokenizer and the chat template of a checkpoint. Raises ``ModelError``."""
        directory = source.path or BUNDLED_DIRECTORY
        config = _optional_json(source, "tokenizer_config.json")
        special = {name: text for name in SPECIAL_NAMES if (text := _token_text(config.get(name))) is not None}
        size = source.config.vocab_size
        if source.path is None:
            tokenizer = _padded(read_json(directory / "tokenizer.json"), size)
        else:
            tokenizer = _read_tokenizer(source)
        template = _read_template(source, config)
        return cls(
            tokenizer,
            vocab_size=size,
            eos_ids=_eos_ids(source, tokenizer, special.get("eos_token")),
            template=None if template is None else ChatTemplate(template, special),
        )

    @property
    def has_chat_template(self) -> bool:
        return self._template is not None

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        """Token ids of plain text, after the tokens that the model wants at the start of any text."""
        ids = self._encode_parts(self._cut(text))
        return [*self._prefix, *ids] if add_special_tokens else ids

    def encode_chat(self, messages: Sequence[Message], *, add_generation_prompt: bool = True) -> list[int]:
        """Token ids of a chat, rendered by the checkpoint's template. Raises ``ApiError`` (400)."""
        if self._template is None:
            message = "This model has no chat template, so it can't chat. Use /v1/completions."
            raise ApiError(Reason.INVALID_REQUEST, message, param="messages")
        seam = f"\ue000{secrets.token_hex(8)}\ue001"  # marks a cut through the template; nobody can guess it
        fields = [
            {
                name: value if name == "role" else seam.join(self._cut(value))
                for name, value in each.for_template().items()
            }
            for each in messages
        ]
        rendered = self._template.render(fields, add_generation_prompt=add_generation_prompt)
        return self._encode_parts(rendered.split(seam))

    def decode(self, ids: Sequence[int]) -> str:
        """The text of an answer: what a stream of the same tokens shows, put together."""
        text = b"".join(map(self.token_bytes, ids)).decode("utf-8", "replace")
        return text.removeprefix(" ") if self._trim else text

    def token_bytes(self, token: int) -> bytes:
        """What one token stands for; nothing for special tokens."""
        return self._vocabulary[token]

    def detokenizer(self, stops: tuple[str, ...] = ()) -> Detokenizer:
        return Detokenizer(self._vocabulary, stops, trim=self._trim)

    def _cut(self, text: str) -> list[str]:
        """The text in pieces, cut behind the first character of every special token's text in it."""
        cuts = [match.start() + 1 for match in self._special.finditer(text)]
        return [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]

    def _encode_parts(self, parts: Sequence[str]) -> list[int]:
        ids: list[int] = []
        for part in parts:
            # Lone surrogates, which JSON can carry and UTF-8 can't, become U+FFFD as in every text decoder.
            clean = part.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
            ids += self._tokenizer.encode(clean, add_special_tokens=False).ids
        return ids


def _decoder(tokenizer: Tokenizer) -> tuple[str, bool]:
    """How tokens are spelt, and whether the first space of a text is not part of it."""
    described: dict[str, Any] = json.loads(tokenizer.to_str(pretty=False)).get("decoder") or {}
    steps = described.get("decoders", [described])
    kinds = {step.get("type") for step in steps}
    if "ByteLevel" in kinds:
        return "ByteLevel", False
    if kinds & {"Metaspace", "ByteFallback", "Replace"}:
        return "Metaspace", bool(kinds & {"Metaspace", "Strip"})
    raise ModelError(f"tokenizer.json: the decoder {described.get('type')!r} is not supported")


def _read_tokenizer(source: ModelSource) -> Tokenizer:
    assert source.path is not None
    path = source.path / "tokenizer.json"
    if not path.is_file():
        raise ModelError(f"{source.path}: no tokenizer.json")
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises plain Exception
        raise ModelError(f"{path}: not a tokenizer ({error})") from error


def _padded(described: dict[str, Any], size: int) -> Tokenizer:
    """The bundled tokenizer with invented words up to ``size``, for random weights: every id has a text of its own.

    A smaller vocabulary keeps the first tokens, which are the special ones and the bytes, so any text still fits.
    """
    model = described["model"]
    vocabulary = {token: index for token, index in model["vocab"].items() if index < size}
    model["merges"] = [pair for pair in model["merges"] if "".join(pair) in vocabulary]
    for index in range(len(vocabulary), size):
        vocabulary[f"Ġw{index}"] = index
    model["vocab"] = vocabulary
    return Tokenizer.from_str(json.dumps(described))


def _optional_json(source: ModelSource, name: str) -> dict[str, Any]:
    path = (source.path or BUNDLED_DIRECTORY) / name
    return read_json(path) if path.is_file() else {}


def _read_template(source: ModelSource, config: dict[str, Any]) -> str | None:
    path = (source.path or BUNDLED_DIRECTORY) / "chat_template.jinja"
    if path.is_file():
        return path.read_text(encoding="utf-8")
    found = config.get("chat_template")
    if isinstance(found, list):  # several, by name
        named = {each.get("name"): each.get("template") for each in found if isinstance(each, dict)}
        found = named.get("default")
    if found is not None and not isinstance(found, str):
        raise ModelError("tokenizer_config.json: chat_template must be a string, or a list with one named 'default'")
    return found


def _eos_ids(source: ModelSource, tokenizer: Tokenizer, eos_token: str | None) -> tuple[int, ...]:
    """Every id that ends an answer, by any of the files that may say so."""
    generation = _optional_json(source, "generation_config.json").get("eos_token_id")
    named = None if eos_token is None else tokenizer.token_to_id(eos_token)
    ids = [*(generation if isinstance(generation, list) else [generation]), *source.config.eos_token_ids, named]
    return tuple(dict.fromkeys(each for each in ids if isinstance(each, int) and 0 <= each < source.config.vocab_size))


def _token_text(value: object) -> str | None:
    """A special token as tokenizer_config.json writes it: a string, or an object with its content."""
    if isinstance(value, dict):
        value = value.get("content")
    return value if isinstance(value, str) else None
