"""The tokenizer of the demo model, and batches of composed chats as tokens."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor

from tools.demo_world import Composer, Message

END_OF_TEXT, CHAT_START, CHAT_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
SPECIAL_TOKENS = (END_OF_TEXT, CHAT_START, CHAT_END)
"""In the order of their ids, from 0."""

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

STORY_SHARE = 0.05
"""How many of the texts are stories on their own, for plain completion."""


def train_tokenizer(composer: Composer, *, texts: int, vocabulary: int) -> Tokenizer:
    """A byte-level BPE for the words of the small world; any other text falls back to bytes, figures stand alone."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Digits(individual_digits=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False),
    ])  # fmt: skip
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    chats = (composer.chat() for _ in range(texts))
    tokenizer.train_from_iterator((message.content for chat in chats for message in chat), trainer)
    return tokenizer


@dataclass(frozen=True)
class Batch:
    """Several texts end to end."""

    tokens: Tensor
    """int64 [tokens]."""
    learned: Tensor
    """bool [tokens]: true where the model is to predict the token; never true at the beginning of a text."""
    lengths: list[int]
    """Tokens of each text."""


def batches(composer: Composer, tokenizer: Tokenizer, *, tokens: int, context: int) -> Iterator[Batch]:
    """Batches of at least ``tokens`` tokens without end; texts longer than ``context`` are left out."""
    encoder = _Encoder(tokenizer)
    ids: list[int] = []
    learned: list[bool] = []
    lengths: list[int] = []
    chance = composer.chance
    while True:
        text = encoder.story(composer.story()) if chance(STORY_SHARE) else encoder.chat(composer.chat())
        if len(text[0]) > context:
            continue
        ids += text[0]
        learned += text[1]
        lengths.append(len(text[0]))
        if len(ids) >= tokens:
            yield Batch(torch.tensor(ids), torch.tensor(learned), lengths)
            ids, learned, lengths = [], [], []


class _Encoder:
    """Texts to tokens, with a mark on the tokens that the model is to predict."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._end_of_text, self._start, self._end = range(len(SPECIAL_TOKENS))
        self._newline = self._ids("\n")

    def _ids(self, text: str) -> list[int]:
        return self._tokenizer.encode(text, add_special_tokens=False).ids

    def chat(self, messages: list[Message]) -> tuple[list[int], list[bool]]:
        """The chat as the template writes it; only the answers and their ends are learned."""
        ids: list[int] = []
        learned: list[bool] = []
        for message in messages:
            head = [self._start, *self._ids(f"{message.role}\n")]
            body = [*self._ids(message.content), self._end]
            ids += [*head, *body, *self._newline]
            learned += [False] * len(head) + [message.role == "assistant"] * len(body) + [False] * len(self._newline)
        return ids, learned

    def story(self, text: str) -> tuple[list[int], list[bool]]:
        """A text on its own; all of it is learned but the first token."""
        ids = [*self._ids(text), self._end_of_text]
        return ids, [False] + [True] * (len(ids) - 1)
