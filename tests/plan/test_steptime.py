"""Steps against measured ones, and how they must behave whatever was measured."""

from __future__ import annotations

import pickle
from dataclasses import replace

import pytest

from headway.plan.catalogue import find_gpu, gpus
from headway.plan.engine import Calibration
from headway.plan.errors import PlanError
from headway.plan.gpu import Attention
from headway.plan.links import all_reduce
from headway.plan.precision import Precision
from headway.plan.steptime import (
    FLAT_GEMM,
    Products,
    distinct_experts,
    gemm_is_measured,
    gemm_of,
    machine,
    prefill_share,
)
from headway.policy.stepshape import StepShape
from tests.plan.setups import plain_gpu, setup


def decode(batch: int, context: int) -> StepShape:
    return StepShape(batch, batch, batch * context, 0.0)


def prefill(tokens: int, start: int = 0) -> StepShape:
    return StepShape(tokens, 1, 0, tokens * (start + tokens / 2))


@pytest.mark.parametrize(
    ("gpu", "kv", "intercept_ms", "slope_ms"),
    [
        ("h100-sxm", Precision.BF16, 6.44, 4.37e-5),
        ("h100-sxm", Precision.FP8, 6.58, 2.37e-5),
        ("b200-sxm", Precision.BF16, 3.93, 1.80e-5),
        ("b200-sxm", Precision.FP8, 3.96, 9.72e-6),
    ],
)
def test_gaps_of_vllm(gpu: str, kv: Precision, intercept_ms: float, slope_ms: float) -> None:
    """Measured by vLLM (fp8 KV cache post, 2026-04): Llama-3.1-8B, one sequence, contexts up to 125k."""
    on = machine(setup(gpu=gpu, kv_precision=kv))
    start_s, long_s = on.step_s(decode(1, 0)), on.step_s(decode(1, 100_000))
    assert start_s * 1e3 == pytest.approx(intercept_ms, rel=0.06)
    assert (long_s - start_s) / 1e5 * 1e3 == pytest.approx(slope_ms, rel=0.12)


@pytest.mark.parametrize(
    ("gpu", "precision", "best"),
    [
        ("a100-80-sxm", Precision.BF16, 271e12),
        ("h100-sxm", Precision.BF16, 794e12),
        ("b200-sxm", Precision.BF16, 1745e12),
        ("h100-sxm", Precision.FP8, 1403e12),
        ("b200-sxm", Precision.FP8, 3432e12),
    ],
)
def test_large_products_stay_within_the_best_rate_anyone_reached(gpu: str, precision: Precision, best: float) -> None:
    seconds = Products.on(find_gpu(gpu, gpus()), precision).seconds(16384, 8192, 8192)
    assert 0.6 * best < 2 * 16384 * 8192 * 8192 / seconds < 1.02 * best


@pytest.mark.parametrize(("megabytes", "share"), [(12, 0.46), (24, 0.61), (48, 0.72), (96, 0.80), (512, 0.88)])
def test_small_weights_are_read_slowly(megabytes: int, share: float) -> None:
    """Measured on the H100: shares of the bandwidth by the size of a bf16 matrix, few rows."""
    seconds = Products.on(find_gpu("h100-sxm", gpus()), Precision.BF16).seconds(1, 4096, megabytes * 1_000_000 // 8192)
    assert megabytes * 1e6 / seconds / 3.35e12 == pytest.approx(share, abs=0.05)


def test_weights_of_a_token_are_read_and_those_of_many_computed() -> None:
    on = machine(setup(engine="trtllm"))
    weights_s = 15e9 / 3.35e12
    assert weights_s < on.step_s(decode(1, 1)) < 1.6 * weights_s
    compute_s = 2 * 7e9 * 8192 / 989e12
    assert compute_s < on.step_s(prefill(8192)) < 2.2 * compute_s


def test_a_step_takes_longer_with_more_of_anything() -> None:
    on = machine(setup())
    base = StepShape(65, 33, 32_000, 33 * 40.0)
    for more in (
        base._replace(tokens=97),
        base._replace(sequences=40),
        base._replace(decode_context=64_000),
        base._replace(prefill_reads=33 * 4000.0),
    ):
        assert on.step_s(more) > on.step_s(base)


def test_chunks_cost_what_their_prompt_costs_and_the_weights_once_more() -> None:
    on = machine(setup())
    whole = on.step_s(prefill(8192))
    chunks = sum(on.step_s(prefill(2048, start)) for start in range(0, 8192, 2048))
    assert whole < chunks < 1.3 * whole


def test_more_gpus_shorten_a_step_but_less_than_in_proportion() -> None:
    one, two, four = (machine(setup(tp=tp)).step_s(decode(16, 1000)) for tp in (1, 2, 4))
    assert one > two > four > one / 4


def test_the_engine_of_2024_is_slower() -> None:
    for name in ("vllm", "trtllm"):
        now, then = (machine(setup(engine=each, tp=4)) for each in (name, f"{name}-2024"))
        assert then.step_s(decode(64, 1000)) > 1.1 * now.step_s(decode(64, 1000))


def test_calibration_scales_and_adds() -> None:
    plain = setup()
    calibrated = replace(plain, calibration=Calibration(step_s=0.002, factor=1.5))
    shape = decode(8, 500)
    assert machine(calibrated).step_s(shape) == pytest.approx(0.002 + 1.5 * machine(plain).step_s(shape))


def test_falcon_adds_up_once_a_layer() -> None:
    """Its attention and feed-forward run side by side, and vLLM and TensorRT-LLM reduce their sum. With two all-reduces
    a layer its prompts took 28 to 112 % longer than published, the more the slower the link."""
    falcon, llama = machine(setup("falcon-180b", tp=8)), machine(setup("llama-3.1-405b", tp=8, precision=Precision.FP8))
    each_s = all_reduce(falcon.setup.gpu, 8).seconds(2048 * 14848 * 2)
    assert falcon.all_reduces_s(2048) == pytest.approx(80 * each_s)
    assert llama.all_reduces_s(2048) == pytest.approx(
        2 * 126 * all_reduce(llama.setup.gpu, 8).seconds(2048 * 16384 * 2)
    )


@pytest.mark.parametrize(
    ("model", "gpu", "tp", "precision", "tokens", "measured_ms"),
    [
        ("falcon-180b", "h200-sxm", 4, Precision.FP8, 2048, 194.4),
        ("falcon-180b", "a100-80-sxm", 8, Precision.BF16, 2048, 456.0),
        ("llama-7b", "h100-sxm", 1, Precision.FP8, 2048, 30.8),
        ("llama-7b", "l40s", 1, Precision.FP8, 2048, 80.1),
        ("mistral-7b", "l40s", 1, Precision.FP8, 2048, 87.3),
    ],
)
def test_prompts_of_tensorrt_llm(
    model: str, gpu: str, tp: int, precision: Precision, tokens: int, measured_ms: float
) -> None:
    """TensorRT-LLM 0.9's own table of times to the first token at batch 1; its KV cache is in fp8 with fp8 weights."""
    kv = Precision.FP8 if precision is Precision.FP8 else Precision.BF16
    on = machine(setup(model, gpu=gpu, engine="trtllm-2024", tp=tp, precision=precision, kv_precision=kv))
    assert 1e3 * on.step_s(prefill(tokens)) == pytest.approx(measured_ms, rel=0.15)


def test_experts() -> None:
    assert distinct_experts(8, 2, 1) == pytest.approx(2)
    assert distinct_experts(8, 2, 1000) == pytest.approx(8)
    sparse = machine(setup("mixtral-8x7b", tp=2))
    few, many = sparse.step_s(decode(1, 100)), sparse.step_s(decode(64, 100))
    assert many > 2.5 * few  # two of eight experts are read, then all


def test_windows_bound_what_a_decode_reads() -> None:
    model = setup().model
    windowed = replace(setup(), model=replace(model, windows=((model.layers, 1000),)))
    on, full = machine(windowed), machine(setup())
    assert on.step_s(decode(4, 800)) == pytest.approx(full.step_s(decode(4, 800)))
    assert on.step_s(decode(4, 9000)) == pytest.approx(full.step_s(decode(4, 1000)))
    assert on.step_s(prefill(8192)) < full.step_s(prefill(8192))


def test_rates_that_nobody_measured_are_flat() -> None:
    gpu = plain_gpu()
    assert gemm_of(gpu, Precision.BF16) is FLAT_GEMM
    assert not gemm_is_measured(gpu, Precision.BF16)
    h100 = find_gpu("h100-sxm", gpus())
    assert gemm_of(h100, Precision.INT4) is h100.gemm[Precision.BF16]
    assert gemm_of(h100, Precision.INT8) is h100.gemm[Precision.FP8]


def test_prefill_shares_lie_on_a_line_over_log_length() -> None:
    attention = Attention(start_s=0.0, decode_memory=0.9, prefill=((512, 0.2), (2048, 0.4)))
    shares = [prefill_share(attention, length) for length in (1, 256, 512, 1024, 2048, 99999)]
    assert shares == pytest.approx([0.05, 0.1, 0.2, 0.3, 0.4, 0.4])


def test_no_units_for_the_format() -> None:
    with pytest.raises(PlanError, match="NVIDIA A100 SXM 80 GB doesn't compute in fp8; it does in bf16"):
        machine(setup(gpu="a100-80-sxm", precision=Precision.FP8))


def test_heads_that_do_not_divide() -> None:
    with pytest.raises(PlanError, match="32 heads can't be split over 3 GPUs"):
        machine(setup(tp=3))


def test_it_is_hardware_for_the_simulator() -> None:
    on = machine(setup())
    assert on.noise == 0.0
    assert on.info.block_size == 16
    assert on.info.kv_blocks == on.memory.kv_tokens // 16
    assert on.info.context_tokens == setup().model.context_tokens
    assert on.name == "h100-sxm x1 llama-3.1-8b bf16"
    assert "H100" in on.description
    assert on.source


def test_it_travels_to_worker_processes() -> None:
    on = machine(setup())
    shape = StepShape(300, 40, 39_000, 261 * 130.5)
    assert pickle.loads(pickle.dumps(on)).step_s(shape) == on.step_s(shape)  # noqa: S301


@pytest.mark.parametrize("windows", [(), ((16, 1000),)])
def test_stretches_of_decodes_are_the_same_steps(windows: tuple[tuple[int, int], ...]) -> None:
    one = replace(setup(), calibration=Calibration(step_s=1e-4, factor=0.97))
    on = machine(replace(one, model=replace(one.model, windows=windows)))
    each = [on.step_s(StepShape(7, 7, 6000 + 7 * step, 0.0)) for step in range(50)]
    assert on.decode_steps_s(7, 6000, 50) == each
    assert machine(on.setup).decode_steps_s(7, 6000, 0) == []


def test_what_depends_on_tokens_and_sequences_alone_is_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A simulation asks for millions of steps, few of which differ in more than their context."""
    on, plain, asked = machine(setup("llama-3.1-70b", tp=4)), Products.seconds, 0

    def counted(self: Products, rows: float, inputs: int, outputs: int, copies: float = 1.0) -> float:
        nonlocal asked
        asked += 1
        return plain(self, rows, inputs, outputs, copies)

    monkeypatch.setattr(Products, "seconds", counted)
    for each in range(100):
        on.step_s(StepShape(32 + each % 3 * 500, 33, 32_000 + each, 500.0 * 250))
    assert asked == 3 * 4 + 1  # four products of a layer for each number of tokens, and the head
