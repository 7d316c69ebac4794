"""Engines that are known: what they add to a step on the host, and how they share out a GPU's memory."""

from __future__ import annotations

from headway.plan.engine import Engine
from headway.plan.errors import PlanError

HEADWAY = Engine(
    name="headway",
    title="Headway's scheduler over kernels as vLLM's",
    since="2026",
    layer_s=12e-6,
    step_s=0.4e-3,
    sequence_s=2e-6,
    request_s=5e-3,
    utilisation=0.9,
    other_bytes=1.3e9,
    block_tokens=64,
    max_step_tokens=2048,
    source="as vllm, whose kernels it would run on; its own server's host costs come from a calibration",
)

VLLM = Engine(
    name="vllm",
    title="vLLM (V1, CUDA graphs)",
    since="2024",
    layer_s=12e-6,
    step_s=0.4e-3,
    sequence_s=2e-6,
    request_s=10e-3,
    utilisation=0.9,
    other_bytes=1.3e9,
    block_tokens=16,
    max_step_tokens=8192,
    source="memory: KV blocks reported by five runs of vLLM 0.15 and 0.19 on H100 and RTX 4090",
)

SGLANG = Engine(
    name="sglang",
    title="SGLang (CUDA graphs, overlap scheduler)",
    since="2024",
    layer_s=12e-6,
    step_s=0.4e-3,
    sequence_s=2e-6,
    request_s=10e-3,
    utilisation=0.9,
    other_bytes=1.3e9,
    block_tokens=1,
    max_step_tokens=8192,
    source="as vllm; memory: its default mem_fraction_static",
)

TRTLLM = Engine(
    name="trtllm",
    title="TensorRT-LLM (in-flight batching)",
    since="2024",
    layer_s=12e-6,
    step_s=0.3e-3,
    sequence_s=2e-6,
    request_s=5e-3,
    utilisation=1.0,
    other_bytes=1.5e9,
    block_tokens=64,
    max_step_tokens=8192,
    source="memory: 90 % of what weights and activations leave free, reserved for whole outputs (its defaults)",
    kv_share=0.9,
    max_sequences=2048,
    held_output=1.0,
)

FASTERTRANSFORMER = Engine(
    name="fastertransformer",
    title="FasterTransformer (static batches, 2021 to 2023)",
    since="2021",
    layer_s=40e-6,
    step_s=1e-3,
    sequence_s=20e-6,
    request_s=0.0,
    utilisation=0.95,
    other_bytes=1.0e9,
    block_tokens=1,
    max_step_tokens=1 << 20,
    source="set by hand",
    held_output=1.0,
)

EAGER_2023 = Engine(
    name="eager-2023",
    title="Engines of 2023 that launch each kernel from Python",
    since="2023",
    layer_s=60e-6,
    step_s=3e-3,
    sequence_s=20e-6,
    request_s=10e-3,
    utilisation=0.9,
    other_bytes=2.0e9,
    block_tokens=16,
    max_step_tokens=1 << 20,
    source="set by hand",
    eager=True,
)

ENGINES: dict[str, Engine] = {
    each.name: each for each in (HEADWAY, VLLM, SGLANG, TRTLLM, FASTERTRANSFORMER, EAGER_2023)
}
"""By name."""


def find_engine(name: str) -> Engine:
    """Raises ``PlanError`` that names those there are."""
    found = ENGINES.get(name.strip().lower())
    if found is None:
        raise PlanError(f"{name!r} is no known engine; known: {', '.join(ENGINES)}")
    return found
