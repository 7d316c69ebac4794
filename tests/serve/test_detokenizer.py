"""Tokens to text: however the text is split into tokens, a stream shows what the whole would be."""

from __future__ import annotations

from itertools import accumulate, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from headway.models.errors import ModelError
from headway.serve.detokenizer import Detokenizer, Spelling, spelling_of, token_bytes
from tests.serve.small_tokenizers import byte_level, sentence_piece

BYTES = st.one_of(st.binary(max_size=24), st.text(max_size=12).map(lambda text: text.encode("utf-8", "replace")))
LETTERS = st.text(alphabet="ab", max_size=24)


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    """The data cut at the given places."""
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[start:end] for start, end in pairwise(places)]


def stream(detokenizer: Detokenizer, tokens: int) -> tuple[str, str | None]:
    """All text of a stream of tokens 0 .. tokens - 1, and the stop string that ended it."""
    shown = ""
    for token in range(tokens):
        piece = detokenizer.push(token)
        shown += piece.text
        if piece.stop is not None:
            return shown, piece.stop
    return shown + detokenizer.flush(), None


def cut_at_first_stop(text: str, stops: tuple[str, ...]) -> str:
    """What is left before the stop string that is complete first; of those that end together, the longest."""
    found = [(text.find(stop) + len(stop), text.find(stop)) for stop in stops if stop in text]
    return text[: min(found)[1]] if found else text


@given(BYTES, st.lists(st.integers(min_value=0)))
def test_any_split_gives_the_text_of_the_whole(data: bytes, cuts: list[int]) -> None:
    vocabulary = pieces(data, cuts)
    assert stream(Detokenizer(vocabulary), len(vocabulary)) == (data.decode("utf-8", "replace"), None)


@given(
    LETTERS, st.lists(st.integers(min_value=0)), st.lists(st.text(alphabet="ab", min_size=1, max_size=5), max_size=3)
)
def test_any_split_stops_at_the_same_place(text: str, cuts: list[int], stops: list[str]) -> None:
    vocabulary = pieces(text.encode(), cuts)
    shown, stop = stream(Detokenizer(vocabulary, tuple(stops)), len(vocabulary))
    assert shown == cut_at_first_stop(text, tuple(stops))
    assert (stop is not None) == any(each in text for each in stops)


@given(st.text(max_size=16), st.text(min_size=1, max_size=3), st.lists(st.integers(min_value=0)))
def test_one_stop_string_is_what_find_finds(text: str, stop: str, cuts: list[int]) -> None:
    vocabulary = pieces(text.encode(), cuts)
    shown, _ = stream(Detokenizer(vocabulary, (stop,)), len(vocabulary))
    assert shown == text.partition(stop)[0]


@given(LETTERS, st.text(alphabet="ab", min_size=1, max_size=5))
def test_no_more_is_held_back_than_may_become_the_stop(text: str, stop: str) -> None:
    detokenizer = Detokenizer([each.encode() for each in text], (stop,))
    shown = ""
    for token, so_far in enumerate(accumulate(text)):
        piece = detokenizer.push(token)
        shown += piece.text
        if piece.stop:
            break
        held = max(size for size in range(len(stop)) if so_far.endswith(stop[:size]))
        assert shown == so_far[: len(so_far) - held]


def test_a_character_over_three_tokens_comes_whole() -> None:
    family = "👩‍👧".encode()
    detokenizer = Detokenizer([family[:1], family[1:3], family[3:]])
    assert [detokenizer.push(token).text for token in range(3)] == ["", "", "👩‍👧"]
    assert detokenizer.flush() == ""


def test_an_unfinished_character_is_replaced_at_the_end() -> None:
    detokenizer = Detokenizer([b"a\xf0\x9f"])
    assert detokenizer.push(0).text == "a"
    assert detokenizer.flush() == "\ufffd"


def test_a_stop_string_may_only_be_complete_at_the_end() -> None:
    detokenizer = Detokenizer([b"a", b"\xf0\x9f"], ("\ufffd",))
    detokenizer.push(0)
    detokenizer.push(1)
    assert detokenizer.flush() == ""


def test_text_behind_a_stop_string_in_the_same_token_is_not_shown() -> None:
    piece = Detokenizer([b"one STOP two"], ("STOP",)).push(0)
    assert (piece.text, piece.stop) == ("one ", "STOP")


def test_stop_strings_count_behind_the_least_number_of_tokens() -> None:
    detokenizer = Detokenizer([b"x.", b".", b"y."], (".",), min_tokens=2)
    assert [detokenizer.push(token).text for token in range(2)] == ["x.", "."]
    assert detokenizer.push(2).stop == "."


@pytest.mark.parametrize("trim", [True, False])
def test_only_the_very_first_space_is_trimmed(trim: bool) -> None:
    detokenizer = Detokenizer([b"", b"  a", b" b"], trim=trim)
    shown = "".join(detokenizer.push(token).text for token in range(3))
    assert shown == ("  a b".removeprefix(" ") if trim else "  a b")


@pytest.mark.parametrize("tokenizer", [byte_level(), byte_level(marked=["<think>", "two words"]), sentence_piece()])
@given(data=st.data())
def test_whole_texts_are_those_of_the_library(tokenizer: Tokenizer, data: st.DataObject) -> None:
    ids = tokenizer.encode(data.draw(st.text()), add_special_tokens=False).ids
    vocabulary = token_bytes(tokenizer, spelling_of(tokenizer), tokenizer.get_vocab_size())
    text = b"".join(vocabulary[each] for each in ids).decode("utf-8", "replace")
    if spelling_of(tokenizer) is Spelling.TEXT:
        text = text.removeprefix(" ")
    assert text == tokenizer.decode(ids, skip_special_tokens=True)


@given(st.lists(st.integers(0, byte_level(marked=["<think>"]).get_vocab_size() - 1)))
def test_any_tokens_give_the_text_of_the_library(ids: list[int]) -> None:
    tokenizer = byte_level(marked=["<think>"])
    vocabulary = token_bytes(tokenizer, Spelling.BYTES, tokenizer.get_vocab_size())
    text = b"".join(vocabulary[each] for each in ids).decode("utf-8", "replace")
    assert text == tokenizer.decode(ids, skip_special_tokens=True)


def test_ids_that_pad_the_vocabulary_stand_for_nothing() -> None:
    tokenizer = byte_level()
    size = tokenizer.get_vocab_size()
    assert token_bytes(tokenizer, Spelling.BYTES, size + 5)[size:] == [b""] * 5


def test_every_byte_has_a_token() -> None:
    tokenizer = byte_level()
    vocabulary = token_bytes(tokenizer, Spelling.BYTES, tokenizer.get_vocab_size())
    assert {bytes([byte]) for byte in range(256)} <= set(vocabulary)


@pytest.mark.parametrize("decoder", [None, {"type": "WordPiece", "prefix": "##", "cleanup": True}])
def test_other_kinds_of_tokenizer_are_refused(decoder: object) -> None:
    with pytest.raises(ModelError, match="not supported"):
        spelling_of(byte_level(decoder=decoder))
