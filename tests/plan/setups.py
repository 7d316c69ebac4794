"""Set-ups that tests of the planner's physics share."""

from __future__ import annotations

from dataclasses import replace

from headway.plan.catalogue import find_gpu, gpus
from headway.plan.engines import find_engine
from headway.plan.gpu import Gpu, Link
from headway.plan.known_models import find_model
from headway.plan.precision import Precision
from headway.plan.setup import Setup


def setup(
    model: str = "llama-3.1-8b",
    gpu: str = "h100-sxm",
    engine: str = "vllm",
    tp: int = 1,
    precision: Precision = Precision.BF16,
    kv_precision: Precision = Precision.BF16,
) -> Setup:
    return Setup(
        model=find_model(model),
        gpu=find_gpu(gpu, gpus()),
        engine=find_engine(engine),
        tp=tp,
        precision=precision,
        kv_precision=kv_precision,
    )


def plain_gpu(**changed: object) -> Gpu:
    """A made-up GPU that nobody measured: 80 GB, 2 TB/s, 300 TFLOP/s."""
    made = Gpu(
        name="plain",
        title="Plain",
        vendor="NVIDIA",
        memory_bytes=80e9,
        bandwidth=2e12,
        peaks={Precision.BF16: 300e12},
        link=Link(kind="nvswitch", bandwidth=300e9, most=8),
    )
    return replace(made, **changed)  # type: ignore[arg-type]
