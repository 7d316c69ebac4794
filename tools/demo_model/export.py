"""Writes the trained model as a directory that Headway, and transformers, can load."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

from tools.demo_model.llama import Llama, Shape
from tools.demo_model.text import CHAT_END, CHAT_TEMPLATE, END_OF_TEXT, SPECIAL_TOKENS

WEIGHTS = "model.safetensors"
HISTORY = "training.json"
CARD = Path(__file__).with_name("model_card.md")


@dataclass(frozen=True)
class Record:
    """How one run of the training went, for the model card."""

    command: str
    steps: int
    tokens: int
    seconds: float
    loss: float
    """Held-out loss in nats per learned token."""


def export(directory: Path, model: Llama, tokenizer: Tokenizer, shape: Shape, history: Sequence[Record]) -> None:
    """Write weights (bf16), configuration, tokenizer, chat template and model card; existing files are replaced."""
    directory.mkdir(parents=True, exist_ok=True)
    weights = {name: tensor.detach().to(torch.bfloat16).contiguous() for name, tensor in model.state_dict().items()}
    save_file(weights, directory / WEIGHTS, metadata={"format": "pt"})
    (directory / WEIGHTS).chmod(0o644)  # the library writes it for its owner only
    ends = [SPECIAL_TOKENS.index(CHAT_END), SPECIAL_TOKENS.index(END_OF_TEXT)]
    _write_json(directory / "config.json", _config(shape, ends))
    _write_json(
        directory / "generation_config.json", {"do_sample": False, "eos_token_id": ends, "pad_token_id": ends[1]}
    )
    tokenizer.save(str(directory / "tokenizer.json"))
    _write_json(directory / "tokenizer_config.json", _tokenizer_config(shape))
    _write_json(directory / HISTORY, {"runs": [asdict(record) for record in history]})
    (directory / "MODEL_CARD.md").write_text(_card(model, shape, history), encoding="utf-8")


def resume(directory: Path, model: Llama) -> list[Record]:
    """Load the weights of an earlier export into ``model``; returns the runs that led to them."""
    weights = load_file(directory / WEIGHTS)
    model.load_state_dict({name: tensor.float() for name, tensor in weights.items()})
    runs = json.loads((directory / HISTORY).read_text(encoding="utf-8"))["runs"]
    return [Record(**run) for run in runs]


def _config(shape: Shape, ends: list[int]) -> dict[str, Any]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": shape.vocabulary,
        "hidden_size": shape.hidden,
        "intermediate_size": shape.inner,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head,
        "hidden_act": "silu",
        "max_position_embeddings": shape.context,
        "rms_norm_eps": shape.norm_epsilon,
        "rope_theta": shape.rope_theta,
        "rope_scaling": None,
        "attention_bias": False,
        "mlp_bias": False,
        "attention_dropout": 0.0,
        "tie_word_embeddings": True,
        "initializer_range": 0.02,
        "bos_token_id": None,
        "eos_token_id": ends,
        "pad_token_id": ends[1],
        "torch_dtype": "bfloat16",
        "use_cache": True,
    }


def _tokenizer_config(shape: Shape) -> dict[str, Any]:
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": shape.context,
        "bos_token": None,
        "eos_token": CHAT_END,
        "pad_token": END_OF_TEXT,
        "unk_token": None,
        "clean_up_tokenization_spaces": False,
        "chat_template": CHAT_TEMPLATE,
    }


def _card(model: Llama, shape: Shape, history: Sequence[Record]) -> str:
    values = {
        "parameters": f"{sum(parameter.numel() for parameter in model.parameters()) / 1e6:.2f}",
        "vocabulary": str(shape.vocabulary),
        "hidden": str(shape.hidden),
        "layers": str(shape.layers),
        "heads": str(shape.heads),
        "kv_heads": str(shape.kv_heads),
        "context": str(shape.context),
        "commands": "\n".join(f"    {record.command}" for record in history),
        "steps": f"{sum(record.steps for record in history):,}",
        "tokens": f"{sum(record.tokens for record in history) / 1e6:.1f}",
        "minutes": f"{sum(record.seconds for record in history) / 60:.0f}",
        "loss": f"{history[-1].loss:.3f}",
    }
    text = CARD.read_text(encoding="utf-8")
    for key, value in values.items():
        text = text.replace(f"{{{key}}}", value)
    return text


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
