"""Engines that are known: what they add to a step on the host, and how they share out a GPU's memory."""

from __future__ import annotations

from dataclasses import replace

from headway.plan.engine import Engine
from headway.plan.errors import PlanError

VLLM = Engine(
    name="vllm",
    title="vLLM (V1: CUDA graphs, scheduler beside the GPU)",
    since="2025",
    layer_s=12e-6,
    step_s=0.4e-3,
    sequence_s=7e-6,
    request_s=20e-3,
    utilisation=0.9,
    other_bytes=1.3e9,
    block_tokens=16,
    max_step_tokens=8192,
    source="times: 57 published points of dense models (InferenceX, NVIDIA, vLLM blog; 0.12 and later); memory: KV "
    "blocks that five runs of vLLM 0.15 and 0.19 on H100 and RTX 4090 reported",
)

VLLM_2024 = replace(
    VLLM,
    name="vllm-2024",
    title="vLLM (V0: CUDA graphs, scheduler between steps)",
    since="2024",
    layer_s=26e-6,
    step_s=1.5e-3,
    sequence_s=50e-6,
    max_sequences=256,
    all_reduce=2.0,
    source="times: 70 published points of dense models on NVIDIA GPUs (Argonne, dstack; 2024)",
)

SGLANG = replace(
    VLLM,
    name="sglang",
    title="SGLang (CUDA graphs, overlap scheduler)",
    step_s=1.0e-3,
    block_tokens=1,
    source="as vllm; time of a step: 20 published points of one publisher (NVIDIA), which spread widely",
)

TRTLLM = Engine(
    name="trtllm",
    title="TensorRT-LLM (in-flight batching, overlap scheduler)",
    since="2025",
    layer_s=4e-6,
    step_s=0.4e-3,
    sequence_s=2e-6,
    request_s=20e-3,
    utilisation=1.0,
    other_bytes=3.5e9,
    block_tokens=64,
    max_step_tokens=8192,
    source="times: 123 published points of dense models (TensorRT-LLM docs 1.0, InferenceX, NVIDIA, NIM); memory: its "
    "defaults, 90 % of what is left free, reserved for whole outputs; 3.5 GB besides, by 107 throughputs of its 0.14",
    kv_share=0.9,
    max_sequences=2048,
    held_output=1.0,
)

TRTLLM_2024 = replace(
    TRTLLM,
    name="trtllm-2024",
    title="TensorRT-LLM of 2024 (C++ runtime, in-flight or static batches)",
    since="2024",
    layer_s=30e-6,
    sequence_s=6e-6,
    all_reduce=1.5,
    source="times: 228 published points of dense models (TensorRT-LLM docs 0.9 and 0.14, Argonne); memory as trtllm",
)

FASTERTRANSFORMER = Engine(
    name="fastertransformer",
    title="FasterTransformer (static batches, 2021 to 2023)",
    since="2021",
    layer_s=60e-6,
    step_s=1e-3,
    sequence_s=40e-6,
    request_s=0.0,
    utilisation=0.95,
    other_bytes=1.0e9,
    block_tokens=1,
    max_step_tokens=1 << 20,
    source="times: 81 published points of dense models on A100 and A10 (NVIDIA's guide, Databricks); memory: by hand",
    held_output=1.0,
    all_reduce=3.0,
)

EAGER_2023 = Engine(
    name="eager-2023",
    title="Engines of 2023 that launch each kernel from Python",
    since="2023",
    layer_s=160e-6,
    step_s=2e-3,
    sequence_s=300e-6,
    request_s=10e-3,
    utilisation=0.9,
    other_bytes=2.0e9,
    block_tokens=16,
    max_step_tokens=1 << 20,
    source="times: 193 published points of dense models (Splitwise, IBM LLM-Pilot, llm-perf-bench); memory: by hand",
    all_reduce=2.5,
    eager=True,
)

HEADWAY = replace(
    VLLM,
    name="headway",
    title="Headway's scheduler over kernels as vLLM's",
    since="2026",
    block_tokens=64,
    max_step_tokens=2048,
    source="as vllm, whose kernels it would run on; what its own host code takes comes from a calibration",
)

ENGINES: dict[str, Engine] = {
    each.name: each for each in (HEADWAY, VLLM, VLLM_2024, SGLANG, TRTLLM, TRTLLM_2024, FASTERTRANSFORMER, EAGER_2023)
}
"""By name."""


def find_engine(name: str) -> Engine:
    """Raises ``PlanError`` that names those there are."""
    found = ENGINES.get(name.strip().lower())
    if found is None:
        raise PlanError(f"{name!r} is no known engine; known: {', '.join(ENGINES)}")
    return found
