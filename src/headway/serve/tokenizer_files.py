"""The files of a checkpoint that are about text: read, checked, and padded for models without a checkpoint."""

from __future__ import annotations

import json
from itertools import islice, product
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from headway.models.checkpoint import read_json
from headway.models.config import ModelConfig
from headway.models.errors import ModelError

TOKENIZER_BYTES_MAX = 64 << 20
"""The longest tokenizer.json that is read; that of a vocabulary of 256,000 tokens has about 34 MB."""

SPECIAL_NAMES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")

_SYLLABLES = [first + second for first in "bdfgklmnprstvz" for second in "aeiou"]


def read_config(directory: Path, name: str) -> dict[str, Any]:
    """A JSON file of the checkpoint; empty if there is none. Raises ``ModelError``."""
    path = directory / name
    return read_json(path) if path.is_file() else {}


def read_special(config: dict[str, Any]) -> dict[str, str]:
    """The special tokens that tokenizer_config.json names: each a string, or an object with its content."""
    found = {}
    for name in SPECIAL_NAMES:
        value = config.get(name)
        value = value.get("content") if isinstance(value, dict) else value
        if isinstance(value, str):
            found[name] = value
    return found


def read_tokenizer(directory: Path) -> Tokenizer:
    """Raises ``ModelError``."""
    path = directory / "tokenizer.json"
    try:
        size = path.stat().st_size
        if size > TOKENIZER_BYTES_MAX:
            raise ModelError(f"{path}: {size} bytes, more than the {TOKENIZER_BYTES_MAX} that are read")
        tokenizer = Tokenizer.from_file(str(path))
        if tokenizer.normalizer is not None and any(
            token.special and token.normalized for token in tokenizer.get_added_tokens_decoder().values()
        ):
            tokenizer = _with_literal_special_tokens(tokenizer)
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror or error}") from error
    except ModelError:
        raise
    except Exception as error:  # the library raises nothing more precise
        raise ModelError(f"{path}: not a tokenizer ({error})") from error
    return tokenizer


def read_eos_ids(directory: Path, config: ModelConfig, tokenizer: Tokenizer, eos_token: str | None) -> tuple[int, ...]:
    """Every id that ends an answer, by any of the files that may say so."""
    generation = read_config(directory, "generation_config.json").get("eos_token_id")
    named = None if eos_token is None else tokenizer.token_to_id(eos_token)
    ids = [*(generation if isinstance(generation, list) else [generation]), *config.eos_token_ids, named]
    return tuple(dict.fromkeys(each for each in ids if type(each) is int and 0 <= each < config.vocab_size))


def pad_tokenizer(directory: Path, size: int) -> Tokenizer:
    """The tokenizer in ``directory`` with exactly ``size`` tokens: invented words are added, or the last ones dropped.

    It must be a byte-level BPE whose first ids are the special tokens and the bytes, so that any text can be written
    with few tokens too. Every invented word is one token when it is written with a space before it.
    """
    described: dict[str, Any] = read_json(directory / "tokenizer.json")
    model = described["model"]
    vocabulary = {token: index for token, index in model["vocab"].items() if index < size}
    model["merges"] = [pair for pair in model["merges"] if "".join(pair) in vocabulary]
    words = (f"Ġ{''.join(syllables)}" for count in (3, 4) for syllables in product(_SYLLABLES, repeat=count))
    invented = (word for word in words if word not in vocabulary)
    missing = range(len(vocabulary), size)
    vocabulary.update(zip(islice(invented, len(missing)), missing, strict=True))
    model["vocab"] = vocabulary
    model["ignore_merges"] = True  # a word of the vocabulary is its token, though no merges lead to it
    return Tokenizer.from_str(json.dumps(described))


def _with_literal_special_tokens(tokenizer: Tokenizer) -> Tokenizer:
    """Special tokens are found in the text as it is, not in what normalisation makes of it.

    Else text that only looks like a special token after normalisation would become one.
    """
    described = json.loads(tokenizer.to_str())
    for token in described["added_tokens"]:
        token["normalized"] = token["normalized"] and not token["special"]
    return Tokenizer.from_str(json.dumps(described))
