"""A model's arithmetic, against counts done by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from headway.plan.errors import PlanError
from headway.plan.known_models import find_model
from headway.plan.model import Matrix, ModelShape
from headway.plan.precision import Precision

LLAMA_8B = find_model("llama-3.1-8b")
LLAMA_70B = find_model("llama-3.1-70b")
MIXTRAL = find_model("mixtral-8x7b")
R1 = find_model("deepseek-r1")
GPT_OSS = find_model("gpt-oss-120b")


def named(model: ModelShape, name: str, tp: int = 1) -> Matrix:
    return next(matrix for matrix in model.matrices(tp) if matrix.name == name)


def test_parameters_by_hand() -> None:
    block = 4096 * (4096 + 2 * 1024) + 4096 * 4096 + 3 * 4096 * 14336 + 2 * 4096
    assert LLAMA_8B.parameters == 32 * block + 2 * 128_256 * 4096 + 4096


def test_a_tied_embedding_counts_once_and_its_product_all_the_same() -> None:
    tied = replace(LLAMA_8B, tied=True)
    assert LLAMA_8B.parameters - tied.parameters == 128_256 * 4096
    assert tied.active_parameters == LLAMA_8B.active_parameters


def test_active_parameters_leave_out_the_embedding_and_idle_experts() -> None:
    norms = 65 * 4096
    assert LLAMA_8B.active_parameters == LLAMA_8B.parameters - 128_256 * 4096 - norms
    expert = 3 * 4096 * 14336
    assert MIXTRAL.active_parameters == MIXTRAL.parameters - 32_000 * 4096 - norms - 32 * 6 * expert


@pytest.mark.parametrize(("tp", "heads"), [(1, 8), (2, 4), (8, 1), (16, 1), (32, 1)])
def test_kv_bytes_under_tensor_parallelism(tp: int, heads: int) -> None:
    assert LLAMA_8B.kv_bytes_per_token(Precision.BF16, tp) == 2 * 32 * heads * 128 * 2
    assert LLAMA_8B.kv_bytes_per_token(Precision.FP8, tp) == 2 * 32 * heads * 128


def test_published_kv_bytes() -> None:
    assert find_model("mpt-7b").kv_bytes_per_token(Precision.BF16) == 524_288
    assert LLAMA_70B.kv_bytes_per_token(Precision.BF16) == 327_680


def test_latent_attention_keeps_the_whole_cache_on_every_gpu() -> None:
    assert R1.kv_bytes_per_token(Precision.BF16) == 61 * (512 + 64) * 2
    assert R1.kv_bytes_per_token(Precision.BF16, 8) == R1.kv_bytes_per_token(Precision.BF16)


def test_layers_with_a_window_stop_growing() -> None:
    layer = 2 * 8 * 64 * 2
    assert GPT_OSS.kv_bytes_per_token(Precision.BF16) == 18 * layer
    assert GPT_OSS.kv_bytes(100, Precision.BF16) == 36 * layer * 100
    assert GPT_OSS.kv_bytes(1000, Precision.BF16) == 18 * layer * 1000 + 18 * layer * 128
    assert GPT_OSS.kv_bytes(1000, Precision.BF16, 8) == GPT_OSS.kv_bytes(1000, Precision.BF16) / 8


def test_products_of_a_layer_and_their_shares() -> None:
    assert named(LLAMA_8B, "qkv") == Matrix(name="qkv", inputs=4096, outputs=6144, count=32)
    assert named(LLAMA_8B, "qkv", 4) == Matrix(name="qkv", inputs=4096, outputs=1536, count=32)
    assert named(LLAMA_8B, "qkv", 16).outputs == (2 + 2) * 128  # one KV head is repeated on two GPUs
    assert named(LLAMA_8B, "output", 4) == Matrix(name="output", inputs=1024, outputs=4096, count=32)
    assert named(LLAMA_8B, "up", 4) == Matrix(name="up", inputs=4096, outputs=2 * 3584, count=32)
    assert named(LLAMA_8B, "down", 4) == Matrix(name="down", inputs=3584, outputs=4096, count=32)
    assert named(LLAMA_8B, "head", 4) == Matrix(name="head", inputs=4096, outputs=32_064, count=1, sampled=True)


def test_two_feed_forward_matrices_without_a_gate() -> None:
    mpt = find_model("mpt-7b")
    assert named(mpt, "up") == Matrix(name="up", inputs=4096, outputs=16_384, count=32)


def test_experts_beside_dense_layers_and_shared_ones() -> None:
    assert named(R1, "up").count == 3
    assert named(R1, "router") == Matrix(name="router", inputs=7168, outputs=256, count=58)
    assert named(R1, "expert-up", 8) == Matrix(name="expert-up", inputs=7168, outputs=512, count=58, experts=True)
    assert named(R1, "shared-down", 8) == Matrix(name="shared-down", inputs=256, outputs=7168, count=58)
    assert not [matrix for matrix in MIXTRAL.matrices(1) if matrix.name == "up"]


def test_latent_projections_are_compressed_on_every_gpu() -> None:
    assert named(R1, "down") == named(R1, "down", 8) == Matrix(name="down", inputs=7168, outputs=576 + 1536, count=61)
    assert named(R1, "q-up", 8) == Matrix(name="q-up", inputs=1536, outputs=16 * 192, count=61)
    assert named(R1, "kv-up", 8) == Matrix(name="kv-up", inputs=512, outputs=16 * 256, count=61)
    lite = find_model("deepseek-v2-lite")
    assert named(lite, "q") == Matrix(name="q", inputs=2048, outputs=16 * 192, count=27)


@pytest.mark.parametrize("model", [LLAMA_8B, LLAMA_70B, MIXTRAL])
@pytest.mark.parametrize("tp", [2, 4, 8])
def test_gpus_share_all_but_norms_and_routers(model: ModelShape, tp: int) -> None:
    alone, share = model.weight_bytes(Precision.BF16), model.weight_bytes(Precision.BF16, tp)
    assert alone == 2 * model.parameters
    assert share * tp == pytest.approx(alone, rel=0.002)
    assert share * tp > alone


def test_quantised_weights_leave_embedding_and_head_in_bf16() -> None:
    wide = 2 * (2 * 128_256 * 4096 + 65 * 4096)
    blocks = LLAMA_8B.parameters - wide / 2
    assert LLAMA_8B.weight_bytes(Precision.FP8) == blocks + wide
    assert LLAMA_8B.weight_bytes(Precision.INT4) == blocks * (0.5 + 2 / 128) + wide
    assert LLAMA_8B.weight_bytes(Precision.FP4) == blocks * (0.5 + 1 / 16) + wide
    assert LLAMA_8B.weight_bytes(Precision.FP32) == 4 * LLAMA_8B.parameters


@pytest.mark.parametrize(("name", "gib"), [("gpt-oss-120b", 60.8), ("gpt-oss-20b", 12.8)])
def test_published_checkpoint_sizes(name: str, gib: float) -> None:
    """As the gpt-oss model card states them: experts in MXFP4, whose scales are half as large, attention in bf16."""
    assert find_model(name).weight_bytes(Precision.FP4) == pytest.approx(gib * 2**30, rel=0.05)


def test_heads_that_do_not_divide_are_refused_with_sizes_that_do() -> None:
    assert not LLAMA_8B.splits_over(3)
    with pytest.raises(PlanError, match=r"32 heads can't be split over 3 GPUs \(can be: 1, 2, 4, 8, 16, 32\)"):
        LLAMA_8B.matrices(3)
    with pytest.raises(PlanError, match="can be: 1, 2, 14"):
        find_model("qwen2.5-0.5b").matrices(4)
    assert not find_model("falcon-7b").splits_over(2)
