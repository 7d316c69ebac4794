"""The bundled demo model: complete, small, and sensible in its small world. Checked with transformers alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import headway.models

BUNDLED = Path(headway.models.__file__).parent / "bundled"
SIZE_LIMIT_BYTES = 12_000_000
ANSWER_TOKENS = 120


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(BUNDLED)


@pytest.fixture(scope="module")
def model() -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(BUNDLED, dtype=torch.float32)


def answer(model: Any, tokenizer: Any, *messages: str) -> str:
    """The greedy answer to a chat of messages, the user's first, in turn."""
    chat = [{"role": ("user", "assistant")[at % 2], "content": text} for at, text in enumerate(messages)]
    inputs = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    with torch.inference_mode():
        output = model.generate(**inputs, max_new_tokens=ANSWER_TOKENS, do_sample=False)
    return str(tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))


def test_the_files_are_complete_and_small() -> None:
    names = {path.name for path in BUNDLED.iterdir()}
    assert names >= {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json"}
    assert names >= {"tokenizer_config.json", "MODEL_CARD.md"}
    assert sum(path.stat().st_size for path in BUNDLED.iterdir()) < SIZE_LIMIT_BYTES


def test_the_card_is_filled_in_and_names_no_path_of_a_machine() -> None:
    card = (BUNDLED / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "{" not in card
    assert "Apache-2.0" in card
    assert " /" not in card


def test_the_special_tokens_are_the_first_ids(tokenizer: Any) -> None:
    assert tokenizer.convert_tokens_to_ids(["<|endoftext|>", "<|im_start|>", "<|im_end|>"]) == [0, 1, 2]
    config = json.loads((BUNDLED / "config.json").read_text(encoding="utf-8"))
    assert config["eos_token_id"] == [2, 0]
    assert config["vocab_size"] == len(tokenizer)


@pytest.mark.parametrize("text", ["Hello, world", "  two  spaces\n\n", "naïve café 漢字 🙂", "a\x00b", "<|im_end|>x"])
def test_any_text_survives_the_tokenizer(tokenizer: Any, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False)) == text


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("Who are you?", "headway"),
        ("What is the capital of France?", "paris"),
        ("what is the capital of japan", "tokyo"),
        ("What is the opposite of big?", "small"),
        ("What do cows eat?", "grass"),
        ("What is a baby cat called?", "kitten"),
        ("Count to 5.", "1, 2, 3, 4, 5"),
        ("What is latency?", "latency"),
        ("Tell me a story about a fox.", "fox"),
        ("Name three fruits.", "and"),
        ("Write a python function.", "code"),
    ],
)
def test_it_answers_within_its_small_world(model: Any, tokenizer: Any, question: str, expected: str) -> None:
    assert expected in answer(model, tokenizer, question).lower()


def test_a_story_goes_on(model: Any, tokenizer: Any) -> None:
    story = answer(model, tokenizer, "Tell me a story about a bear.")
    assert len(answer(model, tokenizer, "Tell me a story about a bear.", story, "What happened next?").split()) > 20
