"""What a decoder is, as one record: read from a checkpoint's config.json, whatever its family.

The families differ in a handful of switches, so there is one record and one decoder, and no file per family.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from headway.models.errors import ModelError
from headway.models.fields import Fields
from headway.models.rotary import RopeConfig, parse_rope

FAMILIES = ("llama", "mistral", "qwen2", "qwen3")
DTYPES = ("bfloat16", "float16", "float32")
ACTIVATIONS = ("silu", "swish")
WINDOW_DEFAULT = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """A decoder-only transformer: pre-norm blocks with RMS norm, rotary positions and a gated SiLU feed-forward.

    Query head ``h`` reads key/value head ``h // (heads // kv_heads)``. ``windows[layer]`` is how many positions a
    token of that layer sees, itself included; None means all. ``dtype`` is what the checkpoint says it stores.
    """

    family: str
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    context_tokens: int
    norm_epsilon: float
    rope: RopeConfig
    windows: tuple[int | None, ...]
    tied_embeddings: bool
    qkv_bias: bool
    output_bias: bool
    mlp_bias: bool
    qk_norm: bool
    dtype: str
    eos_token_ids: tuple[int, ...]

    @property
    def parameters(self) -> int:
        """The number of weights, a tied embedding counted once."""
        heads = self.heads + 2 * self.kv_heads
        attention = self.hidden_size * self.head_dim * (heads + self.heads)
        biases = self.head_dim * heads * self.qkv_bias + self.hidden_size * (self.output_bias + self.mlp_bias)
        biases += 2 * self.intermediate_size * self.mlp_bias
        norms = 2 * self.hidden_size + 2 * self.head_dim * self.qk_norm
        block = attention + 3 * self.hidden_size * self.intermediate_size + biases + norms
        embeddings = self.vocab_size * self.hidden_size * (1 if self.tied_embeddings else 2)
        return self.layers * block + embeddings + self.hidden_size


def parse_config(values: Mapping[str, object]) -> ModelConfig:
    """The record behind a parsed config.json. Raises ``ModelError`` for anything this decoder doesn't compute.

    Absent fields mean what the families' own code takes them to mean.
    """
    fields = Fields(values, "config.json")
    family = fields.text("model_type")
    _refuse_foreign(values, fields, family)
    hidden, heads = fields.integer("hidden_size"), fields.integer("num_attention_heads")
    kv_heads = fields.integer("num_key_value_heads", heads)
    if heads % kv_heads != 0:
        raise ModelError(
            f"config.json: num_attention_heads {heads} is not a multiple of num_key_value_heads {kv_heads}"
        )
    head_dim = fields.optional_integer("head_dim") or (128 if family == "qwen3" else hidden // heads)
    if head_dim % 2 != 0 or head_dim < 2:
        raise ModelError(f"config.json: head_dim {head_dim} must be even, for rotary positions")
    layers, context = fields.integer("num_hidden_layers"), fields.integer("max_position_embeddings")
    attention_bias = family in ("llama", "qwen3") and fields.flag("attention_bias", False)
    return ModelConfig(
        family=family,
        vocab_size=fields.integer("vocab_size"),
        hidden_size=hidden,
        intermediate_size=fields.integer("intermediate_size"),
        layers=layers,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        context_tokens=context,
        norm_epsilon=fields.number("rms_norm_eps", 1e-6, above=0.0),
        rope=parse_rope(values, context),
        windows=_windows(values, family, layers),
        tied_embeddings=fields.flag("tie_word_embeddings", False),
        qkv_bias=attention_bias or family == "qwen2",
        output_bias=attention_bias,
        mlp_bias=family == "llama" and fields.flag("mlp_bias", False),
        qk_norm=family == "qwen3",
        dtype=_dtype(fields),
        eos_token_ids=fields.integers("eos_token_id"),
    )


def _refuse_foreign(values: Mapping[str, object], fields: Fields, family: str) -> None:
    if values.get("auto_map"):
        raise ModelError("config.json: auto_map asks to run code from the checkpoint, which is never done")
    if family not in FAMILIES:
        raise ModelError(f"config.json: model_type {family!r} is not supported (supported: {', '.join(FAMILIES)})")
    if values.get("quantization_config"):
        raise ModelError("config.json: quantization_config: quantised checkpoints are not supported")
    activation = fields.text("hidden_act", "silu")
    if activation not in ACTIVATIONS:
        raise ModelError(f"config.json: hidden_act {activation!r} is not supported (must be 'silu')")


def _windows(values: Mapping[str, object], family: str, layers: int) -> tuple[int | None, ...]:
    """Which layers see only a window. Llama has none, Mistral has it in every layer, Qwen says layer by layer."""
    fields = Fields(values, "config.json")
    if family == "llama":
        return (None,) * layers
    # null means none; absent means the families' default
    window = fields.optional_integer("sliding_window") if "sliding_window" in values else WINDOW_DEFAULT
    if family == "mistral":
        return (window,) * layers
    if not fields.flag("use_sliding_window", False):
        return (None,) * layers
    types = fields.texts("layer_types")
    if types is None:
        first = fields.integer("max_window_layers", 28, least=0)
        return tuple(window if layer >= first else None for layer in range(layers))
    if len(types) != layers or not set(types) <= {"full_attention", "sliding_attention"}:
        raise ModelError(
            f"config.json: layer_types must name full_attention or sliding_attention for each of the {layers} layers"
        )
    return tuple(window if kind == "sliding_attention" else None for kind in types)


def _dtype(fields: Fields) -> str:
    dtype = fields.text("dtype", fields.text("torch_dtype", "float32"))
    if dtype not in DTYPES:
        raise ModelError(f"config.json: dtype {dtype!r} is not supported (supported: {', '.join(DTYPES)})")
    return dtype
