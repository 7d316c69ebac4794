"""Tokens of a tokenizer.json on this machine: one that is given, or the bundled model's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tokenizers import Tokenizer

from headway.bench.tokens import WORDS_MAX, TokensError, WordTokens, word_tokens
from headway.models.source import BUNDLED_DIRECTORY

TOKENIZER_BYTES_MAX = 64 << 20
LETTERS_MIN, LETTERS_MAX = 2, 14


def bundled() -> WordTokens:
    """Those of the model that comes with the package: right for it, a guess for any other."""
    return _tokens(_read(BUNDLED_DIRECTORY / "tokenizer.json"), "the bundled tokenizer")


def from_file(path: Path) -> WordTokens:
    """From a tokenizer.json, or the directory that it is in. Raises ``TokensError``."""
    file = path / "tokenizer.json" if path.is_dir() else path
    return _tokens(_read(file), str(file))


def bundled_words() -> list[str]:
    """English words, to be tried on other tokenizers."""
    return _words(_read(BUNDLED_DIRECTORY / "tokenizer.json"))


def _tokens(tokenizer: Tokenizer, source: str) -> WordTokens:
    def encode(text: str) -> list[int]:
        ids: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    return word_tokens(encode, _words(tokenizer), source=source, corrects=True)


def _read(path: Path) -> Tokenizer:
    try:
        size = path.stat().st_size
        if size > TOKENIZER_BYTES_MAX:
            raise TokensError(f"{path}: {size} bytes; a tokenizer.json may have {TOKENIZER_BYTES_MAX}")
        tokenizer = Tokenizer.from_file(str(path))
    except OSError as error:
        raise TokensError(f"{path}: {error.strerror or error}; give a tokenizer.json or its directory") from None
    except TokensError:
        raise
    except Exception as error:  # the library raises nothing more precise
        raise TokensError(f"{path} is not a tokenizer.json ({error})") from None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _words(tokenizer: Tokenizer) -> list[str]:
    """Words of small letters in the vocabulary, the most frequent first; at most twice as many as will be used."""
    found = list(dict.fromkeys(_plain(tokenizer)))
    return found[: 2 * WORDS_MAX]


def _plain(tokenizer: Tokenizer) -> Iterator[str]:
    for token, _ in sorted(tokenizer.get_vocab().items(), key=lambda item: item[1]):
        word = token.lstrip("Ġ▁ ")
        if LETTERS_MIN <= len(word) <= LETTERS_MAX and word.isascii() and word.isalpha() and word.islower():
            yield word
