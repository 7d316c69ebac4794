"""Reading a config.json: the names of many families, and files that are wrong."""

from __future__ import annotations

import pytest

from headway.models.config import parse_config
from headway.models.shapes import SHAPES, shape_config
from headway.plan.errors import PlanError
from headway.plan.known_models import from_engine
from headway.plan.model import Experts, Latent
from headway.plan.model_config import FAMILIES, read_model

LLAMA: dict[str, object] = {
    "model_type": "llama",
    "num_hidden_layers": 4,
    "hidden_size": 256,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "intermediate_size": 512,
    "vocab_size": 1000,
    "max_position_embeddings": 4096,
}
MOE = LLAMA | {
    "model_type": "qwen3_moe",
    "num_experts": 8,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 128,
}


def refusal(values: dict[str, object]) -> str:
    with pytest.raises(PlanError) as caught:
        read_model(values, "my-model")
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 400
    return message


def test_a_dense_decoder() -> None:
    model = read_model(LLAMA, "my-model")
    assert (model.layers, model.hidden, model.heads, model.kv_heads, model.head_dim) == (4, 256, 8, 2, 32)
    assert (model.ffn, model.ffn_matrices, model.vocab, model.tied, model.context_tokens) == (512, 3, 1000, False, 4096)
    assert (model.windows, model.experts, model.latent) == ((), None, None)
    assert model.name in model.source


def test_the_engine_counts_the_same() -> None:
    """But for biases, which the planner leaves out."""
    for shape in SHAPES:
        config = shape_config(shape)
        assert from_engine(config, shape).parameters == pytest.approx(config.parameters, rel=1e-3)


@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2", "qwen3"])
def test_families_of_the_engine_read_alike(family: str) -> None:
    values = LLAMA | {"model_type": family, "head_dim": 64, "tie_word_embeddings": True, "eos_token_id": 1}
    config = parse_config(values)
    model = read_model(values, "my-model")
    assert model.parameters == pytest.approx(config.parameters, rel=2e-3)
    seen = sum(layers for layers, _ in model.windows)
    assert seen == sum(window is not None and window < 4096 for window in config.windows)


@pytest.mark.parametrize(
    ("family", "values"),
    [
        ("gpt2", {"n_layer": 4, "n_embd": 256, "n_head": 8, "vocab_size": 1000, "n_positions": 512}),
        ("gptj", {"n_layer": 4, "n_embd": 256, "n_head": 8, "vocab_size": 1000, "n_positions": 512, "n_inner": None}),
        ("bloom", {"n_layer": 4, "n_embed": 256, "num_attention_heads": 8, "vocab_size": 1000, "seq_length": 512}),
        ("mpt", {"n_layers": 4, "d_model": 256, "n_heads": 8, "vocab_size": 1000, "max_seq_len": 512}),
    ],
)
def test_names_of_older_families(family: str, values: dict[str, object]) -> None:
    model = read_model({"model_type": family, **values}, "my-model")
    assert (model.layers, model.hidden, model.heads, model.kv_heads, model.ffn) == (4, 256, 8, 8, 1024)
    assert (model.ffn_matrices, model.context_tokens) == (2, 512)
    assert model.tied == (family != "gptj")


@pytest.mark.parametrize(
    ("values", "kv_heads"),
    [
        ({"multi_query": True}, 1),
        ({}, 1),
        ({"multi_query": False}, 8),
        ({"new_decoder_architecture": True, "num_kv_heads": 4}, 4),
        ({"new_decoder_architecture": True}, 8),
    ],
)
def test_falcon_shares_kv_heads_in_three_ways(values: dict[str, object], kv_heads: int) -> None:
    base = {"model_type": "falcon", "num_hidden_layers": 4, "hidden_size": 256, "num_attention_heads": 8}
    assert read_model({**base, "vocab_size": 1000, **values}, "my-model").kv_heads == kv_heads


@pytest.mark.parametrize(
    ("values", "all_reduces"),
    [
        ({}, 1),
        ({"parallel_attn": False}, 2),
        ({"parallel_attn": False, "new_decoder_architecture": True, "num_kv_heads": 2}, 1),
    ],
)
def test_falcon_adds_up_attention_and_feed_forward_together(values: dict[str, object], all_reduces: int) -> None:
    base = {"model_type": "falcon", "num_hidden_layers": 4, "hidden_size": 256, "num_attention_heads": 8}
    assert read_model(base | {"vocab_size": 1000} | values, "f").all_reduces == all_reduces
    assert read_model(LLAMA, "l").all_reduces == 2


def test_mpt_keeps_kv_heads_inside() -> None:
    values = {"model_type": "mpt", "n_layers": 4, "d_model": 256, "n_heads": 8, "vocab_size": 1000}
    assert read_model({**values, "attn_config": {"kv_n_heads": 2}}, "my-model").kv_heads == 2
    assert "must be an integer" in refusal({**values, "attn_config": {"kv_n_heads": "two"}})


def test_head_dim_where_the_file_leaves_it_out() -> None:
    assert read_model(LLAMA | {"model_type": "qwen3"}, "my-model").head_dim == 128
    assert read_model(LLAMA | {"model_type": "gemma2"}, "my-model").head_dim == 256
    assert "head_dim is missing, and hidden_size 250" in refusal(LLAMA | {"hidden_size": 250})


def test_experts_in_all_layers() -> None:
    model = read_model(MOE, "my-model")
    assert model.experts == Experts(count=8, active=2, width=128, layers=4)
    mixtral = LLAMA | {"model_type": "mixtral", "num_local_experts": 8, "num_experts_per_tok": 2}
    assert read_model(mixtral, "my-model").experts == Experts(count=8, active=2, width=512, layers=4)


@pytest.mark.parametrize(
    ("values", "layers"),
    [
        ({"decoder_sparse_step": 2}, 2),
        ({"mlp_only_layers": [0, 3]}, 2),
        ({"first_k_dense_replace": 1}, 3),
        ({"first_k_dense_replace": 0}, 4),
        ({"moe_layers": [1, 3]}, 2),
        ({"interleave_moe_layer_step": 2}, 2),
    ],
)
def test_experts_in_some_layers(values: dict[str, object], layers: int) -> None:
    experts = read_model(MOE | values, "my-model").experts
    assert experts is not None
    assert experts.layers == layers


def test_experts_in_no_layer_are_none() -> None:
    assert read_model(MOE | {"mlp_only_layers": [0, 1, 2, 3]}, "my-model").experts is None
    assert read_model(MOE | {"num_experts": 1}, "my-model").experts is None


def test_shared_experts() -> None:
    two = read_model(MOE | {"model_type": "deepseek_v3", "n_shared_experts": 2}, "my-model").experts
    given = read_model(MOE | {"model_type": "qwen2_moe", "shared_expert_intermediate_size": 700}, "my-model").experts
    assert two is not None
    assert given is not None
    assert (two.shared_width, given.shared_width) == (256, 700)


def test_llama4_keeps_its_text_part_inside() -> None:
    inside = LLAMA | {
        "model_type": "llama4_text",
        "num_local_experts": 16,
        "num_experts_per_tok": 1,
        "intermediate_size_mlp": 1024,
        "interleave_moe_layer_step": 2,
        "attention_chunk_size": 1024,
    }
    model = read_model({"model_type": "llama4", "vision_config": {"hidden_size": 7}, "text_config": inside}, "my-model")
    assert model.experts == Experts(count=16, active=1, width=512, layers=2, shared_width=512)
    assert model.ffn == 1024
    assert model.windows == ((3, 1024),)


def test_a_model_that_sees_says_outside_that_its_head_is_its_embedding() -> None:
    inside = LLAMA | {"model_type": "qwen3_vl_text"}
    outside = {"model_type": "qwen3_vl", "tie_word_embeddings": True, "text_config": inside}
    assert read_model(outside, "my-model").tied
    assert not read_model(outside | {"tie_word_embeddings": None}, "my-model").tied


def test_latent_attention() -> None:
    latent = {"kv_lora_rank": 64, "qk_rope_head_dim": 16, "qk_nope_head_dim": 32, "v_head_dim": 32}
    model = read_model(MOE | latent | {"model_type": "deepseek_v3", "q_lora_rank": None}, "my-model")
    assert model.latent == Latent(kv_rank=64, rope_dim=16, q_rank=None, nope_dim=32, value_dim=32)
    assert (model.kv_heads, model.head_dim) == (8, 48)
    del latent["v_head_dim"]
    assert "v_head_dim is missing" in refusal(MOE | latent | {"model_type": "deepseek_v3"})


@pytest.mark.parametrize(
    ("family", "values", "windows"),
    [
        ("llama", {"sliding_window": None}, ()),
        ("mistral", {"sliding_window": None}, ()),
        ("mistral", {"sliding_window": 1024}, ((4, 1024),)),
        ("mistral", {"sliding_window": 4096}, ()),
        ("mistral", {"max_position_embeddings": 8192}, ((4, 4096),)),
        ("qwen2", {"sliding_window": 1024}, ()),
        ("qwen2", {"sliding_window": 1024, "use_sliding_window": True, "max_window_layers": 1}, ((3, 1024),)),
        ("gemma2", {"sliding_window": 1024}, ((2, 1024),)),
        ("gemma3_text", {"sliding_window": 1024, "num_hidden_layers": 12}, ((10, 1024),)),
        ("gpt_oss", {"sliding_window": 128}, ((2, 128),)),
        ("cohere2", {"sliding_window": 128, "sliding_window_pattern": 2}, ((2, 128),)),
        (
            "gpt_oss",
            {"sliding_window": 128, "layer_types": ["full_attention"] * 3 + ["sliding_attention"]},
            ((1, 128),),
        ),
    ],
)
def test_windows(family: str, values: dict[str, object], windows: tuple[tuple[int, int], ...]) -> None:
    assert read_model(LLAMA | {"model_type": family} | values, "my-model").windows == windows


def test_what_is_planned_as_something_else_is_said() -> None:
    assert "sparse attention" in read_model(LLAMA | {"model_type": "deepseek_v32"}, "my-model").assumed
    assert not read_model(LLAMA, "my-model").assumed


@pytest.mark.parametrize(
    "field", ["num_hidden_layers", "hidden_size", "num_attention_heads", "intermediate_size", "vocab_size"]
)
def test_a_missing_field_is_named_with_all_that_is_needed(field: str) -> None:
    message = refusal({name: value for name, value in LLAMA.items() if name != field})
    assert message.startswith(f"config.json of my-model: {field} is missing (also called")
    assert "needed: num_hidden_layers, hidden_size" in message


@pytest.mark.parametrize("value", ["many", -1, 0, 2.5, True, [4], {"a": 1}, 1 << 40])
@pytest.mark.parametrize("field", ["num_hidden_layers", "hidden_size", "vocab_size", "num_key_value_heads"])
def test_a_size_that_is_none_is_named(field: str, value: object) -> None:
    message = refusal(LLAMA | {field: value})
    assert field in message


def test_sizes_beyond_all_models() -> None:
    assert "vocab_size = 20000000 is more than" in refusal(LLAMA | {"vocab_size": 20_000_000})


def test_heads_that_do_not_fit_each_other() -> None:
    assert "8 attention heads are not a multiple of 3 KV heads" in refusal(LLAMA | {"num_key_value_heads": 3})


def test_more_active_experts_than_there_are() -> None:
    assert "9 experts for each token, but there are 8" in refusal(MOE | {"num_experts_per_tok": 9})
    assert "num_experts_per_tok is missing" in refusal(MOE | {"num_experts_per_tok": None})


def test_layer_types_must_name_each_layer() -> None:
    base = LLAMA | {"model_type": "gpt_oss", "sliding_window": 128}
    assert "each of the 4 layers" in refusal(base | {"layer_types": ["full_attention"]})
    assert "each of the 4 layers" in refusal(base | {"layer_types": ["linear_attention"] * 4})
    assert "each of the 4 layers" in refusal(LLAMA | {"layer_types": ["linear_attention"] * 4})
    assert "layer_types must be a list" in refusal(base | {"layer_types": "all"})


@pytest.mark.parametrize(
    ("values", "what"),
    [
        ({"is_encoder_decoder": True}, "an encoder and a decoder"),
        ({"state_size": 16}, "state-space layers"),
        ({"linear_num_key_heads": 16}, "linear attention"),
    ],
)
def test_other_architectures_are_refused(values: dict[str, object], what: str) -> None:
    assert what in refusal(LLAMA | values)
    assert not read_model(LLAMA | dict.fromkeys(values), "my-model").assumed


@pytest.mark.parametrize("kind", ["novel", "", None])
def test_an_unknown_family_is_refused_with_what_would_work(kind: object) -> None:
    message = refusal(LLAMA | {"model_type": kind})
    assert "is not known; if its layers are like Llama's, plan a copy that says llama" in message
    assert "intermediate_size, vocab_size" in message
    assert "model_type must be a string" in refusal(LLAMA | {"model_type": 5})


def test_layers_of_every_family_read() -> None:
    for kind in FAMILIES:
        assert read_model(LLAMA | {"model_type": kind}, "my-model").layers == 4


def test_an_empty_file() -> None:
    assert "is not known" in refusal({})
