"""A model's arithmetic from its config.json, whatever the family: the names differ, the matrices hardly.

The names and defaults are those of the families' own configuration classes in transformers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from headway.models.config import WINDOW_DEFAULT
from headway.models.errors import ModelError
from headway.models.fields import Fields
from headway.plan.errors import PlanError
from headway.plan.model import Experts, Latent, ModelShape

LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
HIDDEN = ("hidden_size", "n_embd", "n_embed", "d_model")
HEADS = ("num_attention_heads", "n_head", "n_heads", "num_heads")
KV_HEADS = ("num_key_value_heads", "num_kv_heads", "n_head_kv", "num_attention_groups")
FFN = ("intermediate_size", "ffn_dim", "n_inner", "ffn_hidden_size", "feed_forward_size")
VOCABULARY = ("vocab_size", "padded_vocab_size")
CONTEXT = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length", "max_sequence_length", "n_ctx")
EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts")
EXPERTS_ACTIVE = ("num_experts_per_tok", "num_experts_per_token", "experts_per_token", "moe_topk", "moe_top_k")

CONTEXT_DEFAULT = 2048
"""Of families whose positions have no limit in the file (ALiBi)."""

NEEDED = "num_hidden_layers, hidden_size, num_attention_heads, intermediate_size, vocab_size"

NESTED = ("text_config", "llm_config", "language_config", "language_model")
"""Where models that also see or hear keep the part that writes."""


@dataclass(frozen=True, slots=True)
class Family:
    """What a family takes for granted. ``gated``: three feed-forward matrices. ``ffn``: times hidden, where the file
    doesn't say. ``head_dim``: where the file doesn't say and it isn't hidden / heads. ``assumed``: see ModelShape."""

    gated: bool = True
    tied: bool = False
    ffn: int | None = None
    head_dim: int | None = None
    assumed: str = ""


GATED = Family()
SPARSE = Family(assumed="its sparse attention is planned as full attention")
FAMILIES: dict[str, Family] = {
    **dict.fromkeys(
        (
            "llama", "mistral", "mistral3", "ministral", "mixtral", "qwen2", "qwen2_moe", "qwen3_moe",
            "qwen3_vl_moe_text", "phi3", "phimoe", "yi", "internlm2", "internlm3", "baichuan", "deepseek_v2",
            "deepseek_v3", "kimi_k2", "gpt_oss", "olmo", "olmo2", "olmo3", "olmoe", "granite", "granitemoe", "glm",
            "glm4", "glm4_moe", "stablelm", "llama4", "llama4_text", "ernie4_5", "ernie4_5_moe", "mimo", "exaone",
            "exaone4", "seed_oss", "hunyuan_v1_dense", "smollm3", "minimax_m2",
        ),
        GATED,
    ),
    **dict.fromkeys(("deepseek_v32", "glm_moe_dsa"), SPARSE),
    **dict.fromkeys(("qwen3", "qwen3_vl_text"), Family(head_dim=128)),
    **dict.fromkeys(("cohere", "cohere2"), Family(tied=True)),
    **dict.fromkeys(("gemma", "gemma2", "gemma3", "gemma3_text"), Family(tied=True, head_dim=256)),
    "falcon": Family(gated=False, tied=True, ffn=4),
    "mpt": Family(gated=False, tied=True, ffn=4),
    "bloom": Family(gated=False, tied=True, ffn=4),
    "gpt2": Family(gated=False, tied=True, ffn=4),
    "gpt_bigcode": Family(gated=False, tied=True, ffn=4),
    "gptj": Family(gated=False, ffn=4),
    "gpt_neox": Family(gated=False, ffn=4),
    "phi": Family(gated=False),
    "opt": Family(gated=False, tied=True),
    "starcoder2": Family(gated=False, tied=True),
    "nemotron": Family(gated=False),
    "arcee": Family(gated=False),
}  # fmt: skip


FOREIGN = {
    "is_encoder_decoder": "an encoder and a decoder",
    "encoder_layers": "an encoder and a decoder",
    "state_size": "state-space layers",
    "ssm_cfg": "state-space layers",
    "mamba_d_state": "state-space layers",
    "ssm_state_size": "state-space layers",
    "linear_attn_config": "linear attention",
    "linear_num_key_heads": "linear attention",
    "full_attention_interval": "linear attention",
    "conv_L_cache": "convolutions",
}
"""Fields of models that are no plain transformer decoder, and what they are instead."""

LAYER_TYPES = ("full_attention", "sliding_attention", "chunked_attention")
FULL_EVERY = {"gemma2": 2, "gpt_oss": 2, "gemma3": 6, "gemma3_text": 6, "cohere2": 4, "llama4": 4, "llama4_text": 4}
"""Families in which one layer of so many sees all positions, the others a window."""

SIZE_MAX = 1 << 24


def read_model(values: Mapping[str, object], name: str) -> ModelShape:
    """The arithmetic of a parsed config.json. Raises ``PlanError`` naming the field that is missing or can't be."""
    try:
        return _read(values, name)
    except ModelError as error:
        raise PlanError(str(error)) from None


def _read(values: Mapping[str, object], name: str) -> ModelShape:
    values = _text_part(values)
    reader = _Reader(values, name)
    kind = reader.fields.text("model_type", "").lower()
    _refuse_foreign(values, kind, name)
    family = FAMILIES[kind]
    layers, hidden, heads = reader.size(LAYERS), reader.size(HIDDEN), reader.size(HEADS)
    latent = _latent(reader) if "kv_lora_rank" in values else None
    experts = _experts(reader, kind, layers)
    context = reader.size(CONTEXT, CONTEXT_DEFAULT)
    return ModelShape(
        name=name,
        layers=layers,
        hidden=hidden,
        heads=heads,
        kv_heads=heads if latent is not None else _kv_heads(reader, kind, heads),
        head_dim=_head_dim(reader, family, hidden, heads) if latent is None else latent.nope_dim + latent.rope_dim,
        ffn=_ffn(reader, kind, family, hidden, experts),
        ffn_matrices=3 if family.gated else 2,
        vocab=reader.size(VOCABULARY),
        tied=reader.fields.flag("tie_word_embeddings", family.tied),
        context_tokens=context,
        windows=_windows(reader, kind, layers, context),
        experts=experts,
        latent=latent,
        all_reduces=1 if _is_parallel(reader, kind) else 2,
        source=f"config.json of {name}",
        assumed=family.assumed,
    )


def _text_part(values: Mapping[str, object]) -> Mapping[str, object]:
    """The part that writes text, of a model that has others; what it leaves out is said outside of it."""
    for section in NESTED:
        part = values.get(section)
        if isinstance(part, Mapping) and any(field in part for field in LAYERS):
            return {field: values.get(field) for field in ("model_type", "tie_word_embeddings")} | dict(part)
    return values


def _refuse_foreign(values: Mapping[str, object], kind: str, name: str) -> None:
    for field, what in FOREIGN.items():
        if values.get(field):
            raise PlanError(f"{name}: {field} says it has {what}; only plain transformer decoders can be planned")
    if kind not in FAMILIES:
        raise PlanError(
            f"config.json of {name}: model_type {kind!r} is not known; if its layers are like Llama's, plan a copy "
            f"that says llama and has {NEEDED}"
        )


class _Reader:
    """Fields that go by several names."""

    def __init__(self, values: Mapping[str, object], name: str) -> None:
        self.values = values
        self.name = name
        self.fields = Fields(values, f"config.json of {name}")

    def size(self, names: tuple[str, ...], default: int | None = None) -> int:
        for field in names:
            if self.values.get(field) is not None:
                size = self.fields.integer(field)
                if size > SIZE_MAX:
                    raise PlanError(f"config.json of {self.name}: {field} = {size} is more than {SIZE_MAX}")
                return size
        if default is None:
            others = f" (also called {', '.join(names[1:])})" if names[1:] else ""
            raise PlanError(f"config.json of {self.name}: {names[0]} is missing{others}; needed: {NEEDED}")
        return default


def _kv_heads(reader: _Reader, kind: str, heads: int) -> int:
    if kind == "falcon" and not reader.fields.flag("new_decoder_architecture", False):
        return 1 if reader.fields.flag("multi_query", True) else heads
    if kind == "gpt_bigcode":
        return 1 if reader.fields.flag("multi_query", True) else heads
    if kind == "mpt":
        section = reader.values.get("attn_config")
        inner = section if isinstance(section, Mapping) else {}
        return _divides(_Reader(inner, reader.name).size(("kv_n_heads",), heads), heads, reader.name)
    return _divides(reader.size(KV_HEADS, heads), heads, reader.name)


def _is_parallel(reader: _Reader, kind: str) -> bool:
    """Whether attention and feed-forward of a layer share one all-reduce, as vLLM and TensorRT-LLM do it for Falcon.
    Other families with such layers (GPT-J, GPT-NeoX, Phi, Cohere) have two there all the same."""
    flag = reader.fields.flag
    return kind == "falcon" and (flag("new_decoder_architecture", False) or flag("parallel_attn", True))


def _divides(kv_heads: int, heads: int, name: str) -> int:
    if heads % kv_heads != 0:
        raise PlanError(f"config.json of {name}: {heads} attention heads are not a multiple of {kv_heads} KV heads")
    return kv_heads


def _head_dim(reader: _Reader, family: Family, hidden: int, heads: int) -> int:
    given = reader.size(("head_dim", "kv_channels"), family.head_dim or 0)
    if given:
        return given
    if hidden % heads != 0:
        raise PlanError(
            f"config.json of {reader.name}: head_dim is missing, and hidden_size {hidden} is not a multiple of "
            f"{heads} heads"
        )
    return hidden // heads


def _ffn(reader: _Reader, kind: str, family: Family, hidden: int, experts: Experts | None) -> int:
    """Of dense layers."""
    if kind == "mpt":
        return reader.size(("expansion_ratio",), 4) * hidden
    if kind.startswith("llama4"):
        return reader.size(("intermediate_size_mlp",), reader.size(FFN))
    times = family.ffn
    default = times * hidden if times is not None else experts.width if experts is not None else None
    return reader.size(FFN, default)


def _latent(reader: _Reader) -> Latent:
    return Latent(
        kv_rank=reader.size(("kv_lora_rank",)),
        rope_dim=reader.size(("qk_rope_head_dim",)),
        q_rank=reader.size(("q_lora_rank",)) if reader.values.get("q_lora_rank") is not None else None,
        nope_dim=reader.size(("qk_nope_head_dim",)),
        value_dim=reader.size(("v_head_dim",)),
    )


def _experts(reader: _Reader, kind: str, layers: int) -> Experts | None:
    count = reader.size(EXPERTS, 1)
    if count == 1:
        return None
    active = reader.size(EXPERTS_ACTIVE)
    if active > count:
        raise PlanError(f"config.json of {reader.name}: {active} experts for each token, but there are {count}")
    width = reader.size(("moe_intermediate_size", "expert_ffn_hidden_size", *FFN))
    sparse = _expert_layers(reader, layers)
    if sparse == 0:
        return None
    return Experts(count=count, active=active, width=width, layers=sparse, shared_width=_shared(reader, kind, width))


def _expert_layers(reader: _Reader, layers: int) -> int:
    listed = reader.values.get("moe_layers")
    if isinstance(listed, list) and listed:
        return len(set(reader.fields.integers("moe_layers")) & set(range(layers)))
    step = reader.size(("decoder_sparse_step", "interleave_moe_layer_step"), 1)
    first = reader.fields.integer("first_k_dense_replace", 0, least=0)
    dense = set(reader.fields.integers("mlp_only_layers"))
    return sum(layer >= first and (layer + 1) % step == 0 and layer not in dense for layer in range(layers))


def _shared(reader: _Reader, kind: str, width: int) -> int:
    """Width of what every token passes beside its experts."""
    if kind.startswith("llama4"):
        return width
    count = reader.fields.integer("n_shared_experts", 0, least=0)
    given = reader.fields.integer("shared_expert_intermediate_size", 0, least=0)
    return given or count * width


def _windows(reader: _Reader, kind: str, layers: int, context: int) -> tuple[tuple[int, int], ...]:
    types = _layer_types(reader, layers)
    if kind.startswith("llama4"):
        window = reader.size(("attention_chunk_size",), 8192)
    elif kind.startswith("qwen") and not reader.fields.flag("use_sliding_window", False):
        window = 0
    else:  # null means none; absent means the family's default
        default = WINDOW_DEFAULT if kind == "mistral" and "sliding_window" not in reader.values else 0
        window = reader.fields.integer("sliding_window", default, least=0)
    count = layers - types.count("full_attention") if types is not None else _windowed(reader, kind, layers)
    return ((count, window),) if count and 0 < window < context else ()


def _layer_types(reader: _Reader, layers: int) -> tuple[str, ...] | None:
    types = reader.fields.texts("layer_types")
    if types is not None and (len(types) != layers or not set(types) <= set(LAYER_TYPES)):
        raise PlanError(
            f"config.json of {reader.name}: layer_types must name {' or '.join(LAYER_TYPES)} for each of the "
            f"{layers} layers"
        )
    return types


def _windowed(reader: _Reader, kind: str, layers: int) -> int:
    """How many layers see only a window, where the file doesn't say it layer by layer."""
    if kind.startswith("qwen"):
        return max(0, layers - reader.fields.integer("max_window_layers", 28, least=0))
    if kind not in FULL_EVERY:
        return layers
    every = reader.size(("sliding_window_pattern", "no_rope_layer_interval"), FULL_EVERY[kind])
    return layers - layers // every
