"""Small tokenizers, trained here, that count differently from the bundled one."""

from __future__ import annotations

import json
from itertools import pairwise
from random import Random

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

_WORDS = """time year people way day man thing woman life child world school state family student group country problem
hand part place case week company system program question work government number night point home water room mother
area money story fact month lot right study book eye job word business issue side kind head house service friend father
power hour game line end member law car city community name president team minute idea body information back parent
face others level office door health person art war history party result change morning reason research girl guy moment
air teacher force education"""
WORDS = _WORDS.split()


def _corpus() -> list[str]:
    rng = Random(3)
    return [" ".join(["a", *rng.choices([*WORDS, "a"], k=12)]) for _ in range(3000)]


def bytes_tokenizer() -> Tokenizer:
    """Splits at spaces, as GPT's do: words add up."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=1500, show_progress=False, initial_alphabet=alphabet)
    tokenizer.train_from_iterator(_corpus() + WORDS * 20, trainer)
    return tokenizer


def joining_tokenizer() -> Tokenizer:
    """Merges over spaces, so that words don't add up: some pairs of words are one token."""
    tokenizer = Tokenizer(models.BPE(unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.BpeTrainer(
        vocab_size=1500,
        show_progress=False,
        special_tokens=["?"],
        initial_alphabet=["\n", *"abcdefghijklmnopqrstuvwxyz"],
    )
    tokenizer.train_from_iterator(_corpus(), trainer)
    made = json.loads(tokenizer.to_str())
    vocabulary, merges = made["model"]["vocab"], made["model"]["merges"]
    for pair in pairwise(WORDS):
        first, second = (f"▁{word}" for word in pair)
        vocabulary[first + second] = len(vocabulary)
        merges.append([first, second])
    made["pre_tokenizer"]["split"] = False
    return Tokenizer.from_str(json.dumps(made))
