"""Texts have just as many tokens as was asked for, by several tokenizers and by the server's own count."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from random import Random
from threading import Thread
from typing import Any

import pytest
from tokenizers import Tokenizer, models

from headway.bench.target import Target
from headway.bench.tokens import TokensError, WordTokens, word_tokens
from headway.bench.tokens_local import bundled, from_file
from headway.bench.tokens_server import from_server
from headway.models.source import BUNDLED_DIRECTORY
from tests.bench.tokenizers_made import WORDS, bytes_tokenizer, joining_tokenizer

LENGTHS = (1, 2, 3, 17, 100, 1000)


def _saved(tokenizer: Tokenizer, folder: Path) -> Path:
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


@pytest.mark.parametrize("make", [bytes_tokenizer, joining_tokenizer], ids=["splits", "joins"])
def test_counts_of_a_given_tokenizer_are_exact(make: Any, tmp_path: Path) -> None:
    tokens = from_file(_saved(make(), tmp_path))
    assert tokens.is_exact == (make is bytes_tokenizer)
    fresh = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    for n in LENGTHS:
        text = tokens.text(n, Random(n))
        assert len(fresh.encode(text, add_special_tokens=False).ids) == n


def test_counts_of_the_bundled_tokenizer_are_exact_also_within_a_chat_template() -> None:
    tokens = bundled()
    assert tokens.is_exact
    bare = tokens.count("<|im_start|>user\n<|im_end|>\n<|im_start|>assistant\n")
    for n in LENGTHS:
        text = tokens.text(n, Random(n))
        assert text == text.strip()
        assert tokens.count(text) == n
        assert tokens.count(f"<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n") == bare + n
    assert tokens.text(0, Random(0)) == ""


def test_texts_joined_by_a_space_have_as_many_tokens_as_they_had_and_shorter_ones_begin_longer_ones() -> None:
    tokens, rng = bundled(), Random(5)
    assert tokens.count(f"{tokens.text(40, rng)} {tokens.text(60, rng)}") == 100
    assert tokens.text(50, Random(1)).startswith(tokens.text(20, Random(1)) + " ")


def test_a_tokenizer_without_english_words_is_refused() -> None:
    with pytest.raises(TokensError, match="only 0 English words are one token each"):
        word_tokens(lambda text: [ord(each) for each in text], WORDS, source="letters", corrects=True)


@pytest.mark.parametrize(("content", "said"), [(None, "No such file"), ("{", "is not a tokenizer.json")])
def test_a_tokenizer_that_can_not_be_read_is_one_line(content: str | None, said: str, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(TokensError, match=said) as caught:
        from_file(path)
    assert "\n" not in str(caught.value)


FORMS = ("prompt", "content", "inputs")


@contextmanager
def tokenizing_server(form: str, tokenizer: Tokenizer) -> Iterator[Target]:
    """Answers ``/tokenize`` as vLLM, llama.cpp or TGI does, the last with a special token in front; and closes each
    connection after some requests."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1
        served = 0

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            self.served += 1
            status, answer = self.answer(body)
            content = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)
            self.close_connection = self.served == 5

        def answer(self, body: dict[str, Any]) -> tuple[int, object]:
            if self.headers["authorization"] != "Bearer sesame":
                return 401, {"error": "no"}
            if self.path != "/tokenize" or form not in FORMS:
                return 404, {"error": "nothing here"}
            if form not in body:
                return (200, {"tokens": []}) if form == "content" else (422, {"error": "field missing"})
            ids = tokenizer.encode(body[form], add_special_tokens=False).ids
            if form == "inputs":
                return 200, [{"id": each} for each in [99999, *ids]]
            return 200, {"tokens": ids, "count": len(ids)}

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield Target.at(f"http://127.0.0.1:{server.server_port}/v1", model="a model", key="sesame")
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def local() -> WordTokens:
    return bundled()


@pytest.mark.parametrize("form", FORMS)
def test_the_server_counts_in_each_form(form: str, local: WordTokens) -> None:
    tokenizer = Tokenizer.from_file(str(BUNDLED_DIRECTORY / "tokenizer.json"))
    with tokenizing_server(form, tokenizer) as target:
        tokens = from_server(target)
        assert tokens.source == f"/tokenize of {target.url}"
        assert tokens.count("Hello, is there anybody?") == local.count("Hello, is there anybody?")
        assert tokens.count("") == 0
    for n in LENGTHS:  # made without asking the server again
        assert local.count(tokens.text(n, Random(n))) == n


def test_a_server_whose_tokenizer_knows_none_of_the_words_is_one_line() -> None:
    letters = Tokenizer(models.WordLevel({"?": 0}, unk_token="?"))
    with tokenizing_server("prompt", letters) as target, pytest.raises(TokensError, match="English words"):
        from_server(target)


def test_words_that_do_not_add_up_and_can_not_be_corrected_are_said_so() -> None:
    tokenizer = joining_tokenizer()
    made = word_tokens(lambda text: tokenizer.encode(text).ids, WORDS, source="this one", corrects=False)
    assert made.source == "this one, whose words don't add up: prompts may be some tokens off"
    assert made.count(made.text(500, Random(1))) == pytest.approx(500, rel=0.02)


@pytest.mark.parametrize(
    ("form", "key", "said"), [("none", "sesame", "answers 404"), ("prompt", "wrong", "answers 401")]
)
def test_a_server_that_does_not_tokenize_is_one_line(form: str, key: str, said: str) -> None:
    with tokenizing_server(form, bytes_tokenizer()) as target:
        asked = Target.at(target.url, key=key)
        with pytest.raises(TokensError, match=rf"127\.0\.0\.1:{target.port}/tokenize {said}; give a tokenizer"):
            from_server(asked)
    with pytest.raises(TokensError, match="Connection refused"):
        from_server(asked)
