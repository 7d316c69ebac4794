"""Small tokenizers of the two kinds that checkpoints have, made from a few words."""

from __future__ import annotations

import json
from typing import Any

from tokenizers import Tokenizer
from tokenizers.pre_tokenizers import ByteLevel

WORDS = [" hello", " world", " the", " cat", "hello", "user", "assistant", "system", "\n\n", "日本"]
CHATML = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
LLAMA = ["<unk>", "<s>", "</s>"]


def byte_level(special: list[str] = CHATML, *, marked: list[str] | None = None, **parts: Any) -> Tokenizer:
    """Tokens are spelt in bytes, as GPT-2, Llama 3 and Qwen do. ``marked``: found in any text, but not special."""
    step = ByteLevel(add_prefix_space=False, use_regex=False)
    spelt = ["".join(piece for piece, _ in step.pre_tokenize_str(word)) for word in WORDS]
    described: dict[str, Any] = {
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        **parts,
    }
    return _tokenizer([*special, *sorted(ByteLevel.alphabet())], spelt, special, marked or [], described)


def sentence_piece(special: list[str] = LLAMA, **parts: Any) -> Tokenizer:
    """Tokens are spelt in text, as Llama 2 and Mistral do; what no token spells falls back to bytes."""
    alphabet = ["▁", *"abcdefghijklmnopqrstuvwxyz<>/|_[]"]
    described: dict[str, Any] = {
        "normalizer": {
            "type": "Sequence",
            "normalizers": [
                {"type": "Prepend", "prepend": "▁"},
                {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
            ],
        },
        "pre_tokenizer": None,
        "decoder": {
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
                {"type": "Strip", "content": " ", "start": 1, "stop": 0},
            ],
        },
        "model": {"byte_fallback": True, "fuse_unk": True, "unk_token": "<unk>"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}},
        },
        **parts,
    }
    words = [word.replace(" ", "▁") for word in WORDS if word.isascii() and word.isprintable()]
    return _tokenizer([*special, *(f"<0x{byte:02X}>" for byte in range(256)), *alphabet], words, special, [], described)


def _tokenizer(
    alphabet: list[str], words: list[str], special: list[str], marked: list[str], parts: dict[str, Any]
) -> Tokenizer:
    """BPE whose merges build each word from the left."""
    merges: dict[str, list[str]] = {}
    for word in words:
        for end in range(2, len(word) + 1):
            merges.setdefault(word[:end], [word[: end - 1], word[end - 1]])
    ids = {token: index for index, token in enumerate([*alphabet, *merges])}
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": parts.pop("normalized", False)}
    added = [{"id": ids[token], "content": token, **flags, "special": True} for token in special]
    added += [
        {"id": len(ids) + order, "content": token, **flags, "special": False} for order, token in enumerate(marked)
    ]
    model = {"type": "BPE", "vocab": ids, "merges": list(merges.values()), **parts.pop("model", {})}
    base = {"version": "1.0", "added_tokens": added, "normalizer": None, "post_processor": None}
    return Tokenizer.from_str(json.dumps({**base, **parts, "model": model}))
